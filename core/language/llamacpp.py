"""The llama.cpp backend, through the C interface of llama-cpp-python.

It uses the C interface and not the package's `Llama` class, which does not expose `llama_batch.embd`,
through which image embeddings are passed.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.cores import threads_for
from minigpt4.core.download.fetch import Notice, path_of
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.errors import BackendError, BundleError
from minigpt4.core.language.base import CHUNK, END_TOKENS, Cancelled, LanguageModel, encodable
from minigpt4.core.language.kept_states import has_room, is_decoded
from minigpt4.core.language.llama_abort import ABORTED, Abort
from minigpt4.core.language.llama_tokenizer import LlamaText
from minigpt4.core.language.llamacpp_slots import LlamaCppSlots
from minigpt4.core.language.load import WITHOUT_GPU, layers_on_gpu
from minigpt4.core.language.positions import ImageRun, Positions, Run
from minigpt4.core.language.repack_choice import RepackChoice, choose_repacking, open_model
from minigpt4.core.prompt import SmolLM2, template_named
from minigpt4.core.types import Text
from minigpt4.core.weights.gguf.to_hf import check_gguf
from minigpt4.core.weights.gguf.usable import usable_gguf
from minigpt4.core.weights.llama_library import (
    SAME_KERNELS,
    copy_sequence,
    last_error,
    load_library,
    restore_sequence,
)

if TYPE_CHECKING:
    from minigpt4.core.bundles.bundle import Bundle

ALL_LAYERS = 999
SEQUENCE = 0
COMPANION = 1
"""The sequence of a row that is computed beside a lone decoded token if weights have other kernels for
one row than for several (F16, Q4_K; the trial of core/weights/repacking.py determines it).

So a token has the same bits decoded alone as with those of other answers (`slots`), whose attention is
computed separately for each sequence.
"""

FLASH_ATTENTION_OFF = 0
NOT_REPACKED = RepackChoice(is_on=False, reason="not asked for")

MORE_TOKENS = 64
"""Up to this many more tokens than the bundle's count as padding rows (Vicuna: 32001)."""

LARGE_BYTES = 1 << 30
"""From this file size on, decoding speed matters more than the same bits from every split of a prompt.

Then a lone position is computed alone and attention is the library's own choice. Measured on one core with
AVX-512, in processor time: on four layers of 7B's width the copy and plain attention together cost
Q4_K_M 19 % of its rate; the copy alone costs Q5_K_M 1 %, plain attention alone 1 to 5 %. Repacked
kernels take the positions of a small batch one by one, so that a copy costs them as much again. A
whole 7B in Q4_0 that is not repacked is 11 % faster with the copy: there the kernel for two beats
the one for a single position.
"""

LEAST_BATCH = 2
"""Fewest positions, and rows of logits, computed at once; a lone position is padded with a copy, which is
dropped right afterwards. Models of LARGE_BYTES do without.

With this rule logits are the same bit for bit however a prompt is split, so a reused cache never changes a
greedy answer: a lone position uses other kernels, whose logits differ by up to 1. The copy halves the
decoding speed of mini's Q4_1. Decoded tokens of small models on a CPU do without: they are not reused, and
the next prompt recomputes the answer together with the question that follows it, in one batch.
Flash attention also has the same bits for one position as for many, if keys (BF16) and values (F16) are of
different types. But answers are short and conversations long, and it is so slow per key that the question
of turn 40 took four times as long (0.85 against 0.21 s of one core).

On AVX-512 the rule holds for every type that `models quantize` makes and for mini's, with SAME_KERNELS;
repacked, for Q4_0 and IQ4_NL, but not for Q4_K (0.01 to 0.05 in logits of spread 0.5).
"""


