"""The llama.cpp backend, through the C interface of llama-cpp-python.

The C interface and not the package's `Llama` class: a picture's vectors go in through
`llama_batch.embd`, which the class does not offer.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import itertools
import os
import weakref
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.errors import BackendError, BundleError
from minigpt4.core.fetch import path_of
from minigpt4.core.language.cached import CHUNK, END_TOKENS, CachedLanguageModel, Position, encodable
from minigpt4.core.language.gguf import check_gguf, fetch_again

if TYPE_CHECKING:
    from minigpt4.core.bundle import Bundle

INSTALL = "pip install 'minigpt4[llama]'"
ALL_LAYERS = 999
LOG_ERROR = 4
SEQUENCE = 0
FLASH_ATTENTION_OFF = 0

LEAST_BATCH = 2
"""Fewest positions, and rows of logits, computed at once; a lone position is followed by a copy,
which is dropped straight after.

A lone position takes other kernels, whose logits differ by up to 1 from those of the same position
in a prompt (flash attention: by as much between any two chunkings). With this rule and flash
attention off, logits are the same bit for bit however a prompt is cut, so a reused cache never
changes a greedy answer. It costs a quarter of the decoding speed (35 instead of 47 tokens a second
on one core).
"""

_complaints: deque[str] = deque(maxlen=3)
"""The library's last error lines, for the sentence that a person reads."""

_callbacks: list[Any] = []
"""Keeps the log callback alive; the library holds only its address."""


@functools.cache
def load_library() -> Any:
    """llama-cpp-python's C interface, silenced; raises BackendError where it cannot be imported."""
    try:
        library = importlib.import_module("llama_cpp.llama_cpp")
    except (ImportError, OSError, RuntimeError) as error:  # the last two: a build for another machine
        raise BackendError(
            f"The llama.cpp backend needs llama-cpp-python, which cannot be imported ({error}); "
            f"install it with `{INSTALL}`, or use `--backend torch`."
        ) from error
    callback = library.llama_log_callback(_keep_complaint)
    _callbacks.append(callback)
    library.llama_log_set(callback, ctypes.c_void_p(0))
    library.llama_backend_init()
    return library


