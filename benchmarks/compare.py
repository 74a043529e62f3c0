"""Two checkouts side by side: what users wait for, measured in turns in one run.

    python benchmarks/compare.py OTHER_PYTHON [--runs 7] [--data DATA] [--only help ask look app step loading]

OTHER_PYTHON is the interpreter of a virtual environment in which the other checkout is installed, such
as `../old/.venv/bin/python`; its benchmarks are run from the same checkout. Runs alternate, so
that a slowdown of the machine affects both. Prints medians, their ratio (this checkout to the other), and
the ratio of the best runs, which a busy machine disturbs less.

- help, ask: whole processes, from start to the first byte on stdout; `ask` about a seen and a new image.
- look: `Engine.look` of a seen JPEG of 12 megapixels, in a process that has loaded its engine.
- app, loading: the benchmarks of each checkout (app.py, loading.py).
- step: `minigpt4 train` in fp32 on photos whose features are cached, the rate that it logs.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from startup import uncached_copy

QUESTION = "What is in this picture?"

STEPS, WARMUP_STEPS = 24, 4
STEP_SETTINGS = {
    "precision": "fp32",  # a CPU without 16-bit instructions emulates bf16 at a tenth of the speed
    "steps": STEPS,
    "batch_size": 8,
    "captions_per_photo": 1,
    "checkpoint_every": 1000,
    "validate_every": 1000,
    "sample_every": 1000,
    "validation.photos": 2,
}
MEASURES = ("help", "ask", "look", "app", "step", "loading")

LOOK = """
import sys, time
from minigpt4.core.engine import Engine
engine = Engine.load("mini", backend="llamacpp", device="cpu")
engine.look(sys.argv[1])
times = []
for _ in range(15):
    start = time.perf_counter()
    engine.look(sys.argv[1])
    times.append(time.perf_counter() - start)
