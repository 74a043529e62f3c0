"""Check on a tiny file whether the installed libmtmd computes towers with a class token correctly."""

from __future__ import annotations

import ctypes
import functools
import json
import logging
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from minigpt4.core.bundles.geometry import ClipGeometry, clip_shapes
from minigpt4.core.download.checksum_note import sha256_of
from minigpt4.core.errors import BundleError
from minigpt4.core.llava.encoder import LlavaEncoder
from minigpt4.core.llava.mmproj import Mmproj, has_class_row, read_mmproj, read_mmproj_header
from minigpt4.core.llava.mmproj_writer import write_mmproj
from minigpt4.core.projection import Projection
from minigpt4.core.storage.atomic import replacing
from minigpt4.core.storage.paths import cache_home
from minigpt4.core.weights.llama_library import load_mtmd

VERSION = 1
"""Raise it when the trial changes; results of earlier versions are then ignored."""

SIZE, PATCH, WIDTH = 28, 7, 32
TINY = ClipGeometry(
    width=WIDTH, depth=2, heads=2, mlp=64, patch=PATCH, eps=1e-5, activation="quick_gelu", class_row=True
)
TOLERANCE = 0.02
"""Largest difference, relative to the largest value. Rounding in libmtmd makes 5e-4, the bug 0.5."""

log = logging.getLogger(__name__)


def own_encoder(mmproj: Path, *, device: str = "cpu") -> LlavaEncoder | None:
    """The torch encoder for an mmproj that libmtmd would compute wrongly; None if libmtmd is correct.

    Raises BundleError for a damaged file, and for one that neither computes correctly.
    """
    own = own_mmproj(mmproj)
    return None if own is None else LlavaEncoder(own, device=device)


def own_mmproj(mmproj: Path) -> Mmproj | None:
    """The mmproj that `own_encoder` would load, without loading weights; raises the same errors."""
    if not has_class_row(read_mmproj_header(mmproj)):
        return None
    is_right = library_is_right()
    try:
        own = read_mmproj(mmproj)
    except BundleError as error:
        if is_right:
            return None
        raise BundleError(
            f"{error} The installed libmtmd computes towers with a class token wrongly, and LLaVA-1.5's form "
            "is the only one that is computed here instead."
        ) from error
    if is_right and own.geometry.depth == own.blocks_in_library:
        return None
    return own


@functools.cache
def library_is_right() -> bool:
    """Whether libmtmd's embeddings of a picture match those of the torch tower.

    The result is cached by the library's checksum. A library that cannot open the file
    counts as wrong. Raises BackendError if llama-cpp-python cannot be imported.
    """
    note = cache_home() / "libmtmd" / f"{_library_digest()}.json"
    try:
        remembered = json.loads(note.read_bytes())["class_row"]
    except (OSError, ValueError, LookupError, TypeError):
        remembered = None
    if isinstance(remembered, bool):
        return remembered
    is_right = _try_tiny_file()
    try:
        with replacing(note) as draft:
            draft.write_text(json.dumps({"class_row": is_right}))
    except OSError as error:
        log.warning("The result of a trial of libmtmd cannot be kept in %s: %s.", note, error)
    return is_right


def _library_digest() -> str:
    return f"{sha256_of(Path(load_mtmd()._libmtmd._name))[:16]}-{VERSION}"


def _try_tiny_file() -> bool:
    rng = np.random.default_rng(0)
    picture_HWC = rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mmproj.gguf"
        write_tiny(path)
        wanted_ND = LlavaEncoder(path)(picture_HWC)
        found_ND = libmtmd_embedding(path, picture_HWC, wanted_ND.shape)
    if found_ND is None:
        return False
    return bool(np.abs(found_ND - wanted_ND).max() < TOLERANCE * np.abs(wanted_ND).max())


def write_tiny(path: Path, geometry: ClipGeometry = TINY) -> None:
    """An mmproj of random weights, large enough that every patch and its position matter."""
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randn(shape, generator=generator) * (shape[-1] ** -0.5 if len(shape) == 2 else 0.3)
        + (1.0 if "norm" in name and name.endswith("weight") else 0.0)
        for name, shape in clip_shapes(geometry, SIZE).items()
    }
    tensors["embeddings.position_embedding.weight"] *= geometry.width**0.5
    projection = Projection(geometry.width, WIDTH, 2)
    with torch.no_grad():
        for tensor in projection.parameters():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * tensor.shape[-1] ** -0.5)
    gray = (0.5, 0.5, 0.5)
    write_mmproj(
        path, tensors, projection, geometry, image_size=SIZE, mean=gray, std=gray, name="trial of libmtmd"
    )


def libmtmd_embedding(
    mmproj: Path, picture_HWC: NDArray[np.uint8], shape: tuple[int, ...]
) -> NDArray[np.float32] | None:
    """The library's own embedding of that shape; None if it rejects the file or returns another shape."""
    library = load_mtmd()
    options = library.mtmd_context_params_default()
    options.use_gpu = options.print_timings = options.warmup = False
    options.n_threads = 1
    context = library.mtmd_init_from_file(os.fsencode(mmproj), None, options)
    if not context:
        return None
    height, width, _ = picture_HWC.shape
    pixels = (ctypes.c_uint8 * picture_HWC.size).from_buffer_copy(picture_HWC.tobytes())
    bitmap = library.mtmd_bitmap_init(width, height, pixels)
    chunks = library.mtmd_input_chunks_init()
    try:
        marker = library.mtmd_default_marker()
        text = library.mtmd_input_text(marker, len(marker), False, False)
        bitmaps = (library.mtmd_bitmap_p_ctypes * 1)(bitmap)
        if library.mtmd_tokenize(context, chunks, ctypes.byref(text), bitmaps, 1) != 0:
            return None
        chunk = library.mtmd_input_chunks_get(chunks, 0)
        if library.mtmd_input_chunk_get_n_tokens(chunk) != shape[0] or library.mtmd_encode_chunk(
            context, chunk
        ):
            return None
        found: NDArray[np.float32] = np.ctypeslib.as_array(
            library.mtmd_get_output_embd(context), shape
        ).copy()
        return found
    finally:
        library.mtmd_input_chunks_free(chunks)
        library.mtmd_bitmap_free(bitmap)
        library.mtmd_free(context)