class LlamaCppLanguageModel(CachedLanguageModel):
    """A GGUF in llama.cpp, on the CPU or with all layers on a GPU."""

    def __init__(self, gguf: Path, *, context: int, threads: int | None = None, gpu: bool = False) -> None:
        """Raises BundleError where the file is damaged, BackendError where memory or a GPU is missing."""
        super().__init__()
        check_gguf(gguf)
        self._api = load_library()
        if gpu and not self._api.llama_supports_gpu_offload():
            raise BackendError(
                "The installed llama.cpp was built without support for a GPU; choose `--device cpu`."
            )
        model = self._load_model(gguf, gpu)
        native: list[tuple[Any, Any]] = [(self._api.llama_model_free, model)]
        self._close = weakref.finalize(self, _free, native)
        self._vocabulary = self._api.llama_model_get_vocab(model)
        self._vocabulary_size = self._api.llama_vocab_n_tokens(self._vocabulary)
        ends = [self.tokenize(text, control=True) for text in END_TOKENS]
        self._ends = {self._api.llama_vocab_eos(self._vocabulary)} | {e[0] for e in ends if len(e) == 1}
        self.width = int(self._api.llama_model_n_embd(model))
        self.context = context
        self._context = self._new_context(model, threads or _processors())
        native.append((self._api.llama_free, self._context))
        self._memory = self._api.llama_get_memory(self._context)
        self._token_batch = self._api.llama_batch_init(CHUNK, 0, 1)
        self._vector_batch = self._api.llama_batch_init(CHUNK, self.width, 1)
        native += [(self._api.llama_batch_free, b) for b in (self._token_batch, self._vector_batch)]

    @classmethod
    def load(
        cls, bundle: Bundle, *, device: str = "auto", threads: int | None = None, context: int | None = None
    ) -> LlamaCppLanguageModel:
        """The bundle's language model; `device` is "auto", "cpu" or "cuda"."""
        library = load_library()
        path = path_of(bundle.language.file, bundle)
        check_gguf(path, bundle.language.file.bytes)
        gpu = device.startswith("cuda") or (device == "auto" and library.llama_supports_gpu_offload())
        model = cls(path, context=context or bundle.language.context, threads=threads, gpu=gpu)
        if model.width != bundle.language.width:
            model.close()
            raise BundleError(
                f"The language model {path} has the width {model.width}, but the bundle '{bundle.name}' "
                f"says {bundle.language.width}."
            )
        return model

    def tokenize(self, text: str, *, control: bool) -> list[int]:
        data = encodable(text).encode()
        room = len(data) + 1  # a token stands for one byte at least
        tokens = (ctypes.c_int32 * room)()
        count = self._api.llama_tokenize(
            self._open_vocabulary(), data, len(data), tokens, room, False, control
        )
        if count < 0:
            raise BackendError("llama.cpp cannot read this text; it may be too long.")
        return list(tokens[:count])

    def piece(self, token: int) -> bytes:
        buffer = ctypes.create_string_buffer(256)
        count = self._api.llama_token_to_piece(self._open_vocabulary(), token, buffer, len(buffer), 0, False)
        return buffer.raw[: max(count, 0)]

    def is_end(self, token: int) -> bool:
        # Not llama_vocab_is_eog: it takes any token spelt like some family's end, here <reponame> too.
        return token in self._ends

    def close(self) -> None:
        self._slots.clear()
        self._close()

    def _keep(self, length: int) -> None:
        if self._close.alive:
            self._api.llama_memory_seq_rm(self._memory, SEQUENCE, length, -1)

    def _evaluate(self, positions: Sequence[Position]) -> NDArray[np.float32]:
        self._open_vocabulary()
        start = len(self._slots)
        # One batch holds either tokens or vectors.
        for _, run in itertools.groupby(positions, key=lambda position: position.vector_D is not None):
            part = list(run)
            is_padded = len(part) < LEAST_BATCH
            batch = self._batch(part * LEAST_BATCH if is_padded else part, start)
            status = self._api.llama_decode(self._context, batch)
            if status != 0:
                raise BackendError(f"llama.cpp failed to compute {len(part)} positions ({status}).{_why()}")
            start += len(part)
            if is_padded:
                self._keep(start)
        logits = self._api.llama_get_logits_ith(self._context, len(part) - 1)
        return np.ctypeslib.as_array(logits, shape=(self._vocabulary_size,)).copy()

    def _batch(self, part: Sequence[Position], start: int) -> Any:
        """Positions of one kind as the library reads them, with logits wanted of the last ones."""
        batch = self._token_batch
        if part[0].vector_D is not None:
            batch = self._vector_batch
            vectors = np.stack([position.vector_D for position in part if position.vector_D is not None])
            vectors = np.ascontiguousarray(vectors, dtype=np.float32)
            ctypes.memmove(batch.embd, vectors.ctypes.data, vectors.nbytes)
        batch.n_tokens = len(part)
        for place, position in enumerate(part):
            if isinstance(position.key, int):
                batch.token[place] = position.key
            batch.pos[place] = start + place
            batch.n_seq_id[place] = 1
            batch.seq_id[place][0] = SEQUENCE
            batch.logits[place] = place >= len(part) - LEAST_BATCH
        return batch

    def _open_vocabulary(self) -> Any:
        if not self._close.alive:
            raise BackendError("The language model has been closed; load it again.")
        return self._vocabulary

    def _load_model(self, gguf: Path, gpu: bool) -> Any:
        _complaints.clear()
        parameters = self._api.llama_model_default_params()
        parameters.n_gpu_layers = ALL_LAYERS if gpu else 0
        # Repacked for a CPU with AMX, Q4_1 weights crash the process (llama-cpp-python 0.3.36).
        parameters.use_extra_bufts = False
        model = self._api.llama_model_load_from_file(os.fsencode(gguf), parameters)
        if not model:
            raise BundleError(
                f"llama.cpp cannot load the language model {gguf}; it is damaged or of a kind that the "
                f"installed llama.cpp does not know. {fetch_again(gguf)}{_why()}"
            )
        return model

    def _new_context(self, model: Any, threads: int) -> Any:
        parameters = self._api.llama_context_default_params()
        parameters.n_ctx = self.context + 1  # room for the copy after a lone last position
        parameters.flash_attn_type = FLASH_ATTENTION_OFF
        parameters.n_batch = parameters.n_ubatch = CHUNK
        parameters.n_threads = parameters.n_threads_batch = threads
        context = self._api.llama_init_from_model(model, parameters)
        if not context:
            raise BackendError(
                f"llama.cpp cannot make a context of {self.context} positions; memory may be short.{_why()}"
            )
        return context


def _processors() -> int:
    """How many this process may use, where the system tells (not on macOS and Windows)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _free(native: list[tuple[Any, Any]]) -> None:
    while native:
        free, thing = native.pop()
        free(thing)


def _keep_complaint(level: int, text: bytes, user_data: object) -> None:
    if level == LOG_ERROR:
        _complaints.append(text.decode("utf-8", "replace").strip())


def _why() -> str:
    return f" It says: {_complaints[-1]}" if _complaints else ""
