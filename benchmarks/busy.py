"""Speed while other programs use the processor: beside no, two and four busy loops.

    python benchmarks/busy.py [--rounds 3] [--threads 2] [--only ask decode train]

A loop counts without end, at the same priority. On two cores, two threads can get 0.50 of the machine
beside two loops and 0.33 beside four; one thread would get a third of it beside two (compare `--threads 1`).
Prints medians and their ratio to the quiet one of the same run; rounds alternate, so that a slowdown of the
machine affects all three. Environment settings such as OMP_WAIT_POLICY apply and can thus be compared.

- ask: whole processes, to the end of 16 tokens: a seen and a new picture with llama.cpp, a seen one with
  torch.
- decode: a token of mini with each backend, in a process that has loaded it.
- train: a step of `minigpt4 train` on 24 photos with cached features; the loops come and go while it runs.

Takes under four minutes on two quiet cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from startup import machine, uncached_copy

from minigpt4.core.engine_options import Backend

EXAMPLES = Path(__file__).parent.parent / "examples"
QUESTION = "What is in this picture?"
LOOPS = (0, 2, 4)
TARGETS = {2: 0.42, 4: 0.25}
MEASURES = ("ask", "decode", "train")

LOOP = """
import os
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(1_000_000):
        pass
"""

TOKENS = 24
PHOTOS, CROP = 24, 160
STEP_SETTINGS = {
    "precision": "fp32",  # a CPU without 16-bit instructions emulates bf16 at a tenth of the speed
    "steps": 100_000,
    "batch_size": 8,
    "captions_per_photo": 1,
    "checkpoint_every": 100_000,
    "validate_every": 100_000,
    "sample_every": 100_000,
    "validation.photos": 2,
}
LEVEL_S = 8.0
"""Seconds of training beside each number of loops; a step that began before is not counted."""

START_S = 600.0
PROGRAM = (sys.executable, "-P", "-m", "minigpt4.tui")

Measure = Callable[[], float]
"""Returns one measurement in seconds: of a process, a token or a step."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=MEASURES)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve, given.threads)
        return
    print(f"{machine()}; medians of {given.rounds} rounds.\n")
    print("| what | quiet | beside two | ratio (0.42) | beside four | ratio (0.25) |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    threads = ["--threads", str(given.threads)] if given.threads else []
    with tempfile.TemporaryDirectory() as folder:
        if "ask" in given.only:
            for name, measure, rounds in asks(Path(folder), threads, given.rounds):
                print_row(name, alternated(measure, rounds), "s")
        if "decode" in given.only:
            for backend in ("llamacpp", "torch"):
                with decoding(backend, threads) as measure:
                    print_row(f"decoding a token, {backend}", alternated(measure, given.rounds), "ms")
        if "train" in given.only:
            with training(Path(folder), threads) as measure:
                print_row("training step, features cached", alternated(measure, given.rounds), "ms")


def alternated(measure: Measure, rounds: int) -> dict[int, float]:
    """The median by number of busy loops, after one measurement that is not counted."""
    measure()
    found: dict[int, list[float]] = {loops: [] for loops in LOOPS}
    for number in range(rounds):
        for loops in LOOPS if number % 2 else reversed(LOOPS):
            with busy(loops):
                found[loops].append(measure())
    return {loops: statistics.median(values) for loops, values in found.items()}


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """Run `loops` processes that compute until the block or this process ends."""
    processes = [subprocess.Popen([sys.executable, "-S", "-c", LOOP]) for _ in range(loops)]
    time.sleep(0.2 if loops else 0)
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def asks(folder: Path, threads: list[str], rounds: int) -> Iterator[tuple[str, Measure, int]]:
    """Each kind of `ask`: its name, its measurement, and in how many rounds it is measured."""

    def ask(photo: Path, backend: str) -> float:
        command = [*PROGRAM, "ask", "-i", str(photo), "--backend", backend, *threads]
        started = time.perf_counter()
        output([*command, "--greedy", "--max-tokens", "16", QUESTION])
        return time.perf_counter() - started

    seen = EXAMPLES / "chelsea.png"
    yield "`ask`, llamacpp, seen picture", lambda: ask(seen, "llamacpp"), rounds
    yield (
        "`ask`, llamacpp, new picture",
        lambda: ask(uncached_copy(seen, folder / "new.png"), "llamacpp"),
        min(2, rounds),
    )
    yield "`ask`, torch, seen picture", lambda: ask(seen, "torch"), min(2, rounds)


@contextmanager
def decoding(backend: str, threads: list[str]) -> Iterator[Measure]:
    """Measure seconds per token, in a separate process."""
    command = [sys.executable, __file__, "--serve", backend, *threads]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def measure() -> float:
            print(flush=True, file=stdin)
            return float(stdout.readline())

        yield measure
        stdin.close()


def serve(backend: Backend, threads: int | None) -> None:
    """For each line of standard input, decode some tokens and print the mean seconds per token."""
    from minigpt4.core.engine import Engine
    from minigpt4.core.types import ResolvedSampling

    model = Engine.load("mini", backend=backend, device="cpu", threads=threads, context=256).language
    model.is_end = lambda token: False  # type: ignore[method-assign]
    prompt, sampling = list(range(300, 332)), ResolvedSampling(max_tokens=TOKENS + 1).greedy()
    for _ in sys.stdin:
        stamps = [time.perf_counter() for _ in model.generate(prompt, sampling)]
        # Not the median: beside busy programs a few tokens take long, and a user waits for each.
        print((stamps[-1] - stamps[0]) / TOKENS, flush=True)


@contextmanager
def training(folder: Path, threads: list[str]) -> Iterator[Measure]:
    """Measure seconds per step of a run that continues in the background."""
    run, log = folder / "run", folder / "run" / "log.jsonl"
    settings = [f"--set={key}={value}" for key, value in STEP_SETTINGS.items()]
    data = str(captioned(folder / "photos"))
    command = [*PROGRAM, "train", "--recipe", "mini-stage1", "--data", data, "--output", str(run)]
    with (folder / "training.txt").open("w+") as said:
        process = subprocess.Popen([*command, *settings, *threads], stdout=said, stderr=said)
        try:
            started = time.monotonic()
            while len(rates(log)) < 5:
                if process.poll() is not None or time.monotonic() - started > START_S:
                    said.seek(0)
                    raise SystemExit(f"{' '.join(command)} did not begin to train:\n{said.read()}")
                time.sleep(0.2)

            def measure() -> float:
                before = len(rates(log))
                end = time.monotonic() + LEVEL_S
                while time.monotonic() < end or len(rates(log)) < before + 3:
                    time.sleep(0.1)
                return statistics.mean(1 / rate for rate in rates(log)[before + 1 :])

            yield measure
        finally:
            process.kill()
            process.wait()


def rates(log: Path) -> list[float]:
    """Steps per second, for each step so far."""
    try:
        lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    return [row["samples_per_s"] / STEP_SETTINGS["batch_size"] for row in rows if "samples_per_s" in row]


def captioned(folder: Path) -> Path:
    """Crops of the example photos, each with a caption."""
    folder.mkdir()
    for number in range(PHOTOS):
        name = ("chelsea.png", "coffee.jpg", "rocket.jpg")[number % 3]
        with Image.open(EXAMPLES / name) as photo:
            crop = photo.convert("RGB").crop((number, number, number + CROP, number + CROP))
        crop.save(folder / f"{number}.jpg")
        (folder / f"{number}.txt").write_text(f"A part of the photo {Path(name).stem}.\n")
    return folder


def print_row(name: str, seconds: dict[int, float], unit: str) -> None:
    scale = {"s": 1.0, "ms": 1e3}[unit]
    quiet = seconds[0]
    cells = [f"{quiet * scale:.2f} {unit}"]
    for loops, target in TARGETS.items():
        ratio = quiet / seconds[loops]
        cells += [
            f"{seconds[loops] * scale:.2f} {unit}",
            f"{ratio:.2f}" + (" (missed)" if ratio < target else ""),
        ]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed with code {done.returncode}:\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
