"""Writing safetensors tensor by tensor: memory holds one tensor's bytes, however large the file.

`safetensors.torch.save_file` copies every tensor before the first byte is written, which for a
ViT-G is 2 GB. Layout: https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from minigpt4.core.atomic import replacing
from minigpt4.core.download.checksum_note import Received
from minigpt4.core.errors import BundleError

DTYPES = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64"}
ALIGNMENT = 8
METADATA = {"format": "pt"}
"""Readers of the transformers library insist on it."""


def file_bytes(tensors: Mapping[str, Tensor]) -> int:
    """How large `write_tensors` will make the file. Raises BundleError as it does."""
    header, total = _header(tensors)
    return len(header) + total


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], written: Callable[[int], None] = lambda _: None
) -> Received:
    """Write float tensors to `path`, which appears whole or not at all; its size and SHA-256.

    `written` is told the bytes so far. Raises BundleError for a tensor that holds no floats,
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
    return Received(done, digest.hexdigest())


def _header(tensors: Mapping[str, Tensor]) -> tuple[bytes, int]:
    """The file's first bytes, and how many the tensors take after them."""
    facts: dict[str, object] = {"__metadata__": METADATA}
    end = 0
    for name in _ordered(tensors):
        tensor = tensors[name]
        if tensor.dtype not in DTYPES:
            kinds = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
            raise BundleError(
                f"The tensor '{name}' holds {str(tensor.dtype).removeprefix('torch.')}, not one of {kinds}; "
                "give weights that are not quantised."
            )
        start, end = end, end + tensor.numel() * tensor.element_size()
        facts[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(facts, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text, end


def _ordered(tensors: Mapping[str, Tensor]) -> list[str]:
    """Wide types first, so that every tensor begins at a multiple of its own element's size."""
    return sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
