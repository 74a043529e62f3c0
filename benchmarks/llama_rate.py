"""How fast the llama.cpp backend reads and decodes, beside the bare library at its own best settings.

    python benchmarks/llama_rate.py [MODEL.gguf ...] [--threads 2] [--prompt 256] [--tokens 32] [--rounds 3]

Without a file: a quarter of 7B (8 of its 32 layers at their true width, random weights in Q4_0, 1.1 GB in
a temporary folder), SmolVLM-500M's language model (true size, random weights in Q8_0), and mini if it is
downloaded. Takes three minutes on two idle cores.

The bare loop is llama.cpp as in its documentation: default settings throughout (repacked weights, its own
choice of flash attention, its own batch sizes), a prompt in one call, then one token per batch. "ours" is
what `Engine.load` chooses, sampling included. The other rows differ from it as their names say, and show
whether another choice in core/language/llamacpp.py would be faster. One row is ours for bundles of two GGUF
files. All alternate in one process. With one thread it measures CPU time, which other programs disturb
less, otherwise wall time.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from unittest import mock

from minigpt4.core.bundle_making.random_weights import ggml_tensor
from minigpt4.core.bundles.bundle import load_bundle
from minigpt4.core.cores import usable_cores
from minigpt4.core.language import llamacpp
from minigpt4.core.language.llamacpp import LlamaCppLanguageModel, is_large
from minigpt4.core.language.repack_choice import RepackChoice, reason_against
from minigpt4.core.mtmd.language import LlamaCppWithImages
from minigpt4.core.types import ResolvedSampling
from minigpt4.core.weights.gguf.writer import LlamaShape, write_gguf
from minigpt4.core.weights.llama_library import SAME_KERNELS, load_library
from minigpt4.core.weights.locate import choose_gguf
from minigpt4.core.weights.repacking import repacking
from minigpt4.core.weights.sentencepiece_vocab import made_up_vocabulary

QUARTER_7B = LlamaShape(
    layers=8, width=4096, mlp=11008, heads=32, key_heads=32, vocabulary=32000, context=2048
)
SMOLVLM_500M = LlamaShape(
    layers=32, width=960, mlp=2560, heads=15, key_heads=5, vocabulary=49280, context=8192
)
LIBRARY = "attention left to llama.cpp"
ALONE = "plain attention, decoded tokens alone"
COPIES = "plain attention, lone positions copied"
FORMS = (LIBRARY, ALONE, COPIES)
"""How large models, small ones, and those on a GPU compute; see LEAST_BATCH in llamacpp.py."""

BESIDE = "ours, beside an mmproj"
"""For bundles of two GGUF files."""

START = 32
"""Tokens before those whose decoding is measured."""


class Loop(Protocol):
    """Something that reads a prompt and then decodes token by token."""

    def read(self, count: int) -> None:
        """Read a prompt of `count` tokens into an empty cache."""

    def decode(self, count: int) -> Iterator[int]:
        """Yield `count` tokens after a prompt of START tokens."""


@dataclass
class Rates:
    """Seconds of every round and token."""

    prompts: list[float] = field(default_factory=list)
    tokens: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("gguf", type=Path, nargs="*")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    if asked.gguf:
        for gguf in asked.gguf:
            compare(gguf, asked)
        return
    with tempfile.TemporaryDirectory() as folder:
        compare(random_gguf(Path(folder) / "quarter-7b-Q4_0.gguf", QUARTER_7B, "Q4_0", "Q6_K"), asked)
        compare(random_gguf(Path(folder) / "smolvlm-500m-Q8_0.gguf", SMOLVLM_500M, "Q8_0", "Q8_0"), asked)
    mini = choose_gguf(load_bundle("mini"))
    if mini is not None:
        compare(mini, asked)


def random_gguf(path: Path, shape: LlamaShape, quant: str, output: str) -> Path:
    """Write a model of random weights; `output` is the type of its output rows, as llama.cpp chooses it."""

    def kind(name: str, shape: tuple[int, ...]) -> str:
        return "F32" if len(shape) == 1 else output if name == "output.weight" else quant

    write_gguf(
        path,
        shape,
        made_up_vocabulary(shape.vocabulary),
        name=path.stem,
        quant=quant,
        kind=kind,
        content=lambda name, shape, packing: ggml_tensor(0, name, shape, packing),
    )
    return path


def compare(gguf: Path, asked: argparse.Namespace) -> None:
    """Measure all loops in turns and print their rates."""
    if is_large(gguf):  # rows that compute like small models must not change all kernels
        os.environ.update(dict.fromkeys(SAME_KERNELS, "1"))
    against = reason_against(repacking(gguf), is_large=is_large(gguf))
    loops = loops_for(gguf, asked, is_repacked=not against)
    clock = time.process_time if asked.threads == 1 else time.perf_counter
    rates = {name: Rates() for name in loops}
    for round_ in range(asked.rounds + 1):  # the first one warms up
        for name, loop in loops.items():
            begin = clock()
            loop.read(asked.prompt)
            prompt = clock() - begin
            tokens = token_times(loop.decode(asked.tokens + 1), clock)
            if round_:
                rates[name].prompts.append(prompt)
                rates[name].tokens += tokens
    report(gguf, asked, rates, against)


def loops_for(gguf: Path, asked: argparse.Namespace, *, is_repacked: bool) -> dict[str, Loop]:
    context = max(asked.prompt, START + asked.tokens) + 8
    is_large(gguf)

    def ours(
        form: str, kind: type[LlamaCppLanguageModel] = LlamaCppLanguageModel, *, repacked: bool = is_repacked
    ) -> Ours:
        return Ours(kind, gguf, asked.threads, context, form=form, is_repacked=repacked)

    own = LIBRARY if is_large(gguf) else ALONE
    loops: dict[str, Loop] = {"llama.cpp at its best": Bare(gguf, asked.threads, context), "ours": ours(own)}
    loops[BESIDE] = ours(own, LlamaCppWithImages)
    loops |= {name: ours(name) for name in FORMS if name != own}
    if is_repacked:
        loops["not repacked"] = ours(own, repacked=False)
    return loops


def report(gguf: Path, asked: argparse.Namespace, rates: dict[str, Rates], against: str) -> None:
    best = next(iter(rates.values()))
    limit = statistics.median(best.prompts), statistics.median(best.tokens)
    print(f"\n{gguf.name}, {asked.threads} threads, medians of {asked.rounds} prompts and", end=" ")
    print(f"{len(best.tokens)} tokens; repacked: {f'no, {against}' if against else 'yes'}\n")
    print("| loop | prompt, tokens/s | of the limit | decoding, tokens/s | of the limit |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, one in rates.items():
        prompt, token = statistics.median(one.prompts), statistics.median(one.tokens)
        print(
            f"| {name} | {asked.prompt / prompt:.1f} | {limit[0] / prompt:.3f} "
            f"| {1 / token:.2f} | {limit[1] / token:.3f} |",
            flush=True,
        )


def token_times(tokens: Iterator[int], clock: Callable[[], float]) -> list[float]:
    """Times between tokens; the time before the first belongs to the prompt."""
    stamps = [clock() for _ in tokens]
    return [after - before for before, after in itertools.pairwise(stamps)]


class Ours:
    """Our backend in one of FORMS."""

    def __init__(
        self,
        kind: type[LlamaCppLanguageModel],
        gguf: Path,
        threads: int,
        context: int,
        *,
        form: str,
        is_repacked: bool,
    ) -> None:
        with (
            mock.patch.object(llamacpp, "LARGE_BYTES", 0 if form == LIBRARY else 1 << 62),
            mock.patch.object(LlamaCppLanguageModel, "decodes_alone", form == ALONE),
        ):
            self._model = kind(
                gguf,
                context=context,
                threads=threads,
                repack=RepackChoice(is_repacked, "", repacking(gguf).lone_keeps_bits),
            )
        # A random model may generate the end token at once; ignore it.
        self._model.is_end = lambda token: False  # type: ignore[method-assign]

    def read(self, count: int) -> None:
        self._model.reset()
        self._model.logits(prompt_of(count))

    def decode(self, count: int) -> Iterator[int]:
        self._model.reset()
        return self._model.generate(prompt_of(START), ResolvedSampling(max_tokens=count).greedy())


class Bare:
    """llama.cpp with default settings, repacked weights included."""

    def __init__(self, gguf: Path, threads: int, context: int) -> None:
        self._api: Any = load_library()
        model = self._api.llama_model_default_params()
        verdict = repacking(gguf)
        model.use_extra_bufts = not verdict.problem  # not where repacked weights crash
        self._model = self._api.llama_model_load_from_file(bytes(gguf), model)
        options = self._api.llama_context_default_params()
        options.n_ctx = context
        options.n_threads = options.n_threads_batch = threads
        self._context = self._api.llama_init_from_model(self._model, options)
        self._batch = self._api.llama_batch_init(context, 0, 1)

    def read(self, count: int) -> None:
        self._api.llama_memory_seq_rm(self._api.llama_get_memory(self._context), 0, 0, -1)
        self._run(prompt_of(count), 0)

    def decode(self, count: int) -> Iterator[int]:
        self.read(START)
        for token in range(count):
            yield token
            self._run([400 + token], START + token)

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


def prompt_of(count: int) -> list[int]:
    """Some token ids that every vocabulary has."""
    return [300 + place % 500 for place in range(count)]


if __name__ == "__main__":
    main()
