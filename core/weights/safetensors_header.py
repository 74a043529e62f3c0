"""The header of a safetensors file that is written tensor by tensor; needs no torch.

Layout: https://huggingface.co/docs/safetensors (8 bytes of length, then JSON, then the tensors).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence

ALIGNMENT = 8
WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I8": 1, "U8": 1}
METADATA = {"format": "pt"}
"""Readers of the transformers library insist on it."""


def safetensors_header(
    tensors: Iterable[tuple[str, str, Sequence[int]]], metadata: Mapping[str, str] | None = None
) -> tuple[bytes, dict[str, int], int]:
    """The header of tensors (name, dtype such as "F16", shape) in this order.

    Also returns each tensor's offset behind the header, and the bytes of all of them.
    """
    entries: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    places: dict[str, int] = {}
    end = 0
    for name, dtype, shape in tensors:
        start, end = end, end + WIDTHS[dtype] * math.prod(shape)
        places[name] = start
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text, places, end
