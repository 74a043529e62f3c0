"""Writing safetensors tensor by tensor: memory holds one tensor's bytes, however large the file.

Unlike `safetensors.torch.save_file` it computes the SHA-256 while writing and reports progress.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from minigpt4.core.download.checksum_note import Checksum
from minigpt4.core.errors import BundleError
from minigpt4.core.storage.atomic import replacing
from minigpt4.core.weights.safetensors_header import METADATA, safetensors_header

DTYPES = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64"}


def file_bytes(tensors: Mapping[str, Tensor]) -> int:
    """How large `write_tensors` will make the file. Raises BundleError as it does."""
    header, total = _header(tensors)
    return len(header) + total


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], written: Callable[[int], None] = lambda _: None
) -> Checksum:
    """Write float tensors to `path`, which appears whole or not at all; its size and SHA-256.

    `written` is called with the bytes so far. Raises BundleError for a tensor that holds no floats,
    OSError where the disk does not take it.
    """
    header, _ = _header(tensors)
    digest = hashlib.sha256(header)
    done = len(header)
    with replacing(path) as draft, draft.open("wb") as file:
        file.write(header)
        for name in _ordered(tensors):
            # Through uint8 because NumPy has no bfloat16.
            content = tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
            digest.update(content)
            file.write(content)
            done += len(content)
            written(done)
    return Checksum(done, digest.hexdigest())


def _header(tensors: Mapping[str, Tensor]) -> tuple[bytes, int]:
    """The file's first bytes, and how many the tensors take after them."""
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            kinds = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
            raise BundleError(
                f"The tensor '{name}' holds {str(tensor.dtype).removeprefix('torch.')}, not one of {kinds}; "
                "give weights that are not quantised."
            )
    named = ((name, DTYPES[tensors[name].dtype], tensors[name].shape) for name in _ordered(tensors))
    header, _, total = safetensors_header(named, METADATA)
    return header, total


def _ordered(tensors: Mapping[str, Tensor]) -> list[str]:
    """Wide types first, so that every tensor begins at a multiple of its own element's size."""
    return sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