class LlamaCppLanguageModel(LanguageModel):
    """A GGUF in llama.cpp, on the CPU or with some or all layers on a GPU."""

    backend: ClassVar[str] = "llamacpp"

    decodes_alone: ClassVar[bool] = True
    """Whether small models on a CPU may decode without copies (see LEAST_BATCH)."""

    decodes_together: ClassVar[bool] = True
    """Whether `slots` are supported, in which an answer must have the same bits as alone."""

    def __init__(
        self,
        gguf: Path,
        *,
        context: int,
        threads: int | None = None,
        gpu_layers: int | None = 0,
        repack: RepackChoice = NOT_REPACKED,
        expected_bytes: int | None = None,
    ) -> None:
        """`gpu_layers=None` puts all layers on the GPU.

        Raises BundleError if the file is damaged, BackendError if memory or a GPU is missing.
        """
        super().__init__(context)
        check_gguf(gguf, expected_bytes)
        self._api = load_library()
        if gpu_layers != 0 and not self._api.llama_supports_gpu_offload():
            raise BackendError(WITHOUT_GPU)
        self._is_large = is_large(gguf)
        self._least_batch = 1 if self._is_large else LEAST_BATCH
        is_small = gpu_layers == 0 and not self._is_large
        self._drops_decoded = self.decodes_alone and is_small
        is_alike = repack.lone_keeps_bits or not self.decodes_together
        self._needs_companion = self._drops_decoded and not is_alike
        if not self._is_large:
            for name, value in SAME_KERNELS.items():
                os.environ.setdefault(name, value)
        layers = ALL_LAYERS if gpu_layers is None else gpu_layers
        model, self.repack = open_model(gguf, layers, repack)
        self._model = model
        self._native = native = [(self._api.llama_model_free, model)]
        self._close = weakref.finalize(self, _free, native)
        self._vocabulary = self._api.llama_model_get_vocab(model)
        self.vocabulary_size = int(self._api.llama_vocab_n_tokens(self._vocabulary))
        self.is_sentencepiece = self._api.llama_vocab_type(self._vocabulary) == self._api.LLAMA_VOCAB_TYPE_SPM
        self._llama_text = LlamaText(lambda text: self._cut(text, False)) if self.is_sentencepiece else None
        ends = [self._cut(text, True) for text in END_TOKENS]
        self._ends = {self._api.llama_vocab_eos(self._vocabulary)} | {e[0] for e in ends if len(e) == 1}
        self.architecture = _metadata(self._api, model, "general.architecture")
        self.width = int(self._api.llama_model_n_embd(model))
        self._threads = threads_for(threads)
        self._context = self._new_context(context, 2 if self._needs_companion else 1)
        native.append((self._api.llama_free, self._context))
        self._memory = self._api.llama_get_memory(self._context)
        self._abort = Abort(self._api, self._context)
        self._token_batch = self._api.llama_batch_init(CHUNK, 0, 1)
        self._vector_batch = self._api.llama_batch_init(CHUNK, self.width, 1)
        native += [(self._api.llama_batch_free, b) for b in (self._token_batch, self._vector_batch)]

    @classmethod
    def load(cls, options: EngineOptions, *, notice: Notice | None = None) -> Self:
        """The bundle's language model.

        `notice` is called before the one-time conversion of a small Hugging Face folder.
        """
        bundle, notice = options.loaded_bundle(), notice or (lambda _: None)
        gpu_layers = layers_on_gpu(options)  # before a folder is converted, which takes minutes
        path = usable_gguf(bundle, options.quant, notice)
        if not path.is_file():
            check_gguf(path)  # raises for it
        return cls._of_file(options, path, gpu_layers, notice, expected_bytes=_expected_bytes(bundle, path))

    @classmethod
    def _of_file(
        cls, options: EngineOptions, path: Path, gpu_layers: int | None, notice: Notice, **named: Any
    ) -> Self:
        """The model of a file, repacked or not; raises BundleError if it is not the bundle's."""
        bundle = options.loaded_bundle()
        repack = choose_repacking(
            options, path, is_on_gpu=gpu_layers != 0, is_large=is_large(path), notice=notice
        )
        model = cls(
            path,
            context=options.context or bundle.language.context,
            threads=options.threads,
            gpu_layers=gpu_layers,
            repack=repack,
            **named,
        )
        try:
            model._check_fits(bundle, path)
        except BundleError:
            model.close()
            raise
        return model

    def _check_fits(self, bundle: Bundle, path: Path) -> None:
        """Raise BundleError if the file is of another model than the bundle's."""
        language = bundle.language
        kind = "SentencePiece" if self.is_sentencepiece else "byte-level"
        is_byte_level = isinstance(template_named(bundle.template), SmolLM2)
        wanted_kind = "byte-level" if is_byte_level else "SentencePiece"
        for what, found, wanted in (
            ("architecture", self.architecture, language.architecture),
            ("width", self.width, language.width),
            ("kind of vocabulary", kind, wanted_kind),
        ):
            if found != wanted:
                raise BundleError(
                    f"The language model {path} has the {what} {found}, but the bundle '{bundle.name}' "
                    f"says {wanted}."
                )
        if language.geometry is None:
            return
        tokens = language.geometry.vocabulary
        if not tokens <= self.vocabulary_size < tokens + MORE_TOKENS:
            raise BundleError(
                f"The language model {path} has a vocabulary of {self.vocabulary_size} tokens, but the "
                f"bundle '{bundle.name}' says {tokens}."
            )

    @property
    def choices(self) -> Mapping[str, str]:
        return {"repack": str(self.repack)}

    def tokenize(self, *texts: Text) -> list[int]:
        self._open_vocabulary()
        if self._llama_text is not None:
            return self._llama_text(*texts)
        return [token for text in texts for token in self._cut(text.text, text.control)]

    def _cut(self, text: str, control: bool) -> list[int]:
        """Token ids of one text; control tokens in it are recognised only if `control` is true."""
        data = encodable(text).encode()
        most = len(data) + 2  # a token is one byte at least; a prefix space may come first
        tokens = (ctypes.c_int32 * most)()
        count = self._api.llama_tokenize(
            self._open_vocabulary(), data, len(data), tokens, most, False, control
        )
        if count < 0:
            raise BackendError("llama.cpp cannot read this text; it may be too long.")
        return list(tokens[:count])

    def piece(self, token: int) -> bytes:
        buffer = ctypes.create_string_buffer(256)
        count = self._api.llama_token_to_piece(self._open_vocabulary(), token, buffer, len(buffer), 0, False)
        return buffer.raw[: max(count, 0)]

    def is_end(self, token: int) -> bool:
        # Not llama_vocab_is_eog, which accepts any token spelt like some family's end, even <reponame>.
        return token in self._ends

    def slots(self, count: int, positions: int) -> LlamaCppSlots | None:
        if not self.decodes_together:
            return None
        return LlamaCppSlots.open(
            self._api,
            self._model,
            self._new_context,
            self._positions,
            count=count,
            positions=min(positions, self.context),
            least_batch=self._least_batch,
            drops_decoded=self._drops_decoded,
            needs_companion=self._needs_companion,
        )

    def close(self) -> None:
        self._cached.clear()
        self._states.clear()
        self._close()

    def _crop_cache(self, length: int) -> None:
        if self._close.alive:
            self._api.llama_memory_seq_rm(self._memory, SEQUENCE, length, -1)

    def _copy_cache(self) -> NDArray[np.uint8] | None:
        size = int(self._api.llama_state_seq_get_size(self._context, SEQUENCE))
        return copy_sequence(self._context, SEQUENCE, size) if has_room(size) else None

    def _restore_cache(self, copy: NDArray[np.uint8]) -> bool:
        if restore_sequence(self._context, SEQUENCE, copy):
            return True
        self._crop_cache(0)
        return False

    def _forward(self, positions: Positions, cancelled: Cancelled) -> NDArray[np.float32] | None:
        self._open_vocabulary()
        start = len(self._cached)
        is_lone = is_decoded(positions.keys[0])
        least = 1 if is_lone else self._least_batch
        for run in positions.runs:  # one batch holds either tokens or vectors
            is_padded = len(run) < least
            batch = self._batch(run, start, max(len(run), least), least)
            if is_lone and self._needs_companion:
                self._add_companion(batch)
            with self._abort.when(cancelled, len(run)):
                status = self._api.llama_decode(self._context, batch)
            if self._needs_companion:
                self._api.llama_memory_seq_rm(self._memory, COMPANION, 0, -1)
            if status == ABORTED:  # the library has removed the batch from the cache
                return None
            if status != 0:
                raise BackendError(
                    f"llama.cpp failed to compute {len(run)} positions ({status}).{last_error()}"
                )
            start += len(run)
            if is_padded:
                self._crop_cache(start)
        logits = self._api.llama_get_logits_ith(self._context, len(run) - 1)
        return np.ctypeslib.as_array(logits, shape=(self.vocabulary_size,)).copy()

    def _batch(self, run: Run, start: int, size: int, logits: int) -> Any:
        """A run as a llama_batch, a lone position repeated up to `size`; the last rows get logits."""
        if isinstance(run, list):
            batch = self._token_batch
            for place, token in enumerate((run * size)[:size]):
                batch.token[place] = token
        else:
            batch = self._vector_batch
            given_ND = run.vectors_ND if isinstance(run, ImageRun) else run
            vectors_ND = np.ascontiguousarray(np.resize(given_ND, (size, self.width)), dtype=np.float32)
            ctypes.memmove(batch.embd, vectors_ND.ctypes.data, vectors_ND.nbytes)
        batch.n_tokens = size
        for place in range(size):
            batch.pos[place] = start + place
            batch.n_seq_id[place] = 1
            batch.seq_id[place][0] = SEQUENCE
            batch.logits[place] = place >= size - logits
        return batch

    def _add_companion(self, batch: Any) -> None:
        """Let another sequence begin with the lone token of a batch."""
        place = batch.n_tokens
        batch.token[place] = batch.token[0]
        batch.pos[place] = 0
        batch.n_seq_id[place] = 1
        batch.seq_id[place][0] = COMPANION
        batch.logits[place] = True
        batch.n_tokens = place + 1

    def _open_vocabulary(self) -> Any:
        if not self._close.alive:
            raise BackendError("The language model has been closed; load it again.")
        return self._vocabulary

    def _tune(self, parameters: Any) -> None:
        """Change a new context's parameters; overridden for models that need others."""

    def _new_context(self, positions: int, sequences: int) -> Any:
        """A context in which each sequence has a separate KV cache of `positions` positions."""
        parameters = self._api.llama_context_default_params()
        # One more for the copy after a lone last position.
        parameters.n_ctx = (positions + 1) * sequences
        parameters.n_seq_max = sequences
        parameters.kv_unified = False
        if not self._is_large:
            parameters.flash_attn_type = FLASH_ATTENTION_OFF
        parameters.n_batch = parameters.n_ubatch = CHUNK
        parameters.n_threads = parameters.n_threads_batch = self._threads
        self._tune(parameters)
        context = self._api.llama_init_from_model(self._model, parameters)
        if not context:
            raise BackendError(
                f"llama.cpp cannot make a context of {positions} positions; memory may be short."
                f"{last_error()}"
            )
        return context


def is_large(gguf: Path) -> bool:
    """Whether speed matters more than the same bits from every split of a prompt."""
    return gguf.stat().st_size >= LARGE_BYTES


def _expected_bytes(bundle: Bundle, path: Path) -> int | None:
    """The size in the manifest, if the file is the manifest's and the size is stated."""
    own = bundle.language.gguf
    return own.bytes if own is not None and path_of(own, bundle) == path else None


def _metadata(api: Any, model: Any, key: str) -> str:
    buffer = ctypes.create_string_buffer(256)
    count = api.llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
    return buffer.value.decode("utf-8", "replace") if count >= 0 else ""


def _free(native: list[tuple[Any, Any]]) -> None:
    while native:
        free, thing = native.pop()
        free(thing)
