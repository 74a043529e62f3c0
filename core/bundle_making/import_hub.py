"""A user bundle from a language GGUF and its mmproj in a repository of the Hugging Face hub."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from minigpt4.core.bundle_making.import_pair import bundle_of_pair, facts_of_pair, write_own_manifest
from minigpt4.core.bundle_making.new_name import check_name
from minigpt4.core.bundles.bundle import Bundle, LanguageSpec, MmprojSpec
from minigpt4.core.bundles.source import File, Source
from minigpt4.core.download.fetch import FetchPlan, Progress, bundles_folder, ensure, path_of
from minigpt4.core.download.sources import SourceError, hub_client, size_text
from minigpt4.core.errors import BackendError, BundleError, FetchError, UsageError
from minigpt4.core.weights.gguf.facts import checked_header
from minigpt4.core.weights.gguf.pair import WHERE, find_pair
from minigpt4.core.weights.locate import GGUF_PREFERRED, gguf_quant

HEADER_BYTES = (1 << 20, 1 << 23, 1 << 25)
"""Bytes read for a file's header at the first and later attempts; the texts of 262,144 tokens take 7 MB."""

_ADDRESS = re.compile(r"(?:https://huggingface\.co/)?([\w.-]+/[\w.-]+?)/?(?::([\w.-]+))?")
_PART = re.compile(r"-\d{5}-of-\d{5}\.gguf$")


@dataclass(frozen=True)
class Repository:
    """The GGUF files of a repository at one of its commits."""

    name: str
    revision: str
    files: tuple[File, ...]

    @property
    def mmprojs(self) -> list[File]:
        """The mmprojs, recognised by their names."""
        return [file for file in self.files if "mmproj" in file.name.lower()]

    def languages(self, quant: str | None) -> list[File]:
        """The language models of one quantisation (None: the preferred one of the available ones).

        Raises UsageError, with a list of the files, if there is none.
        """
        every = [file for file in self.files if file not in self.mmprojs]
        whole = [file for file in every if not _PART.search(file.name)]
        quants = sorted({gguf_quant(file.name) for file in whole}, key=_preference)
        wanted = quant.upper() if quant is not None else next(iter(quants), None)
        if wanted not in quants:
            fault = f"no language model of the quantisation {quant}" if whole else "no language model"
            split = " Split ones can be used once you have fetched them: --gguf FILE." if every else ""
            raise UsageError(f"{self.address} holds {fault} as one GGUF.{split}{self.listing()}")
        return [file for file in whole if gguf_quant(file.name) == wanted]

    @property
    def address(self) -> str:
        """The URL of its page."""
        return f"https://huggingface.co/{self.name}"

    def listing(self) -> str:
        """All GGUF files with their sizes, as a sentence with a space before it; empty if there is none."""
        files = [f"{file.name} ({size_text(file.bytes or 0)})" for file in self.files]
        return f" It holds: {', '.join(files)}." if files else ""


def import_hub(
    name: str,
    address: str,
    *,
    template: str | None = None,
    force: bool = False,
    notice: Callable[[str], None] = lambda _: None,
    progress: Progress | None = None,
    begin: Callable[[FetchPlan], None] | None = None,
) -> Bundle:
    """Make the user bundle `name` from the repository at `address`: OWNER/REPO, or OWNER/REPO:QUANT.

    The pair is chosen by the headers of the files, the only part that is read at first, and then fetched;
    `begin` is called before that, and may refuse it. `template`, `force` and `notice` are those of
    `import_pair`. Raises UsageError for an invalid address or a missing quantisation, FetchError if the
    download fails, BundleError for files that cannot be used.
    """
    check_name(name, force=force)
    repository, quant = _repository(address)
    language, mmproj = _pair(repository, quant)
    if len(repository.files) > 2:
        notice(f"Taken: {language.name} with {mmproj.name}.{repository.listing()}")
    wanted = Bundle(
        name=name,
        summary=repository.address,
        license=repository.address,
        mmproj=MmprojSpec(None, mmproj),
        language=LanguageSpec(architecture="gguf", context=1, width=1, files=(language,)),
        template="gguf",
    )
    with _nothing_left_of_a_failure(wanted):
        ensure(wanted, notice=notice, progress=progress, begin=begin)
        paths = path_of(language, wanted), path_of(mmproj, wanted)
        found = bundle_of_pair(name, *paths, template, notice)
        assert found.mmproj is not None
        bundle = replace(
            found,
            mmproj=replace(found.mmproj, path=None, file=mmproj),
            language=replace(found.language, path=None, files=(language,)),
        )
        write_own_manifest(bundle)
    return bundle