print(sorted(times)[7])
"""

PACKAGE = "import minigpt4, pathlib; print(pathlib.Path(minigpt4.__file__).parents[2])"


@dataclass(frozen=True)
class Checkout:
    """One installed checkout: its interpreter and its root folder."""

    python: str
    root: Path

    @classmethod
    def of(cls, python: str) -> Checkout:
        """The checkout that is installed for an interpreter."""
        return cls(python, Path(_output([python, "-P", "-c", PACKAGE]).strip()))

    def first_byte_s(self, *arguments: str) -> float:
        """Seconds from the start of the program to the first byte on its stdout."""
        command = [self.python, "-P", "-m", "minigpt4.tui", *arguments]
        start = time.perf_counter()
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        ) as process:
            assert process.stdout is not None
            process.stdout.read(1)
            seconds = time.perf_counter() - start
            process.stdout.read()
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed with code {process.returncode}.")
        return seconds

    def benchmark(self, name: str, *arguments: str) -> str:
        """What one of its benchmarks prints."""
        return _output([self.python, str(self.root / "benchmarks" / name), *arguments])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("other")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--data", help="shards for the training step; without them it is not measured")
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=MEASURES)
    given = parser.parse_args()
    new, old = Checkout.of(sys.executable), Checkout.of(given.other)
    print(
        f"| what | {old.root.name} | {new.root.name} | ratio | of the best |\n"
        "| --- | ---: | ---: | ---: | ---: |"
    )
    with tempfile.TemporaryDirectory() as folder:
        large = _large_jpeg(Path(folder) / "large.jpg")
        small = str(new.root / "examples" / "chelsea.png")
        if "help" in given.only:
            _compare("`--help`", old, new, given.runs, lambda one: one.first_byte_s("--help"))
        if "ask" in given.only:
            for backend in ("torch", "llamacpp"):
                for kind in ("seen", "new"):
                    name = f"`ask`, {backend}, {kind} image, to the first token"
                    photo = partial(_photo, Path(small), Path(folder) if kind == "new" else None)
                    _compare(name, old, new, given.runs, partial(_ask_s, backend, photo))
        if "look" in given.only:
            _compare(
                "`Engine.look`, seen 12-megapixel JPEG",
                old,
                new,
                max(3, given.runs // 2),
                lambda one: float(_output([one.python, "-P", "-c", LOOK, str(large)])),
            )
        if "app" in given.only:
            _compare_app(old, new)
        if "step" in given.only and given.data:
            _compare_rate("training step, mini, features cached", old, new, partial(_step_rate, given.data))
        if "loading" in given.only:
            _compare_rate("loading with two workers", old, new, _loading_rate)


def _compare(
    name: str, old: Checkout, new: Checkout, runs: int, measure: Callable[[Checkout], float]
) -> None:
    """Measure both in turns, after one uncounted run of each, and print a row in milliseconds."""
    seconds: dict[Checkout, list[float]] = {old: [], new: []}
    for run in range(-1, runs):
        for one in (old, new) if run % 2 else (new, old):
            measured = measure(one)
            if run >= 0:
                seconds[one].append(measured)
    _print_row(name, seconds[old], seconds[new], lambda value: f"{value * 1e3:.1f} ms", min)


def _print_row(
    name: str,
    old: Sequence[float],
    new: Sequence[float],
    shown: Callable[[float], str],
    best: Callable[[Sequence[float]], float],
) -> None:
    before, after = statistics.median(old), statistics.median(new)
    ratios = f"{after / before:.2f} | {best(new) / best(old):.2f}"
    print(f"| {name} | {shown(before)} | {shown(after)} | {ratios} |", flush=True)


def _photo(seen: Path, folder: Path | None) -> Path:
    """The image, or a copy in the folder that is in no cache."""
    return seen if folder is None else uncached_copy(seen, folder / "new.png")


def _ask_s(backend: str, photo: Callable[[], Path], checkout: Checkout) -> float:
    path = str(photo())
    return checkout.first_byte_s("ask", "-i", path, "--backend", backend, QUESTION)


def _compare_app(old: Checkout, new: Checkout) -> None:
    """First paint and keys, three runs of each checkout's app.py in turns."""
    found: dict[Checkout, dict[str, list[float]]] = {old: {}, new: {}}
    for _ in range(3):
        for one in (old, new):
            printed = one.benchmark(
                "app.py", "--runs", "5", "--keys", "60", "--only", "opening", "typing", "--json"
            )
            for figure in json.loads(printed[printed.index("[") :]):
                found[one].setdefault(figure["name"], []).append(figure["median"])
    # The figures of both come in the same order, though one may have been renamed.
    for (name, after), before in zip(found[new].items(), found[old].values(), strict=True):
        _print_row(name, before, after, lambda value: f"{value * 1e3:.0f} ms", min)


def _compare_rate(name: str, old: Checkout, new: Checkout, measure: Callable[[Checkout], float]) -> None:
    """Images per second of both, three runs in turns after one uncounted run of each."""
    rates: dict[Checkout, list[float]] = {old: [], new: []}
    for run in range(-1, 3):
        for one in (old, new) if run % 2 else (new, old):
            rate = measure(one)
            if run >= 0:
                rates[one].append(rate)
    _print_row(name, rates[old], rates[new], lambda value: f"{value:,.1f}/s", max)


def _step_rate(data: str, checkout: Checkout) -> float:
    """Images per second of a training run's steps, the median without the first few."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        settings = [f"--set={key}={value}" for key, value in STEP_SETTINGS.items()]
        train = ["train", "--recipe", "mini-stage1", "--data", data, "--output", str(run), *settings]
        _output([checkout.python, "-P", "-m", "minigpt4.tui", *train])
        rows = map(json.loads, (run / "log.jsonl").read_text(encoding="utf-8").splitlines())
        rates = [row["samples_per_s"] for row in rows if "samples_per_s" in row]
    return statistics.median(rates[WARMUP_STEPS:])


def _loading_rate(checkout: Checkout) -> float:
    """Images decoded and resized per second, the first rate that the checkout's loading.py prints."""
    found = re.search(r"([\d,.]+) (?:photos|images)/s", checkout.benchmark("loading.py"))
    assert found is not None
    return float(found[1].replace(",", ""))


def _large_jpeg(path: Path) -> Path:
    """A smooth JPEG of 4000 x 3000 pixels."""
    coarse = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((4000, 3000), Image.Resampling.BICUBIC).save(path, quality=92)
    return path


def _output(command: list[str]) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed with code {done.returncode}.")
    return done.stdout


if __name__ == "__main__":
    main()
