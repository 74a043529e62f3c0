"""Start-up time: `minigpt4 --help`, and `ask` from process start to the first token.

    python benchmarks/startup.py [--runs 7] [--photo examples/chelsea.png]

Every run is a new process of the installed program; times are medians, from process start to the
first byte on its stdout. The bundle is downloaded and its files are in the page cache (a warm-up run
is not counted). A "new" image must be encoded by the vision tower; a "seen" one comes from the
embedding cache on disk. Memory is the maximum resident set size.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

PROGRAM = Path(sysconfig.get_path("scripts")) / "minigpt4"
QUESTION = "What is in this picture?"
PEAK_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in one unit of ru_maxrss: getrusage(2) counts bytes on macOS, kilobytes on Linux."""


@dataclass(frozen=True)
class Measurement:
    """One process: seconds to its first byte and to its end, and its peak memory in bytes."""

    first_byte_s: float
    end_s: float
    peak_bytes: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument(
        "--photo", type=Path, default=Path(__file__).parent.parent / "examples" / "chelsea.png"
    )
    options = parser.parse_args()
    backends = ["torch"] + (["llamacpp"] if importlib.util.find_spec("llama_cpp") else [])

    print(f"{machine()}; medians of {options.runs} runs.\n")
    print("| what | first token | end | peak memory |")
    print("| --- | ---: | ---: | ---: |")
    print(row("`minigpt4 --help`", repeated(lambda run: ["--help"], options.runs)))
    with tempfile.TemporaryDirectory() as folder:
        for backend in backends:
            for kind in ("new", "seen"):

                def ask(run: int, backend: str = backend, kind: str = kind) -> list[str]:
                    photo = options.photo
                    if kind == "new":
                        photo = uncached_copy(options.photo, Path(folder) / f"{backend}-{run}.png")
                    return ["ask", "-i", str(photo), "--backend", backend, QUESTION]

                print(row(f"`ask`, {backend}, {kind} picture", repeated(ask, options.runs)), flush=True)


def repeated(arguments: Callable[[int], Sequence[str]], runs: int) -> list[Measurement]:
    """Measure `runs` processes after a warm-up; `arguments` takes the run's number."""
    return [measured(arguments(run)) for run in range(-1, runs)][1:]


def measured(arguments: Sequence[str]) -> Measurement:
    """Run the program once; raises SystemExit with its stderr if it fails."""
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            [PROGRAM, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, bufsize=0
        )
        assert process.stdout is not None
        first = process.stdout.read(1)
        first_byte_s = time.perf_counter() - start
        while process.stdout.read(65536):
            pass
        _, status, usage = os.wait4(process.pid, 0)
        end_s = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0 or not first:
            errors.seek(0)
            sys.exit(f"{PROGRAM} {' '.join(arguments)} failed:\n{errors.read().decode()}")
    return Measurement(first_byte_s, end_s, usage.ru_maxrss * PEAK_UNIT)


def uncached_copy(photo: Path, path: Path) -> Path:
    """Save the same image with new bytes, so that it is in no cache."""
    note = PngInfo()
    note.add_text("Comment", f"{time.time_ns()}")
    with Image.open(photo) as image:
        image.save(path, pnginfo=note)
    return path


def row(name: str, measurements: Sequence[Measurement]) -> str:
    first = statistics.median(one.first_byte_s for one in measurements)
    end = statistics.median(one.end_s for one in measurements)
    peak = max(one.peak_bytes for one in measurements)
    return f"| {name} | {first:.2f} s | {end:.2f} s | {peak / 1e6:.0f} MB |"


def machine() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{platform.system()} {platform.machine()}, {cores} cores, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
