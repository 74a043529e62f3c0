"""The files of a bundle that is made here: they appear together, and nothing is left of a failure."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from torch import Tensor

from minigpt4.core.bundles.source import File
from minigpt4.core.download.fetch import FetchProgress, Progress
from minigpt4.core.weights.safetensors_writer import file_bytes, write_tensors

STALE_SECONDS = 3600.0
"""An unfinished folder older than this belongs to a process that was killed; an import takes minutes."""

Publish = Callable[[Callable[[], None]], None]


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
