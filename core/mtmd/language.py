"""llama.cpp with pictures of any family, also with grid positions or without a causal mask.

A picture comes as vectors with a layout (`ImageEmbedding.layout`), made by libmtmd or by a tower of ours.
Vectors of M-RoPE have four positions each, and the text after them continues at the largest, so the
context's positions are not those of the KV cache's cells.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.download.fetch import Notice
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.errors import BackendError, BundleError
from minigpt4.core.language.base import CHUNK, Cancelled
from minigpt4.core.language.gguf_vocabulary import GgufVocabulary
from minigpt4.core.language.kept_states import Key, is_decoded
from minigpt4.core.language.llama_abort import ABORTED, Abort
from minigpt4.core.language.llamacpp import (
    NOT_REPACKED,
    SEQUENCE,
    LlamaCppLanguageModel,
)
from minigpt4.core.language.load import choose_backend, layers_on_gpu
from minigpt4.core.language.positions import ImageRun, Positions
from minigpt4.core.language.repack_choice import RepackChoice
from minigpt4.core.types import ImageEmbedding, PromptPiece, Stretch, Text
from minigpt4.core.weights.gguf.facts import LanguageFacts, language_facts
from minigpt4.core.weights.gguf.header import GgufHeader, read_header
from minigpt4.core.weights.gguf.to_hf import check_gguf
from minigpt4.core.weights.llama_library import last_error
from minigpt4.core.weights.locate import check_own_files, choose_gguf

if TYPE_CHECKING:
    from minigpt4.core.bundles.bundle import Bundle

PLANES = 4
"""Position components of a vector in M-RoPE: time, row, column and an unused one."""

SMALL_CACHE = 64 << 20
"""Bytes up to which a key/value cache is kept in float32; 16 bits move logits by up to 2e-3."""

GGML_TYPE_F32 = 0
TOKENS = "tokenizer.ggml.tokens"
MROPE = ("LLAMA_ROPE_TYPE_MROPE", "LLAMA_ROPE_TYPE_IMROPE")


class LlamaCppWithImages(LlamaCppLanguageModel):
    """A language GGUF whose pictures come from its mmproj."""

    decodes_together = False  # pictures with layouts are not computed side by side

    def __init__(
        self,
        gguf: Path,
        *,
        context: int,
        threads: int | None = None,
        gpu_layers: int | None = 0,
        repack: RepackChoice = NOT_REPACKED,
    ) -> None:
        """Open the model; raises as the base class does."""
        check_gguf(gguf)
        header = read_header(gguf)
        self.facts: LanguageFacts = language_facts(gguf, header)
        self.vocabulary_digest = _list_digest(gguf, header, TOKENS)
        """Identifies the vocabulary."""
        self._most_at_once = CHUNK
        self._counted = (0, 0)
        super().__init__(gguf, context=context, threads=threads, gpu_layers=gpu_layers, repack=repack)
        self.width = int(self._api.llama_model_n_embd_inp(self._model))
        self.has_grid_positions = self._api.llama_model_rope_type(self._model) in {
            getattr(self._api, name) for name in MROPE
        }
        if self._api.llama_model_is_recurrent(self._model) or self._api.llama_model_is_hybrid(self._model):
            # A recurrent state cannot be rewound, neither over a padded lone position nor over an answer.
            self._least_batch, self._drops_decoded = 1, False
        self.vocabulary = GgufVocabulary(self._api, self._vocabulary)

    @classmethod
    def load(cls, options: EngineOptions, *, notice: Notice | None = None) -> Self:
        """Load the language model of a bundle of two GGUF files; raises BundleError for another model."""
        bundle = options.loaded_bundle()
        choose_backend(options)  # refuses torch
        check_own_files(bundle)
        path = choose_gguf(bundle, options.quant)
        if path is None:
            raise BundleError(
                f"The language model of '{bundle.name}' is not here; fetch it with "
                f"`minigpt4 models pull {bundle.name}`, or import it again if it was a file of your own."
            )
        return cls._of_file(options, path, layers_on_gpu(options), notice or (lambda _: None))

    def _check_fits(self, bundle: Bundle, path: Path) -> None:
        """Raise BundleError if the file is of another model than the bundle's."""
        language = bundle.language
        for what, found, wanted in (
            ("architecture", self.architecture, language.architecture),
            ("width", self.facts.width, language.width),
        ):
            if found != wanted:
                raise BundleError(
                    f"The language model {path} has the {what} {found}, but the bundle '{bundle.name}' says "
                    f"{wanted}; import it again with `minigpt4 models import {bundle.name} --force`."
                )

    @property
    def model(self) -> Any:
        """The library's own handle."""
        self._open_vocabulary()
        return self._model

    def tokenize(self, *texts: Text) -> list[int]:
        self._open_vocabulary()
        return self.vocabulary.tokenize(*texts)

    def piece(self, token: int) -> bytes:
        self._open_vocabulary()
        return self.vocabulary.piece(token)

    def is_end(self, token: int) -> bool:
        return self.vocabulary.is_end(token)

    def raw_tokens(self, text: str, *, is_first: bool) -> list[int]:
        """Tokens of a raw prompt's text between two pictures, as in libmtmd: control tokens are parsed.

        The first part begins with the BOS if the vocabulary asks for one.
        """
        begin = is_first and self._api.llama_vocab_get_add_bos(self._open_vocabulary())
        bos = [int(self._api.llama_vocab_bos(self._vocabulary))] if begin else []
        return bos + (self._cut(text, True) if text else [])

    def compute_lone_positions_alone(self) -> None:
        """Compute as other programs do; logits then depend on how a prompt is split (LEAST_BATCH)."""
        self._least_batch = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def has_token(self, text: str) -> bool:
        """Whether the vocabulary has a token with this text."""
        return len(self._cut(text, True)) == 1

    def _positions(self, prompt: Sequence[PromptPiece]) -> Positions:
        positions = super()._positions(prompt)
        apart = [
            part.vectors
            for piece in prompt
            if isinstance(piece, ImageEmbedding)
            for part in piece.layout
            if isinstance(part, Stretch) and not part.is_causal
        ]
        if max(apart, default=0) > self._most_at_once:
            self._make_room(max(apart))
        return positions

    def _make_room(self, vectors: int) -> None:
        """Recreate the context so that it computes a picture of so many vectors in one batch.

        llama.cpp aborts the process if a non-causal picture is larger than its batch.
        """
        self.reset()
        self._most_at_once = max(vectors, CHUNK)
        place = next(place for place, (_, thing) in enumerate(self._native) if thing is self._context)
        self._api.llama_free(self._native.pop(place)[1])
        try:
            self._context = self._new_context(self.context, 1)
        except BackendError:
            self.close()
            raise
        self._native.insert(place, (self._api.llama_free, self._context))
        self._memory = self._api.llama_get_memory(self._context)
        self._abort = Abort(self._api, self._context)

    def _chunks(self, positions: Positions) -> Iterator[Positions]:
        """Parts of CHUNK positions, longer only where a non-causal picture must not be split."""
        start = first = 0
        for run in positions.runs:
            end = first + len(run)
            if isinstance(run, ImageRun) and not run.stretch.is_causal:
                if first > start:
                    yield from super()._chunks(positions[start:first])
                yield positions[first:end]
                start = end
            first = end
        if start < len(positions):
            yield from super()._chunks(positions[start:])

    def _forward(self, positions: Positions, cancelled: Cancelled) -> NDArray[np.float32] | None:
        self._open_vocabulary()
        place = self._next_place()
        least = 1 if is_decoded(positions.keys[0]) else self._least_batch
        for run in positions.runs:
            size = max(len(run), least)
            if isinstance(run, ImageRun):
                first = place - run.stretch.positions if run.first else place
                if not self._compute_image(run, first, cancelled):
                    return None
                place = first + run.stretch.positions
                continue
            if not self._compute(self._batch(run, place, size, least), len(run), cancelled):
                return None
            place += len(run)
            if size > len(run):
                self._drop(place)
        logits = self._api.llama_get_logits_ith(self._context, len(run) - 1)
        return np.ctypeslib.as_array(logits, shape=(self.vocabulary_size,)).copy()

    def _compute(self, batch: Any, positions: int, cancelled: Cancelled) -> bool:
        """Compute a batch; False if it was cancelled."""
        with self._abort.when(cancelled, positions):
            status = self._api.llama_decode(self._context, batch)
        if status not in (0, ABORTED):
            raise BackendError(f"llama.cpp failed to compute {positions} positions ({status}).{last_error()}")
        return bool(status == 0)

    def _compute_image(self, run: ImageRun, place: int, cancelled: Cancelled) -> bool:
        """Compute a picture whose first vector is at `place`, or a part of it; False if it was cancelled."""
        image = _ImageBatch(self._api, run, place)
        if run.stretch.is_causal:
            return self._compute(image.batch, len(run), cancelled)
        self._api.llama_set_causal_attn(self._context, False)
        try:
            return self._compute(image.batch, len(run), cancelled)
        finally:
            self._api.llama_set_causal_attn(self._context, True)

    def _crop_cache(self, length: int) -> None:
        if not self._close.alive:
            return
        self._counted = (length, _places(self._cached[:length]))
        if not self._drop(self._counted[1]):
            # A recurrent state has no positions to drop; the caller computes everything again.
            self._cached.clear()
            self._counted = (0, 0)
            self._api.llama_memory_clear(self._memory, True)

    def _restore_cache(self, copy: NDArray[np.uint8]) -> bool:
        self._counted = (0, 0)
        return super()._restore_cache(copy)

    def _next_place(self) -> int:
        """The position after all cells; only cells added since the last call are counted."""
        cells, place = self._counted
        place += _places(self._cached[cells:])
        self._counted = (len(self._cached), place)
        return place

    def _drop(self, place: int) -> bool:
        """Remove everything from a position on; False if that is impossible."""
        return bool(self._api.llama_memory_seq_rm(self._memory, SEQUENCE, place, -1))

    def _tune(self, parameters: Any) -> None:
        parameters.n_batch = parameters.n_ubatch = self._most_at_once
        if self.facts.cache_bytes(self.context, 4) <= SMALL_CACHE:
            parameters.type_k = parameters.type_v = GGML_TYPE_F32


