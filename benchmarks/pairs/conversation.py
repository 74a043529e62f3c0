"""A model of two GGUF files in a conversation, beside llama.cpp's own multimodal library (libmtmd).

    python benchmarks/pairs/conversation.py LANGUAGE.gguf MMPROJ.gguf [--like smolvlm-500m] [--rounds 3]

With `--like` the two files are only patterns: files of the model's true size with random weights are written
to a temporary folder, the language model in Q8_0. All peers alternate in one process; prints medians:

- kept: libmtmd as llama.cpp's own program uses it: default settings, the KV cache kept, so that a second
  turn computes only what is new.
- kept, plain attention: the same without flash attention in the language model, which on a CPU may be faster
  once a picture's tiles fill the context. The better of the two is the library at its best.
- anew: the same calls with the whole conversation, picture included, at every turn, as llama-cpp-python's
  chat handlers do.
- ours: `Engine` with the same files, without its cache on disk; its second turn is `Engine.reply` again,
  which also prefills the answer before, so that its bits do not depend on the cache.
- ours, prepared: the same after `Engine.prepare`, which the app calls while the question is typed.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from enlarge import SMOLVLM_500M, TOWERS, enlarged_language, enlarged_mmproj
from PIL import Image

from minigpt4.core.bundle_making.import_pair import bundle_of_pair
from minigpt4.core.cores import usable_cores
from minigpt4.core.engine import Engine
from minigpt4.core.prompt import Assistant, Message, User
from minigpt4.core.reply import Reply
from minigpt4.core.types import Sampling
from minigpt4.core.weights.llama_library import load_library, load_mtmd

FIRST, SECOND = "What is in this picture?", "What colour is the largest thing in it?"
MARKER = b"<__media__>"
FIRST_TURN = b"<|im_start|>User:" + MARKER + FIRST.encode() + b"<end_of_utterance>\nAssistant:"
NEXT_TURN = b"<end_of_utterance>\nUser:" + SECOND.encode() + b"<end_of_utterance>\nAssistant:"
"""SmolVLM's chat template."""

CONTEXT = 4096


class Library:
    """libmtmd and llama.cpp at their default settings, apart from flash attention if it is switched off."""

    def __init__(self, gguf: Path, mmproj: Path, threads: int, *, keeps: bool, flash: bool = True) -> None:
        self._api, self._mtmd, self._keeps = load_library(), load_mtmd(), keeps
        self._model = self._api.llama_model_load_from_file(
            bytes(gguf), self._api.llama_model_default_params()
        )
        options = self._api.llama_context_default_params()
        options.n_ctx = CONTEXT
        if not flash:
            options.flash_attn_type = self._api.LLAMA_FLASH_ATTN_TYPE_DISABLED
        options.n_threads = options.n_threads_batch = threads
        self._context = self._api.llama_init_from_model(self._model, options)
        parameters = self._mtmd.mtmd_context_params_default()
        parameters.n_threads = threads
        parameters.print_timings = parameters.use_gpu = False
        parameters.media_marker = MARKER
        self._vision = self._mtmd.mtmd_init_from_file(bytes(mmproj), self._model, parameters)
        assert self._context and self._vision
        vocabulary = self._api.llama_model_get_vocab(self._model)
        self._logits = self._api.llama_vocab_n_tokens(vocabulary)
        self._past = 0
        self._answer: list[int] = []

    def begin(self) -> None:
        """Forget the conversation."""
        self._api.llama_memory_clear(self._api.llama_get_memory(self._context), True)
        self._past = 0

    def first(self, image: Image.Image, tokens: int) -> tuple[float, float]:
        """Answer a question about a new picture: seconds to the first token, and of each further one."""
        start = time.perf_counter()
        self._read(FIRST_TURN, [image])
        self._answer = self._decode(1)
        first = time.perf_counter()
        self._answer += self._decode(tokens, self._answer[0])
        return first - start, (time.perf_counter() - first) / tokens

    def second(self, image: Image.Image) -> float:
        """Seconds to the first token of a second turn."""
        start = time.perf_counter()
        if self._keeps:
            self._read(NEXT_TURN, [])
        else:
            text = self._text(self._answer)
            self.begin()
            self._read(FIRST_TURN + text + NEXT_TURN, [image])
        self._decode(1)
        return time.perf_counter() - start

    def _read(self, text: bytes, images: Sequence[Image.Image]) -> None:
        mtmd = self._mtmd
        pixels = [np.asarray(image, np.uint8) for image in images]
        bitmaps = [
            mtmd.mtmd_bitmap_init(
                image.shape[1], image.shape[0], image.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
            )
            for image in pixels
        ]
        chunks = mtmd.mtmd_input_chunks_init()
        given = mtmd.mtmd_input_text(text, len(text), self._past == 0, True)
        array = (mtmd.mtmd_bitmap_p_ctypes * len(bitmaps))(*bitmaps)
        assert not mtmd.mtmd_tokenize(self._vision, chunks, ctypes.byref(given), array, len(bitmaps))
        after = self._api.llama_pos(0)
        batch = int(self._api.llama_n_batch(self._context))
        failed = mtmd.mtmd_helper_eval_chunks(
            self._vision, self._context, chunks, self._past, 0, batch, True, ctypes.byref(after)
        )
        assert not failed
        self._past = after.value
        for bitmap in bitmaps:
            mtmd.mtmd_bitmap_free(bitmap)
        mtmd.mtmd_input_chunks_free(chunks)

    def _decode(self, count: int, token: int | None = None) -> list[int]:
        """Decode `count` greedy tokens after `token`; None: after what has been read."""
        tokens: list[int] = []
        for _ in range(count):
            if token is not None:
                batch = self._api.llama_batch_get_one((self._api.llama_token * 1)(token), 1)
                assert not self._api.llama_decode(self._context, batch)
                self._past += 1
            logits = self._api.llama_get_logits_ith(self._context, -1)
            token = int(np.ctypeslib.as_array(logits, (self._logits,)).argmax())
            tokens.append(token)
        return tokens

    def _text(self, tokens: Sequence[int]) -> bytes:
        vocabulary = self._api.llama_model_get_vocab(self._model)
        buffer = ctypes.create_string_buffer(256)
        pieces: list[bytes] = []
        for token in tokens:
            length = self._api.llama_token_to_piece(vocabulary, token, buffer, len(buffer), 0, False)
            pieces.append(buffer.raw[: max(length, 0)])
        return b"".join(pieces).replace(MARKER, b"")


