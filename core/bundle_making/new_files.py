"""The files of a bundle that is made here: they appear atomically, and a failure leaves nothing behind."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from torch import Tensor

from minigpt4.core.bundles.bundle import Bundle, LanguageGeometry, load_bundle, own_manifest, write_manifest
from minigpt4.core.bundles.source import File
from minigpt4.core.download.fetch import FetchProgress, Progress, bundles_folder
from minigpt4.core.download.sources import space_problem
from minigpt4.core.errors import BackendError, UsageError
from minigpt4.core.weights.gguf.writer import LlamaShape
from minigpt4.core.weights.safetensors_writer import file_bytes, write_tensors

STALE_SECONDS = 3600.0
"""An unfinished folder older than this was left by a killed process; an import takes minutes."""

Publish = Callable[[Callable[[], None]], None]

Parts = dict[str, Mapping[str, Tensor]]
"""The tensors of each file that is to be written, by the file's name."""


def new_bundle(
    name: str, parts: Parts, bundle_of: Callable[[Mapping[str, File]], Bundle], progress: Progress | None
) -> Bundle:
    """Write the files and then the manifest of the user bundle `name`, which `bundle_of` makes from them.

    Raises BackendError if the disk is too small or cannot be written.
    """
    folder = bundles_folder() / name
    if problem := space_problem(folder.parent, sum(map(file_bytes, parts.values()))):
        raise BackendError(f"'{name}' cannot be made: {problem}.")
    try:
        with replaced_folder(folder) as (draft, publish):
            files = {file: written(draft / file, tensors, progress) for file, tensors in parts.items()}
            bundle = bundle_of(files)
            publish(lambda: write_manifest(bundle, own_manifest(name)))
    except OSError as error:
        raise BackendError(
            f"'{name}' cannot be written: {error.filename or folder}: {error.strerror or error}; fix that, "
            "or set MINIGPT4_HOME to a folder of your own."
        ) from error
    return load_bundle(name)


def check_apart(name: str, llm: Path) -> None:
    """Raise UsageError for a language model in the earlier bundle's folder, which --force removes."""
    if llm.resolve().is_relative_to((bundles_folder() / name).resolve()):
        raise UsageError(
            f"The language model {llm} lies in the folder of '{name}' itself, which is replaced; move it "
            "elsewhere."
        )


def language_geometry(shape: LlamaShape) -> LanguageGeometry:
    """A language model's sizes in the manifest's form."""
    return LanguageGeometry(
        layers=shape.layers,
        mlp=shape.mlp,
        heads=shape.heads,
        vocabulary=shape.vocabulary,
        key_value_heads=shape.key_heads,
        shared_embedding=shape.is_tied,
    )


@contextmanager
def replaced_folder(folder: Path) -> Iterator[tuple[Path, Publish]]:
    """A folder to write to, and a function that replaces `folder` with it.

    `publish` takes the last step (writing the manifest): if that fails, the earlier folder is restored.
    Nothing else is left behind either way. An earlier folder is replaced entirely, with the GGUF files
    converted from the earlier language model.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(folder)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".import", dir=folder.parent))
    new, earlier = work / "new", work / "earlier"
    new.mkdir()

    def publish(last_step: Callable[[], None]) -> None:
        if folder.exists():
            folder.rename(earlier)
        try:
            new.rename(folder)
            last_step()
        except BaseException:
            if folder.exists():
                folder.rename(new)
            if earlier.exists():
                earlier.rename(folder)
            raise

    try:
        yield new, publish
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _remove_stale(folder: Path) -> None:
    for path in folder.parent.glob(f".{folder.name}.*.import"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def written(path: Path, tensors: Mapping[str, Tensor], progress: Progress | None) -> File:
    """Write a file of the new bundle; raises OSError."""
    total = file_bytes(tensors)

    def report(done: int) -> None:
        if progress is not None:
            progress(FetchProgress(path.name, done, total))

    report(0)
    checksum = write_tensors(path, tensors, report)
    return File(path.name, checksum.bytes, checksum.sha256)
