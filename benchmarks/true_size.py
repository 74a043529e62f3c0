"""A bundle of MiniGPT-4's real size on this machine: load time, encoding, first token, speed, memory.

    minigpt4 models synth minigpt4-vicuna-7b --seed 0 --gguf Q4_0
    python benchmarks/true_size.py minigpt4-vicuna-7b-synth -i examples/chelsea.png

Random weights cost as much as trained ones. The embedding cache is disabled, so the image is encoded;
files are in the page cache after the first round, as on a machine that has just downloaded them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

GIB = 1024**3
QUESTION = "What is in this picture?"


def measure(bundle_name: str, image: Path, tokens: int, threads: int | None) -> dict[str, float]:
    """One answer in this process, with the time of each stage."""
    import minigpt4.core.embedding_cache
    from minigpt4.core.bundles.bundle import load_bundle
    from minigpt4.core.download.fetch import path_of
    from minigpt4.core.engine import Engine
    from minigpt4.core.memory import most_held
    from minigpt4.core.prompt import User
    from minigpt4.core.weights.locate import choose_gguf

    minigpt4.core.embedding_cache.cache_home = lambda: Path(tempfile.mkdtemp())  # type: ignore[assignment]
    bundle = load_bundle(bundle_name)
    gguf = choose_gguf(bundle)
    assert gguf is not None, f"{bundle_name} has no GGUF; make one with `minigpt4 models quantize`"
    files = {gguf, *(path_of(file, bundle) for file in bundle.picture_files)}
    start = time.perf_counter()
    engine = Engine.load(bundle, backend="llamacpp", device="cpu", threads=threads)
    loaded = time.perf_counter()
    first = engine.look(image)
    encoded = time.perf_counter()
    assert engine._encoder is not None
    engine._encoder(_opened(image))
    again = time.perf_counter()
    sampling = replace(bundle.sampling.greedy(), max_tokens=tokens)
    reply = engine.reply([User(QUESTION, images=[first])], sampling)
    reply.read()
    assert reply.first_token_s is not None and reply.tokens_per_s is not None, "the answer ended at once"
    return {
        "load the language model (s)": loaded - start,
        "first encoding, with loading the tower (s)": encoded - loaded,
        "another encoding (s)": again - encoded,
        "prompt (tokens)": reply.prompt_tokens,
        "time to first token (s)": reply.first_token_s,
        "speed (tokens/s)": reply.tokens_per_s,
        "files (GiB)": sum(file.stat().st_size for file in files) / GIB,
        "peak memory (GiB)": most_held() / GIB,
    }


def _opened(image: Path) -> object:
    from minigpt4.core.pixels import open_picture

    return open_picture(image)


def main() -> None:
    """Measure in fresh processes and print the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle")
    parser.add_argument("-i", "--image", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.once:
        print(json.dumps(measure(asked.bundle, asked.image, asked.tokens, asked.threads)))
        return
    rounds = []
    for _ in range(asked.rounds):
        done = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--once"], stdout=subprocess.PIPE, check=True, text=True
        )
        rounds.append(json.loads(done.stdout.splitlines()[-1]))
    print(f"| {asked.bundle} | median of {asked.rounds} |\n| --- | ---: |")
    for name in rounds[0]:
        print(f"| {name} | {statistics.median(round_[name] for round_ in rounds):.2f} |")


if __name__ == "__main__":
    main()
