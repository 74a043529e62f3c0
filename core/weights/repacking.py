"""Whether llama.cpp may repack a GGUF's weights on this machine, determined by a probe and cached.

Repacked weights are a copy in the order in which the processor's widest kernels read them: a 7B in
Q4_0 decodes a third faster with them and reads a prompt twice as fast. Some builds crash on some
processors (docs/models.md), so a trial decides rather than a list: a child process that loads, prefills
and decodes (`repack_probe`). Its verdict is kept for the library's build, the processor and the file's
type:

    cache_home()/repacking/<key>.json

A folder that cannot be written means no trial and no repacking: every start would pay for it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from minigpt4.core.storage.atomic import replacing
from minigpt4.core.storage.paths import cache_home
from minigpt4.core.weights.locate import gguf_quant

COMMAND = (sys.executable, "-P", "-m", "minigpt4.core.weights.repack_probe")

TRIAL_VERSION = 2
"""Raise it when repack_probe.py tests more; earlier verdicts are then ignored."""

LIMIT_S = 20
"""Longest time for a probe, which takes 0.4 s of processor time."""

RETRY_S = 24 * 3600
"""Seconds after which a trial that was killed or hung is repeated; a busy machine may be the cause."""

CRASHES = ("SIGSEGV", "SIGILL", "SIGBUS", "SIGFPE", "SIGABRT")
"""Signals that a crashing kernel causes itself; any other came from outside."""

CPUINFO = Path("/proc/cpuinfo")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Repacking:
    """The verdict about one kind of file."""

    problem: str = ""
    """Why its weights must not be repacked, as the end of a sentence about the trial; empty if they may."""

    types: tuple[str, ...] = ()
    """ggml's types of the weights that are copied; empty: the processor has no such kernels."""

    copied: int = 0
    """Bytes of those weights in the file, about the size of the copy."""

    keeps_bits: bool = False
    """Whether logits are the same bit for bit however a prompt is split, as guaranteed for small models."""

    lone_keeps_bits: bool = False
    """The same without copies of lone positions (LEAST_BATCH in llamacpp.py), repacked or not."""

    is_settled: bool = True
    """False for a trial without a result, which is repeated after RETRY_S."""


def repacking(gguf: Path) -> Repacking:
    """The verdict about a file: cached, or that of a probe, which this waits for."""
    record = _record(gguf)
    known = _read(record)
    if known is not None:
        return known
    begun = Repacking("has not ended", is_settled=False)
    try:
        _write(record, begun)  # first: a machine that the trial brings down must not try again at once
    except OSError as error:
        problem = f"was not made, as {record.parent} cannot be written ({error.strerror or error})"
        return replace(begun, problem=problem)
    try:
        verdict = probe(gguf)
        with suppress(OSError):
            _write(record, verdict)
    except BaseException:  # Ctrl+C is no verdict about the kernels
        with suppress(OSError):
            record.unlink()
        raise
    return verdict


def known_repacking(gguf: Path) -> Repacking | None:
    """The cached verdict about a file, if there is one; nothing is tried."""
    return _read(_record(gguf))


def _record(gguf: Path) -> Path:
    """The verdict's file; quantisation and size stand for the types: reading the header takes 0.2 s."""
    made_for = (TRIAL_VERSION, _library(), _processor(), gguf_quant(gguf.name), gguf.stat().st_size)
    return cache_home() / "repacking" / f"{hashlib.sha256(repr(made_for).encode()).hexdigest()[:16]}.json"


def _library() -> list[tuple[str, int, int]]:
    """Names, sizes and times of llama.cpp's libraries; importing them could end this process."""
    own = importlib.util.find_spec("llama_cpp")
    folder = os.environ.get("LLAMA_CPP_LIB_PATH") or (own and own.origin and Path(own.origin).parent / "lib")
    paths = sorted(Path(folder).iterdir()) if folder and Path(folder).is_dir() else []
    return [(path.name, (status := path.stat()).st_size, status.st_mtime_ns) for path in paths]


def _processor() -> str:
    """Model and features of the first processor; where Linux does not list them, what Python reports."""
    try:
        first, _, _ = CPUINFO.read_text(encoding="utf-8", errors="replace").partition("\n\n")
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    named = ("model name", "flags", "Features", "CPU part", "isa", "uarch")
    return "\n".join(line for line in first.splitlines() if line.startswith(named))


def _read(record: Path) -> Repacking | None:
    try:
        age_s = time.time() - record.stat().st_mtime
        verdict = _parsed(record.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, LookupError) as error:
        log.debug("The verdict %s is unusable (%s); it is found out again.", record, error)
        return None
    return verdict if verdict.is_settled or age_s < RETRY_S else None


def _parsed(text: str) -> Repacking:
    """Parse a verdict; raises ValueError, TypeError or LookupError for anything else."""
    found = json.loads(text)
    return Repacking(**{**found, "types": tuple(found["types"])})


def _write(record: Path, verdict: Repacking) -> None:
    with replacing(record) as draft:
        draft.write_text(json.dumps(asdict(verdict), indent=2), encoding="utf-8")


def probe(gguf: Path) -> Repacking:
    """The verdict of a trial that is run now and not cached."""
    try:
        with tempfile.TemporaryDirectory(prefix="minigpt4-repack-") as folder:
            done = subprocess.run(
                [*COMMAND, gguf.absolute(), str(LIMIT_S)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                cwd=folder,
                timeout=LIMIT_S,
                check=False,
            )
    except subprocess.TimeoutExpired:
        return Repacking(f"did not end within {LIMIT_S} s", is_settled=False)
    except OSError as error:
        return Repacking(f"could not be made ({error.strerror or error})", is_settled=False)
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        return Repacking(f"ended with {name}", is_settled=name in CRASHES)
    try:
        return _parsed(done.stdout.splitlines()[-1].decode("utf-8"))
    except (ValueError, TypeError, LookupError):
        last = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"])[-1]
        return Repacking(f"failed ({last})", is_settled=False)
