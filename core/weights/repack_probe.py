"""Try llama.cpp's repacked weights in this process, which may crash; `repacking.py` starts it.

    python -P -m minigpt4.core.weights.repack_probe MODEL.gguf LIMIT_S

It does not load the file itself, which may have gigabytes, but a small Llama made in the working folder:
a layer for each type of the file's weights, filled with the file's own blocks, in sizes that every kernel
accepts. Which kernels a processor uses depends on the type, not on the size (beyond multiples of 64
rows and 256 columns), and so do the known crashes, which come with the first batch. The whole trial
takes 0.4 s of processor time, most of it to import numpy and llama.cpp; repacking a 7B's file alone
would take 3 s, and its size in memory.

Prints a verdict (`Repacking`) as a line of JSON.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.weights.gguf.header import GgufHeader, GgufTensor, read_header
from minigpt4.core.weights.gguf.writer import LlamaShape, write_gguf
from minigpt4.core.weights.llama_library import SAME_KERNELS, load_library
from minigpt4.core.weights.repacking import Repacking
from minigpt4.core.weights.sentencepiece_vocab import made_up_vocabulary

WIDTH, MLP, HEADS, VOCABULARY = 256, 768, 4, 512
EMBEDDING = "token_embd.weight"
"""Rows are looked up in it, not multiplied with it: it is never copied."""

THREADS = 2
"""Two on any machine, for one batch and one position: a known crash happens only outside the main thread.
One thread computes the rest: threads that wait for each other take seconds on a busy machine."""

POSITIONS = 100
CUTS = ((POSITIONS,), (50, 50), (33, 33, 34), (9,) * 11 + (1,), (63, 36, 1))
"""Splits of a prompt that must agree: above and below the batches of 4, 8, 16 and 32 at which
kernels change, and with a lone last position, which small models compute twice."""

START = 14
"""Positions that are computed one by one as well as in one batch."""

FAR = 0.2
"""Relative distance of logits beyond rounding, which makes 0.009 to 0.02 (all types on AVX-512)."""

FLASH_ATTENTION_OFF, FLASH_ATTENTION_ON = 0, 1
GGML_TYPE_F16, GGML_TYPE_BF16 = 1, 30
COPIED = re.compile(r"repack tensor (\S+)")
"""The library's debug lines on weights that it copies (ggml's repack.cpp and amx.cpp)."""


def main(gguf: Path, limit_s: int) -> None:
    """Print the verdict about a file's types."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(limit_s)  # ends native code as well, if nobody waits for this process any more
    os.environ.update(SAME_KERNELS)
    header = read_header(gguf)
    kinds = sorted({tensor.kind for tensor in _matrices(header).values()})
    if any(len(tensor.shape) > 2 for tensor in header.tensors.values()):
        print(json.dumps(asdict(Repacking("does not cover mixtures of experts"))))
        return
    path = Path("probe.gguf")
    _write(path, gguf, header, kinds)
    plain, repacked = _outcome(path, repacks=False), _outcome(path, repacks=True)
    types = {kinds[int(name.split(".")[1])] for name in repacked.copied if name.startswith("blk.")}
    copied = sum(tensor.length for tensor in _matrices(header).values() if tensor.kind in types)
    print(json.dumps(asdict(_judged(plain, repacked, tuple(sorted(types)), copied))))


def _matrices(header: GgufHeader) -> dict[str, GgufTensor]:
    return {
        name: tensor for name, tensor in header.tensors.items() if len(tensor.shape) > 1 and name != EMBEDDING
    }