def _repository(address: str) -> tuple[Repository, str | None]:
    """The repository as the hub describes it, and the quantisation that the address names."""
    match = _ADDRESS.fullmatch(address.strip())
    if match is None:
        raise UsageError(
            f"'{address}' is not a repository on the hub; give OWNER/REPO, or OWNER/REPO:QUANT, as in "
            "ggml-org/SmolVLM-500M-Instruct-GGUF:Q8_0."
        )
    name, quant = match[1], match[2]
    try:
        with hub_client(Source(kind="hub", repo=name)) as huggingface_hub:
            found = huggingface_hub.HfApi().model_info(name, files_metadata=True)
    except SourceError as problem:
        raise FetchError(f"{name} on the hub: {problem}.") from problem
    revision = found.sha or "main"
    files = [
        File(
            name=_local_name(one.rfilename),
            bytes=one.size or None,
            sha256=one.lfs.sha256 if one.lfs is not None else None,
            sources=(Source(kind="hub", repo=name, revision=revision, filename=one.rfilename),),
        )
        for one in found.siblings or ()
        if one.rfilename.lower().endswith(".gguf")
    ]
    return Repository(name, revision, tuple(files)), quant


def _local_name(path: str) -> str:
    """A plain file name that includes the path's folders, as several may hold files of one name."""
    return re.sub(r"[^A-Za-z0-9._+-]", "_", path).lstrip("._+-")


def _pair(repository: Repository, quant: str | None) -> tuple[File, File]:
    """The language model and the mmproj that belong together, by their headers."""
    languages = repository.languages(quant)
    if not repository.mmprojs:
        raise BundleError(
            f"{repository.address} holds no mmproj, the vision side of the model: {WHERE}."
            f"{repository.listing()}"
        )
    with tempfile.TemporaryDirectory(prefix="minigpt4-headers-") as place:
        folder = Path(place)
        candidates = {file.name: file for file in (*languages, *repository.mmprojs)}
        for file in candidates.values():
            _read_header(repository, file, folder / file.name)
        try:
            found = find_pair(folder)
            facts_of_pair(*found)
        except BundleError as error:
            raise BundleError(str(error).replace(str(folder), repository.address)) from error
    language, mmproj = (candidates[path.name] for path in found)
    return language, mmproj


def _read_header(repository: Repository, file: File, path: Path) -> None:
    """Write the beginning of a file, with its header, to an otherwise empty file of the same size.

    Raises FetchError if the download fails, BundleError for a file that has no header.
    """
    source = file.sources[0]
    for count in HEADER_BYTES:
        try:
            with hub_client(source) as huggingface_hub:
                start = _beginning(huggingface_hub, source, count)
        except SourceError as problem:
            raise FetchError(f"{source.label}: {problem}.") from problem
        try:
            path.write_bytes(start)
            # A hole takes no disk space, and the header's checks need the file's true size.
            os.truncate(path, max(file.bytes or 0, len(start)))
        except OSError as error:
            raise BackendError(
                f"The header of {file.name} cannot be kept in {path.parent}: {error.strerror or error}; make "
                "room there, or set TMPDIR to another folder."
            ) from error
        try:
            checked_header(path)
        except BundleError as error:
            if len(start) < count or count == HEADER_BYTES[-1]:
                raise BundleError(
                    str(error).replace(str(path), f"{repository.address}/{file.name}")
                ) from error
        else:
            return


def _beginning(huggingface_hub: ModuleType, source: Source, count: int) -> bytes:
    """The first bytes of a file."""
    tools = huggingface_hub.utils
    url = huggingface_hub.hf_hub_url(source.repo, source.filename, revision=source.revision)
    headers = {**tools.build_hf_headers(), "Range": f"bytes=0-{count - 1}"}
    start = bytearray()
    with tools.get_session().stream("GET", url, headers=headers, follow_redirects=True) as answer:
        tools.hf_raise_for_status(answer)
        for chunk in answer.iter_bytes():
            start += chunk
            if len(start) >= count:  # a server without support for Range sends everything
                break
    return bytes(start[:count])


@contextmanager
def _nothing_left_of_a_failure(bundle: Bundle) -> Iterator[None]:
    """Remove the files that the block fetched if it fails; the hub's own cache keeps them.

    If it succeeds, everything else in the folder is removed: an earlier bundle's files and their conversions.
    """
    folder = bundles_folder() / bundle.name
    before = set(folder.iterdir()) if folder.is_dir() else set()
    try:
        yield
    except BaseException:
        for path in [path_of(file, bundle) for file in bundle.files]:
            if path not in before:
                path.unlink(missing_ok=True)
        if not before:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    names = {file.name for file in bundle.files}
    for path in before:
        if path.name not in names and path.is_file() and not path.name.startswith("."):
            path.unlink()


def _preference(quant: str) -> tuple[int, str]:
    order = GGUF_PREFERRED.index(quant) if quant in GGUF_PREFERRED else len(GGUF_PREFERRED)
    return order, quant
