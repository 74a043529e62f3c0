"""An mmproj opened by libmtmd beside its language model: a picture -> its vectors and their layout."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from minigpt4.core.errors import BackendError, BundleError, ContextError, ImageError
from minigpt4.core.types import LaidOut, Layout, Stretch
from minigpt4.core.weights.gguf.facts import MmprojFacts
from minigpt4.core.weights.llama_library import forget_errors, last_error, load_mtmd

if TYPE_CHECKING:
    from minigpt4.core.mtmd.language import LlamaCppWithImages

MARKER = b"<__media__>"

MOST_SCORES = 256 << 20
"""Most bytes of one layer's attention scores for plain attention; Gemma 3's take 1 GiB."""

FLASH_AUTO, FLASH_OFF = -1, 0
MOST_FIRST = 64
"""Requests for fewer image tokens than this may be below the file's own minimum, so that is lowered to 1."""


class Mmproj:
    """An opened mmproj; an object belongs to one thread at a time."""

    def __init__(
        self,
        facts: MmprojFacts,
        language: LlamaCppWithImages,
        *,
        threads: int,
        use_gpu: bool = False,
        image_tokens: int | None = None,
        plain_attention: bool = False,
    ) -> None:
        """`image_tokens`: the approximate maximum per picture; None: the file's own rule.

        The library's default is flash attention, which is faster (SmolVLM-500M's tower: 1.2 times) and
        moves vectors by up to 8e-4 of the largest; `plain_attention` materialises the scores instead, if
        they take at most MOST_SCORES. Raises BundleError if the library rejects the file, or if it belongs
        to another model.
        """
        self._facts = facts
        self._api = load_mtmd()
        parameters = self._api.mtmd_context_params_default()
        parameters.use_gpu = use_gpu
        parameters.print_timings = parameters.warmup = False
        parameters.n_threads = threads
        parameters.media_marker = MARKER
        is_plain = plain_attention and facts.attention_bytes <= MOST_SCORES
        parameters.flash_attn_type = FLASH_OFF if is_plain else FLASH_AUTO
        if image_tokens is not None:
            parameters.image_max_tokens = image_tokens
            if image_tokens < MOST_FIRST:
                parameters.image_min_tokens = 1
        forget_errors()
        self._context = self._api.mtmd_init_from_file(os.fsencode(facts.path), language.model, parameters)
        if not self._context:
            raise BundleError(
                f"llama.cpp cannot use {facts.path} with this language model: it is of a kind that the "
                f"installed one does not know, or belongs to another model.{last_error()}"
            )
        self._close = weakref.finalize(self, self._api.mtmd_free, self._context)
        self._width, self._room = language.width, language.context
        self._uses_grid = bool(self._api.mtmd_decode_use_mrope(self._context))
        if self._uses_grid != language.has_grid_positions:
            self.close()
            raise BundleError(
                f"{facts.path} and {language.facts.path} belong to different models: one of them has M-RoPE, "
                "whose pictures lie on a grid of positions, and the other has not; take both from one "
                "release."
            )

    def close(self) -> None:
        """Free its memory; encoding afterwards raises BackendError."""
        self._close()

    def layout(self, image: Image.Image) -> Layout:
        """The picture's layout in a prompt, without computing its vectors; raises as `encode`."""
        return self._read(image, None)

    def encode(self, image: Image.Image) -> LaidOut:
        """A picture's vectors (N, D), of all tiles in the order of the prompt, and their layout.

        Raises ImageError for a picture that the library rejects and, before computing anything, ContextError
        for one that alone exceeds the context; BackendError if the library fails.
        """
        vectors: list[NDArray[np.float32]] = []
        layout = self._read(image, lambda chunk: vectors.append(self._encoded(chunk)))
        tokens_ND = np.concatenate(vectors)
        if not np.isfinite(tokens_ND).all():
            raise BackendError(
                f"The vision side {self._facts.path} gave values that are not finite; its weights are "
                "damaged: fetch it again."
            )
        return tokens_ND, layout

    def _read(self, image: Image.Image, encode: Callable[[Any], None] | None) -> Layout:
        if not self._close.alive:
            raise BackendError("The vision side has been closed; load the model again.")
        chunks = self._api.mtmd_input_chunks_init()
        try:
            self._tokenize(image, chunks)
            count = self._api.mtmd_input_chunks_size(chunks)
            parts = [self._api.mtmd_input_chunks_get(chunks, place) for place in range(count)]
            layout = tuple(self._part(chunk) for chunk in parts)
            if not any(isinstance(part, Stretch) for part in layout):
                raise ImageError("The model's vision side sees nothing in this picture; it may be too small.")
            if encode is not None:
                self._check_room(image, layout)
                for chunk, part in zip(parts, layout, strict=True):
                    if isinstance(part, Stretch):
                        encode(chunk)
        finally:
            self._api.mtmd_input_chunks_free(chunks)
        return layout

    def _part(self, chunk: Any) -> tuple[int, ...] | Stretch:
        kind = self._api.mtmd_input_chunk_get_type(chunk)
        if kind == self._api.MTMD_INPUT_CHUNK_TYPE_TEXT:
            return self._marks(chunk)
        if kind == self._api.MTMD_INPUT_CHUNK_TYPE_IMAGE:
            return self._stretch(chunk)
        raise BundleError(f"{self._facts.path} encodes a picture as audio; it cannot be used.")

    def _check_room(self, image: Image.Image, layout: Layout) -> None:
        taken = sum(part.vectors if isinstance(part, Stretch) else len(part) for part in layout)
        if taken >= self._room:
            tiles = sum(isinstance(part, Stretch) for part in layout)
            each = max(taken // tiles, 1)
            in_tiles = f" in {tiles} tiles, of which {self._room // each} fit" if tiles > 1 else ""
            raise ContextError(
                f"A picture of {image.width}x{image.height} pixels takes {taken} tokens{in_tiles}; the "
                f"context has {self._room}. Give a larger `--context`, `--image-tokens {self._room // 2}` or "
                "a smaller picture."
            )

    def _tokenize(self, image: Image.Image, chunks: Any) -> None:
        api, rgb = self._api, image.convert("RGB")
        data = np.asarray(rgb, np.uint8).ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        bitmap = api.mtmd_bitmap_init(rgb.width, rgb.height, data)
        try:
            text = api.mtmd_input_text(MARKER, len(MARKER), False, True)
            bitmaps = (api.mtmd_bitmap_p_ctypes * 1)(bitmap)
            forget_errors()
            status = api.mtmd_tokenize(self._context, chunks, ctypes.byref(text), bitmaps, 1)
        finally:
            api.mtmd_bitmap_free(bitmap)
        if status != 0:
            raise ImageError(
                f"The model's vision side cannot take a picture of {image.width}x{image.height} pixels; "
                f"scale or crop it.{last_error()}"
            )

    def _marks(self, chunk: Any) -> tuple[int, ...]:
        count = ctypes.c_size_t()
        tokens = self._api.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
        return tuple(tokens[: count.value])

    def _stretch(self, chunk: Any) -> Stretch:
        api = self._api
        tokens = api.mtmd_input_chunk_get_tokens_image(chunk)
        count = int(api.mtmd_input_chunk_get_n_tokens(chunk))
        offsets_4N = None
        if self._uses_grid:
            places = [api.mtmd_image_tokens_get_decoder_pos(tokens, 0, index) for index in range(count)]
            offsets_4N = np.array([(one.t, one.y, one.x, one.z) for one in places], np.int32).T
        return Stretch(
            count,
            int(api.mtmd_input_chunk_get_n_pos(chunk)),
            offsets_4N,
            is_causal=not api.mtmd_decode_use_non_causal(self._context, chunk),
        )

    def _encoded(self, chunk: Any) -> NDArray[np.float32]:
        count = int(self._api.mtmd_input_chunk_get_n_tokens(chunk))
        forget_errors()
        status = self._api.mtmd_encode_chunk(self._context, chunk)
        if status != 0:
            raise BackendError(f"llama.cpp failed to encode the picture ({status}).{last_error()}")
        output = self._api.mtmd_get_output_embd(self._context)
        # The library owns this memory and reuses it for the next picture.
        return np.ctypeslib.as_array(output, shape=(count, self._width)).copy()


def library_version() -> str:
    """The library's version, which decides a picture's vectors, for cache keys."""
    from importlib.metadata import version

    return version("llama-cpp-python")