def _write(path: Path, gguf: Path, header: GgufHeader, kinds: Sequence[str]) -> None:
    """Write the small Llama: layer n's weights have the type `kinds[n]`, the output layer's `kinds[0]`."""
    largest = {
        kind: max(
            (tensor for tensor in _matrices(header).values() if tensor.kind == kind),
            key=lambda tensor: tensor.length,
        )
        for kind in kinds
    }
    file = np.memmap(gguf, dtype=np.uint8, mode="r")
    rng = np.random.default_rng(0)

    def kind_of(name: str, shape: tuple[int, ...]) -> str:
        if len(shape) == 1 or name == EMBEDDING:
            return "F32"
        return kinds[int(name.split(".")[1])] if name.startswith("blk.") else kinds[0]

    def content(name: str, shape: tuple[int, ...], kind: str) -> NDArray[Any]:
        if len(shape) == 1:
            return np.ones(shape, dtype=np.float32)
        if name == EMBEDDING:
            return rng.standard_normal(shape, dtype=np.float32)
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        numbers, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
        source = file[largest[kind].start :][: largest[kind].length]
        return np.resize(source, shape[0] * shape[1] // numbers * size)

    shape = LlamaShape(
        layers=len(kinds),
        width=WIDTH,
        mlp=MLP,
        heads=HEADS,
        key_heads=HEADS,
        vocabulary=VOCABULARY,
        context=2 * POSITIONS,
    )
    write_gguf(
        path,
        shape,
        made_up_vocabulary(VOCABULARY),
        name="probe",
        quant="F16",
        kind=kind_of,
        content=content,
    )


@dataclass(frozen=True)
class Outcome:
    """What a model computed with one kind of buffers."""

    logits: NDArray[np.float32]
    """Logits after the whole prompt and after its first position alone (2, V)."""

    keeps_bits: bool
    lone_keeps_bits: bool
    copied: tuple[str, ...]
    """Names of the weights that were copied."""


def _outcome(path: Path, *, repacks: bool) -> Outcome:
    library = load_library()
    names: list[str] = []

    @library.llama_log_callback  # type: ignore[untyped-decorator]
    def note(level: int, text: bytes, user_data: object) -> None:
        names.extend(COPIED.findall(text.decode("utf-8", "replace")))

    library.llama_log_set(note, ctypes.c_void_p(0))
    settings = library.llama_model_default_params()
    settings.n_gpu_layers = 0
    settings.use_extra_bufts = repacks
    model = library.llama_model_load_from_file(os.fsencode(path), settings)
    reader = _Reader(library, model, mixes_types=False)
    alone, ends = reader.read((1,)), [reader.read(CUTS[0], least=2)]
    keeps_bits = reader.keeps_bits(2, ends)
    lone = _Reader(library, model, mixes_types=True)
    return Outcome(np.stack([ends[0], alone]), keeps_bits, keeps_bits and lone.keeps_bits(1), tuple(names))


class _Reader:
    """Reads the prompt in pieces."""

    def __init__(self, library: Any, model: Any, *, mixes_types: bool) -> None:
        """`mixes_types`: flash attention between keys and values of two types, which computes one position
        like many, so that only the weights' kernels may differ.

        Without it, the cache hides less of two kernels' difference: BF16 has eight bits.
        """
        options = library.llama_context_default_params()
        options.n_ctx = 2 * POSITIONS
        options.n_batch = options.n_ubatch = POSITIONS
        options.n_threads = options.n_threads_batch = THREADS
        options.flash_attn_type = FLASH_ATTENTION_OFF
        if mixes_types:
            options.flash_attn_type = FLASH_ATTENTION_ON
            options.type_k, options.type_v = GGML_TYPE_BF16, GGML_TYPE_F16
        self._context = model and library.llama_init_from_model(model, options)
        if not self._context:
            raise RuntimeError("llama.cpp cannot load the small model")
        # The last layer computes only rows whose logits are requested; a single row would hide other kernels.
        self._wants_all = mixes_types
        self._library = library
        self._batch = library.llama_batch_init(POSITIONS, 0, 1)
        self._tokens = np.random.default_rng(1).integers(3, VOCABULARY, POSITIONS).tolist()

    def keeps_bits(self, least: int, ends: Sequence[NDArray[np.float32]] = ()) -> bool:
        """Whether the prompt's logits equal those of `ends`, and are the same however it is split."""
        self._library.llama_set_n_threads(self._context, 1, 1)
        found = [*ends, *(self.read(cut, least=least) for cut in CUTS)]
        starts = [self.read(cut, least=least) for cut in ((START,), (1,) * START)]
        return all(np.array_equal(found[0], end) for end in found) and np.array_equal(starts[0], starts[1])

    def read(self, pieces: Sequence[int], *, least: int = 1) -> NDArray[np.float32]:
        """Logits (V,) after the last piece; a shorter piece is padded with its last token up to `least`."""
        memory = self._library.llama_get_memory(self._context)
        self._library.llama_memory_seq_rm(memory, 0, 0, -1)
        start = 0
        for length in pieces:
            size = max(length, least)
            self._batch.n_tokens = size
            for place in range(size):
                self._batch.token[place] = self._tokens[start + min(place, length - 1)]
                self._batch.pos[place] = start + place
                self._batch.n_seq_id[place] = 1
                self._batch.seq_id[place][0] = 0
                self._batch.logits[place] = self._wants_all or place >= size - least
            if self._library.llama_decode(self._context, self._batch) != 0:
                raise RuntimeError("llama.cpp cannot compute with the small model")
            start += length
            if size > length:
                self._library.llama_memory_seq_rm(memory, 0, start, -1)
        logits = self._library.llama_get_logits_ith(self._context, length - 1)
        return np.ctypeslib.as_array(logits, shape=(VOCABULARY,)).copy()


def _judged(plain: Outcome, repacked: Outcome, types: tuple[str, ...], copied: int) -> Repacking:
    if not np.isfinite(plain.logits).all():
        raise RuntimeError("the file gives values that are not finite in every buffer; it may be damaged")
    distance = np.linalg.norm(repacked.logits - plain.logits) / np.linalg.norm(plain.logits)
    problem = "" if distance < FAR else f"computed something else (a distance of {distance:.2g})"
    lone = plain.lone_keeps_bits and repacked.lone_keeps_bits
    return Repacking(problem, types, copied, repacked.keeps_bits, lone)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
