"""One question about many new pictures: pictures per second of this checkout and another, in turns.

    python benchmarks/many_pictures.py OTHER_PYTHON [--pictures 200] [--runs 3] [--backend llamacpp]

OTHER_PYTHON is the interpreter of a virtual environment in which the other checkout is installed. Each run
is a whole `minigpt4 ask --each` with mini, with an empty embedding cache, over crops of the example photos.
Prints medians of pictures per second, loading included, and of processor time per picture, which other
programs disturb less, and how many answers differ between the two.
"""

from __future__ import annotations

import argparse
import json
import operator
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from minigpt4.core.embedding_cache import embeddings_folder

EXAMPLES = Path(__file__).parent.parent / "examples"
SIZE = (640, 480)
QUESTION = "Describe this image in one short sentence."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("other")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--backend", default="llamacpp")
    given = parser.parse_args()
    checkouts = {"other": given.other, "this": sys.executable}
    seconds: dict[str, list[float]] = {name: [] for name in checkouts}
    processor: dict[str, list[float]] = {name: [] for name in checkouts}
    answers: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        write_crops(photos, given.pictures)
        kept = Path(folder) / "kept"
        if embeddings_folder().exists():
            shutil.move(embeddings_folder(), kept)
        try:
            for run in range(given.runs):
                for name in checkouts if run % 2 else reversed(checkouts):
                    taken, worked, answers[name] = ask(checkouts[name], photos, given.backend)
                    seconds[name].append(taken)
                    processor[name].append(worked)
        finally:
            shutil.rmtree(embeddings_folder(), ignore_errors=True)
            if kept.exists():
                shutil.move(kept, embeddings_folder())
    print("| checkout | pictures/s | processor time a picture |\n| --- | ---: | ---: |")
    for name in checkouts:
        rate = given.pictures / statistics.median(seconds[name])
        print(f"| {name} | {rate:.2f} | {statistics.median(processor[name]) / given.pictures * 1e3:.0f} ms |")
    for what, times in (("pictures a second", seconds), ("processor time", processor)):
        print(
            f"{what}: {statistics.median(times['other']) / statistics.median(times['this']):.2f} times better"
        )
    differing = sum(map(operator.ne, answers["this"], answers["other"]))
    print(f"{differing} of {len(answers['this'])} answers differ")


def ask(python: str, photos: Path, backend: str) -> tuple[float, float, list[str]]:
    """Wall and processor time of one command in seconds, and its answers by photo."""
    shutil.rmtree(embeddings_folder(), ignore_errors=True)
    command = [python, "-P", "-m", "minigpt4.tui", "ask", QUESTION, "--each", "--json", "--greedy"]
    for photo in sorted(photos.iterdir()):
        command += ["-i", str(photo)]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    made = subprocess.run(
        [*command, "--backend", backend], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    taken, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    worked = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return taken, worked, [json.loads(line)["answer"] for line in made.stdout.splitlines()]


def write_crops(folder: Path, count: int) -> None:
    """Different parts of the example photos, as JPEGs."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    wholes = [
        Image.open(EXAMPLES / name).convert("RGB") for name in ("chelsea.png", "coffee.jpg", "rocket.jpg")
    ]
    for number in range(count):
        whole = wholes[number % len(wholes)]
        side = int(rng.uniform(0.3, 0.9) * min(whole.size))
        left, top = (int(rng.integers(0, length - side)) for length in whole.size)
        part = whole.crop((left, top, left + side, top + side)).resize(SIZE, Image.Resampling.BICUBIC)
        part.save(folder / f"{number:04}.jpg", quality=90)


if __name__ == "__main__":
    main()
