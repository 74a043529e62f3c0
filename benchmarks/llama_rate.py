"""How fast the llama.cpp backend decodes, compared with the bare library.

    python benchmarks/llama_rate.py MODEL.gguf [--tokens 40] [--rounds 5] [--threads 1]

Both decode token by token from the same short prompt, alternating in one process. The bare loop
calls `llama_decode` with default settings and reads the logits; ours is `generate`, including
sampling. With one thread it measures CPU time, which other programs disturb less, with more threads
wall time; rates come from the median token. The `padded` row is ours with the padded copy that small
models use (core/language/llamacpp.py).
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from minigpt4.core.language import llamacpp
from minigpt4.core.language.llamacpp import LlamaCppLanguageModel
from minigpt4.core.types import ResolvedSampling
from minigpt4.core.weights.llama_library import load_library

PROMPT = list(range(300, 332))
CONTEXT = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    clock = time.process_time if options.threads == 1 else time.perf_counter

    decoders: dict[str, Callable[[int], Iterator[int]]] = {
        "bare": Bare(options.gguf, options.threads).decode,
        "ours": ours(options.gguf, options.threads, padded=False),
        "ours, padded": ours(options.gguf, options.threads, padded=True),
    }
    times: dict[str, list[float]] = {name: [] for name in decoders}
    for _ in range(options.rounds):
        for name, decode in decoders.items():
            times[name] += token_times(decode(options.tokens + 1), clock)
    print(f"{options.gguf.name}, {options.threads} threads, {len(times['bare'])} tokens each\n")
    print("| loop | tokens/s | relative to bare |")
    print("| --- | ---: | ---: |")
    bare = statistics.median(times["bare"])
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print(f"| {name} | {1 / median:.2f} | {bare / median:.3f} |")


def token_times(tokens: Iterator[int], clock: Callable[[], float]) -> list[float]:
    """Times between tokens; the time before the first belongs to the prompt."""
    stamps = [clock() for _ in tokens]
    return [after - before for before, after in itertools.pairwise(stamps)]


def ours(gguf: Path, threads: int, *, padded: bool) -> Callable[[int], Iterator[int]]:
    """Our loop, for large models or (`padded`) for small ones."""
    limit = llamacpp.LARGE_BYTES
    llamacpp.LARGE_BYTES = 1 << 62 if padded else 0
    try:
        model = LlamaCppLanguageModel(gguf, context=CONTEXT, threads=threads)
    finally:
        llamacpp.LARGE_BYTES = limit
    # A random model may generate the end token at once; ignore it.
    model.is_end = lambda token: False  # type: ignore[method-assign]

    def decode(count: int) -> Iterator[int]:
        model.reset()
        return model.generate(PROMPT, ResolvedSampling(max_tokens=count).greedy())

    return decode


class Bare:
    """llama.cpp as in its documentation: one token per batch, default settings."""

    def __init__(self, gguf: Path, threads: int) -> None:
        self._api: Any = load_library()
        model = self._api.llama_model_default_params()
        model.use_extra_bufts = False  # with AMX they crash the process
        self._model = self._api.llama_model_load_from_file(bytes(gguf), model)
        context = self._api.llama_context_default_params()
        context.n_ctx = CONTEXT
        context.n_threads = context.n_threads_batch = threads
        self._context = self._api.llama_init_from_model(self._model, context)
        self._batch = self._api.llama_batch_init(CONTEXT, 0, 1)

    def decode(self, count: int) -> Iterator[int]:
        self._api.llama_memory_seq_rm(self._api.llama_get_memory(self._context), 0, 0, -1)
        self._run(PROMPT, 0)
        for token in range(count):
            yield token
            self._run([400 + token], len(PROMPT) + token)

    def _run(self, tokens: list[int], start: int) -> None:
        self._batch.n_tokens = len(tokens)
        for place, token in enumerate(tokens):
            self._batch.token[place] = token
            self._batch.pos[place] = start + place
            self._batch.n_seq_id[place] = 1
            self._batch.seq_id[place][0] = 0
            self._batch.logits[place] = place == len(tokens) - 1
        if self._api.llama_decode(self._context, self._batch) != 0:
            raise SystemExit("llama.cpp failed to decode.")
        self._api.llama_get_logits_ith(self._context, len(tokens) - 1)


if __name__ == "__main__":
    main()
