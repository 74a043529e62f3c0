"""Embeddings of pictures with their layouts, cached beside those of the towers.

One array of bytes holds both: eight for the length of the layout's JSON, the JSON, the vectors in float32.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.embedding_cache import LIMIT_BYTES, ArrayCache
from minigpt4.core.types import LaidOut, Layout, Stretch

PLANES = 4
LENGTH_BYTES = 8


class LayoutCache:
    """Vectors of one width, with their layouts, by picture key; bounded as `ArrayCache` is."""

    def __init__(self, name: str, width: int, folder: Path | None = None, limit: int = LIMIT_BYTES) -> None:
        self._packed = _PackedCache(name, width, folder, limit)
        self._width = width

    def get(self, key: str) -> LaidOut | None:
        """The vectors and layout of the picture with this key, if they are cached and intact."""
        packed = self._packed.get(key)
        return None if packed is None else _unpacked(packed, self._width)

    def put(self, key: str, value: LaidOut) -> None:
        """Store vectors and layout; a folder that cannot be written costs one log line."""
        self._packed.put(key, _packed(*value))

    def remove(self, key: str) -> None:
        """Remove what is stored of the picture, if it is."""
        self._packed.remove(key)


class _PackedCache(ArrayCache):
    """Arrays of bytes that hold vectors and a layout."""

    def __init__(self, name: str, width: int, folder: Path | None, limit: int) -> None:
        super().__init__(name, (), np.uint8, folder, limit)
        self._width = width

    def _check(self, array: NDArray[Any]) -> None:
        if array.ndim != 1 or array.dtype != np.uint8:
            raise ValueError(f"it holds {array.dtype} {array.shape} instead of bytes")
        _unpacked(array, self._width)


def _packed(tokens_ND: NDArray[np.float32], layout: Layout) -> NDArray[np.uint8]:
    written = json.dumps([_plain(part) for part in layout]).encode()
    vectors = np.ascontiguousarray(tokens_ND, np.float32).tobytes()
    return np.frombuffer(len(written).to_bytes(LENGTH_BYTES, "little") + written + vectors, np.uint8)


def _unpacked(packed: NDArray[np.uint8], width: int) -> LaidOut:
    """Raises ValueError for bytes that are no vectors of this width with their layout."""
    data = packed.tobytes()
    length = LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "little")
    try:
        layout = tuple(_part(part) for part in json.loads(data[LENGTH_BYTES:length]))
    except (TypeError, KeyError) as error:
        raise ValueError(f"its layout is damaged ({error})") from error
    tokens_ND = np.frombuffer(data[length:], np.float32).reshape(-1, width)
    vectors = sum(part.vectors for part in layout if isinstance(part, Stretch))
    if vectors != len(tokens_ND) or not vectors:
        raise ValueError(f"its layout is of {vectors} vectors and it has {len(tokens_ND)}")
    if not np.isfinite(tokens_ND).all():
        raise ValueError("it holds values that are not finite")
    return tokens_ND, layout


def _plain(part: tuple[int, ...] | Stretch) -> Any:
    if isinstance(part, tuple):
        return list(part)
    offsets = None if part.offsets_4N is None else part.offsets_4N.tolist()
    return {
        "vectors": part.vectors,
        "positions": part.positions,
        "offsets": offsets,
        "causal": part.is_causal,
    }


def _part(written: Any) -> tuple[int, ...] | Stretch:
    if isinstance(written, list):
        return tuple(int(token) for token in written)
    vectors, offsets = int(written["vectors"]), written["offsets"]
    offsets_4N = None if offsets is None else np.array(offsets, np.int32)
    if vectors < 1 or (offsets_4N is not None and offsets_4N.shape != (PLANES, vectors)):
        raise ValueError("its layout is damaged")
    return Stretch(vectors, int(written["positions"]), offsets_4N, bool(written["causal"]))