class Ours:
    """The engine; a random model's end tokens are ignored, as the other loops ignore them."""

    def __init__(self, gguf: Path, mmproj: Path, threads: int, *, prepares: bool) -> None:
        self._prepares = prepares
        bundle = bundle_of_pair("pair-peer", gguf, mmproj, "smolvlm", lambda _: None)
        self._engine = Engine.load(bundle, backend="llamacpp", device="cpu", threads=threads, cache=False)
        self._engine.language.is_end = lambda token: False  # type: ignore[method-assign]
        self._conversation: list[Message] = []

    def begin(self) -> None:
        """Forget the conversation and its pictures."""
        self._engine.language.reset()
        self._conversation = []

    def first(self, image: Image.Image, tokens: int) -> tuple[float, float]:
        """As `Library.first`."""
        start = time.perf_counter()
        self._conversation = [User(FIRST, [self._engine.look(image)])]
        looked = time.perf_counter() - start
        reply = self._reply(tokens + 1)
        self._conversation.append(Assistant(reply.text))
        assert reply.first_token_s is not None and reply.tokens_per_s is not None
        return looked + reply.first_token_s, 1 / reply.tokens_per_s

    def second(self, _image: Image.Image) -> float:
        """As `Library.second`."""
        if self._prepares:
            self._engine.prepare([*self._conversation, User("")])
        self._conversation.append(User(SECOND))
        start = time.perf_counter()
        self._reply(1)
        return time.perf_counter() - start

    def _reply(self, tokens: int) -> Reply:
        reply = self._engine.reply(self._conversation, Sampling(max_tokens=tokens, temperature=0.0))
        reply.read()
        return reply


Peer = Library | Ours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("language", type=Path)
    parser.add_argument("mmproj", type=Path)
    parser.add_argument("--like", choices=["smolvlm-500m"])
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--size", type=int, nargs=2, default=(512, 512))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        language, mmproj = asked.language, asked.mmproj
        if asked.like:
            language, mmproj = Path(folder) / "language.gguf", Path(folder) / "mmproj.gguf"
            enlarged_language(SMOLVLM_500M, asked.language, language)
            enlarged_mmproj(TOWERS["siglip-base"], asked.mmproj, mmproj, language_width=SMOLVLM_500M.width)
        compare(language, mmproj, asked)


def compare(language: Path, mmproj: Path, asked: argparse.Namespace) -> None:
    """Measure all peers in turns and print their medians."""
    peers: dict[str, Peer] = {
        "libmtmd, kept": Library(language, mmproj, asked.threads, keeps=True),
        "libmtmd, kept, plain attention": Library(language, mmproj, asked.threads, keeps=True, flash=False),
        "libmtmd, anew": Library(language, mmproj, asked.threads, keeps=False),
        "ours": Ours(language, mmproj, asked.threads, prepares=False),
        "ours, prepared": Ours(language, mmproj, asked.threads, prepares=True),
    }
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in peers}
    random = np.random.default_rng(0)
    for _ in range(asked.rounds + 1):  # the first one warms up
        image = Image.fromarray(random.integers(0, 256, (asked.size[1], asked.size[0], 3), np.uint8))
        for name, peer in peers.items():
            found[name].append(measured(peer, image, asked.tokens))
    print("| | first token, new picture | first token, second turn | decoding, tokens/s |")
    print("| --- | ---: | ---: | ---: |")
    for name, rounds in found.items():
        first, second, token = (statistics.median(values) for values in zip(*rounds[1:], strict=True))
        print(f"| {name} | {first:.2f} s | {1000 * second:.0f} ms | {1 / token:.1f} |")


def measured(peer: Peer, image: Image.Image, tokens: int) -> tuple[float, float, float]:
    """Seconds to the first token about a new picture, to that of a second turn, and per decoded token."""
    peer.begin()
    first, token = peer.first(image, tokens)
    return first, peer.second(image), token


if __name__ == "__main__":
    main()