class _ImageBatch:
    """Vectors as a llama_batch with its own memory: the library's does not hold four positions per vector."""

    def __init__(self, api: Any, run: ImageRun, place: int) -> None:
        count = len(run)
        self._vectors_ND = np.ascontiguousarray(run.vectors_ND, dtype=np.float32)
        offsets_4N = run.stretch.offsets_4N
        if offsets_4N is None:
            positions = np.arange(place + run.first, place + run.first + count, dtype=np.int32)
        else:
            positions = offsets_4N[:, run.first : run.first + count].astype(np.int32)
            positions[: PLANES - 1] += place
        self._positions = np.ascontiguousarray(positions)
        self._counts = np.ones(count, np.int32)
        self._sequence = (ctypes.c_int32 * 1)(SEQUENCE)
        sequence = ctypes.cast(self._sequence, ctypes.POINTER(ctypes.c_int32))
        self._sequences = (ctypes.POINTER(ctypes.c_int32) * count)(*[sequence] * count)
        self._logits = np.zeros(count, np.int8)
        self._logits[-1] = 1

        def pointer(array: NDArray[Any], kind: Any) -> Any:
            return array.ctypes.data_as(ctypes.POINTER(kind))

        self.batch = api.llama_batch(
            count,
            None,
            pointer(self._vectors_ND, ctypes.c_float),
            pointer(self._positions, ctypes.c_int32),
            pointer(self._counts, ctypes.c_int32),
            self._sequences,
            pointer(self._logits, ctypes.c_int8),
        )


def _list_digest(path: Path, header: GgufHeader, name: str) -> str:
    start, end = header.places.get(name, (0, 0))
    with path.open("rb") as file:
        file.seek(start)
        return hashlib.sha256(file.read(end - start)).hexdigest()


def _places(keys: Sequence[Key]) -> int:
    """How many positions the cells with these keys take."""
    return sum(1 if isinstance(key, int) or len(key) == 2 else 0 if key[1] else key[2] for key in keys)
