"""Write safetensors in pieces: memory holds one tensor at a time, however large the file.

Unlike `save_file` of the safetensors package it computes the SHA-256 while writing and reports progress.
Needs no torch before a torch tensor is written. Layout: https://huggingface.co/docs/safetensors
(8 bytes of length, then JSON, then the tensors).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.download.checksum_note import Checksum
from minigpt4.core.errors import BundleError
from minigpt4.core.storage.atomic import replacing

if TYPE_CHECKING:
    from torch import Tensor

ALIGNMENT = 8
DTYPES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64"}
"""Float types by their name in torch, and in the format."""

BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I8": 1, "U8": 1}

METADATA = {"format": "pt"}
"""Required by the transformers library."""

TensorInfo = tuple[str, str, Sequence[int]]
"""Name, dtype such as "F16", and shape."""


def write_safetensors(
    path: Path,
    tensors: Sequence[TensorInfo],
    content: Iterable[NDArray[Any]],
    written: Callable[[memoryview], object] = lambda _: None,
) -> None:
    """Write these tensors in this order; `content` yields their values, in pieces of any length.

    `written` is called with the bytes of every piece, the header first.
    """
    header = np.frombuffer(_header(tensors), np.uint8)
    with path.open("wb") as file:
        for array in itertools.chain([header], content):
            piece = array.reshape(-1).view(np.uint8).data
            file.write(piece)
            written(piece)


def safetensors_bytes(tensors: Sequence[TensorInfo]) -> int:
    """The size of the file that `write_safetensors` writes."""
    return len(_header(tensors)) + sum(map(_bytes, tensors))


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], written: Callable[[int], None] = lambda _: None
) -> Checksum:
    """Write torch's float tensors to `path` atomically; returns its size and SHA-256.

    `written` is called with the number of bytes so far. Raises BundleError for a tensor that holds no
    floats, OSError if the file cannot be written.
    """
    plan = _plan(tensors)
    digest, done = hashlib.sha256(), 0

    def track(piece: memoryview) -> None:
        nonlocal done
        digest.update(piece)
        done += len(piece)
        written(done)

    with replacing(path) as draft:
        write_safetensors(draft, plan, (bytes_of(tensors[name]) for name, _, _ in plan), track)
    return Checksum(done, digest.hexdigest())


def file_bytes(tensors: Mapping[str, Tensor]) -> int:
    """The size of the file that `write_tensors` writes. Raises BundleError as it does."""
    return safetensors_bytes(_plan(tensors))


def bytes_of(tensor: Tensor) -> NDArray[Any]:
    """A torch tensor's values as bytes, because NumPy has no bfloat16."""
    import torch

    array: NDArray[Any] = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return array


def _header(tensors: Sequence[TensorInfo]) -> bytes:
    entries: dict[str, object] = {"__metadata__": METADATA}
    end = 0
    for tensor in tensors:
        name, dtype, shape = tensor
        start, end = end, end + _bytes(tensor)
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _bytes(tensor: TensorInfo) -> int:
    _, dtype, shape = tensor
    return BYTES[dtype] * math.prod(shape)


def _plan(tensors: Mapping[str, Tensor]) -> list[TensorInfo]:
    """Wide types first, so that every tensor begins at a multiple of its own element's size."""
    plan: list[TensorInfo] = []
    for name in sorted(tensors, key=lambda name: (-tensors[name].element_size(), name)):
        dtype = str(tensors[name].dtype).removeprefix("torch.")
        if dtype not in DTYPES:
            raise BundleError(
                f"The tensor '{name}' holds {dtype}, not one of {', '.join(DTYPES)}; "
                "give weights that are not quantised."
            )
        plan.append((name, DTYPES[dtype], tensors[name].shape))
    return plan
