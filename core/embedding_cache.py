"""Image embeddings cached on disk, so that a known picture needs neither tower nor torch.

    cache_home()/embeddings/<fingerprint>/<key>.npy         float32 (N, D_llm)
    cache_home()/embeddings/<fingerprint>/<key>.npy         bytes: a layout as JSON, then its vectors
    cache_home()/embeddings/pixels-<size>/<key>.npy         uint8 (size, size, 3)

The fingerprint names everything before the language model, `Picture.key` the picture's content:
an entry is never wrong, only absent. Processes share the folder without a lock: an entry is written
atomically, by a rename, and ends with its CRC-32, so that a damaged entry is recomputed.

The cache is a convenience, so a problem with its folder never makes an answer fail; a process warns of
the first one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.bundles.geometry import Fit
from minigpt4.core.dtypes import AUTO
from minigpt4.core.errors import BundleError
from minigpt4.core.storage.atomic import replacing
from minigpt4.core.storage.paths import cache_home
from minigpt4.core.types import LaidOut, Layout, Stretch
from minigpt4.core.vision.fingerprint import tower_fingerprint

LIMIT_BYTES = 512 * 1024**2
"""About 15,000 of mini's pictures: 15 vectors of 576 numbers each."""

KEPT_FRACTION = 0.9
"""Fraction of the limit that a clean-up leaves, so that not every new picture needs one."""

RECOUNTED_FRACTION = 0.1
"""Fraction of the limit that a process writes before it lists the folder again, as others write to it too."""

PLANES = 4
"""Position components of a vector in M-RoPE."""

LENGTH_BYTES = 8
"""Size of the length field that precedes a layout in a file."""

log = logging.getLogger(__name__)

_reported: set[Path] = set()
"""Folders whose problems this process has reported."""


class ArrayCache:
    """Arrays of one shape and type by picture key, in a bounded folder that all caches share.

    For image embeddings, `name` is their fingerprint and `shape` (N, D_llm).
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: DTypeLike,
        folder: Path | None = None,
        limit: int = LIMIT_BYTES,
    ) -> None:
        self._root = folder or embeddings_folder()
        self._folder = self._root / name
        self._shape = shape
        self._dtype = np.dtype(dtype)
        self._limit = limit
        self._uncounted: int | None = None
        """Bytes written since the folder was last listed; None before that."""

    def get(self, key: str) -> NDArray[Any] | None:
        """The array of the picture with this key, if it is cached and intact."""
        path = self._path(key)
        try:
            # Not np.load, which opens a file that begins like a zip archive as one, with other errors.
            with path.open("rb") as file:
                array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
                checksum = file.read()
            self._check(array)
            # Entries of earlier versions have no checksum.
            if checksum and checksum != _checksum(array):
                raise ValueError("its checksum is another")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, EOFError) as error:
            self._tell("The cached image embedding %s is unusable (%s); it is computed again.", path, error)
            self.remove(key)
            return None
        _touch(path)
        return array

    def put(self, key: str, array: NDArray[Any]) -> None:
        """Store an array, if the folder can be written."""
        self._check(array)
        path = self._path(key)
        try:
            with replacing(path) as draft, draft.open("wb") as file:
                np.save(file, array, allow_pickle=False)
                file.write(_checksum(array))
            self._bound(path.stat().st_size)
        except OSError as error:
            self._tell("Image embeddings cannot be kept in %s (%s).", self._folder, error)

    def remove(self, key: str) -> None:
        """Remove the picture's array, if it is cached."""
        self._remove(self._path(key))

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except NotADirectoryError:
            pass  # nothing is cached where the folder should be
        except OSError as error:
            self._tell("%s could not be removed (%s).", path, error)

    def _tell(self, sentence: str, path: Path, error: Exception) -> None:
        """Log a problem, only the first as a warning: a run over a thousand pictures would repeat it."""
        level = logging.DEBUG if self._root in _reported else logging.WARNING
        _reported.add(self._root)
        log.log(level, sentence, path, error)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.npy"

    def _check(self, array: NDArray[Any]) -> None:
        if array.shape != self._shape or array.dtype != self._dtype:
            found = f"{array.dtype} {array.shape}"
            raise ValueError(f"it holds {found} instead of {self._dtype} {self._shape}")
        if not np.isfinite(array).all():
            raise ValueError("it holds values that are not finite")

    def _bound(self, written: int) -> None:
        """Remove the least recently used arrays once all caches together pass the limit."""
        # Listing 15,000 files takes longer than a picture, so it is not done for each one.
        if self._uncounted is not None and self._uncounted + written <= self._limit * RECOUNTED_FRACTION:
            self._uncounted += written
            return
        self._uncounted = 0
        by_use = sorted(_entries(self._root), key=lambda entry: entry[1], reverse=True)
        if sum(size for _, _, size in by_use) <= self._limit:
            return
        kept = 0
        for path, _, size in by_use:
            if kept + size > self._limit * KEPT_FRACTION:
                self._remove(path)
            else:
                kept += size


class SquareCache(ArrayCache):
    """Pictures as squares of the vision tower's `size`, passed to the engine's process.

    The app decodes an attached picture for its thumbnail, long before the engine encodes it; the
    engine then decodes nothing, and removes the square once the embedding is cached. Such pixels
    pass through `to_pixels` unchanged, so the embedding is the same bit for bit.
    """

    def __init__(self, size: int, fit: Fit = "squashed") -> None:
        name = f"pixels-{size}" if fit == "squashed" else f"pixels-{size}-{fit}"
        super().__init__(name, (size, size, 3), np.uint8)


class Cache(Protocol):
    """An encoder's outputs for pictures, on disk; see `ArrayCache`."""

    def get(self, key: str, /) -> Any:
        """The value of the picture with this key, or None."""
        ...

    def put(self, key: str, value: Any, /) -> None:
        """Keep the value of a picture."""
        ...

    def remove(self, key: str, /) -> None:
        """Remove the value of a picture, if it is there."""
        ...


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
        """Remove the picture's entry, if it is cached."""
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


def embedding_cache(bundle: Bundle, fingerprint: str, width: int) -> Cache:
    """The disk cache of a bundle's image embeddings of this width."""
    if bundle.mmproj is None:
        return ArrayCache(fingerprint, (bundle.projection.image_tokens, width), np.float32)
    return LayoutCache(fingerprint, width)


def is_cached(key: str) -> bool:
    """Whether the picture with this key has been decoded before, and is therefore intact."""
    return any(embeddings_folder().glob(f"*/{key}.npy"))


def embedding_fingerprint(bundle: Bundle, projection: Path, dtype: str = AUTO) -> str:
    """16 hex digits that identify everything that turns a picture's bytes into its embedding.

    `dtype` is the vision tower's. Raises BundleError if the projection file cannot be read, or if
    one of the tower's files is missing and its checksum is not known.
    """
    try:
        projection_sha256 = hashlib.sha256(projection.read_bytes()).hexdigest()
    except OSError as error:
        raise BundleError(
            f"The projection file {projection} cannot be read ({error.strerror or error}); "
            "check the path or train one first."
        ) from error
    made_by = {"tower": tower_fingerprint(bundle, dtype), "projection": projection_sha256}
    return hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()[:16]


def cached_bytes() -> tuple[int, int]:
    """The number of files in the cache, and their total bytes."""
    sizes = [size for _, _, size in _entries(embeddings_folder())]
    return len(sizes), sum(sizes)


def embeddings_folder() -> Path:
    """The folder that all caches share."""
    return cache_home() / "embeddings"


def _entries(root: Path) -> Iterator[tuple[Path, float, int]]:
    """Every cached file with its time of last use and size; files that vanish meanwhile are skipped."""
    for path in root.glob("*/*"):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        yield path, status.st_mtime, status.st_size


def _checksum(array: NDArray[Any]) -> bytes:
    """The array's CRC-32, which follows it in its file."""
    return zlib.crc32(array.tobytes()).to_bytes(4, "little")


def _touch(path: Path) -> None:
    try:
        os.utime(path)
    except OSError as error:
        log.debug("The time of last use of %s could not be updated (%s).", path, error)


def _packed(tokens_ND: NDArray[np.float32], layout: Layout) -> NDArray[np.uint8]:
    written = json.dumps([_plain(part) for part in layout]).encode()
    vectors = np.ascontiguousarray(tokens_ND, np.float32).tobytes()
    return np.frombuffer(len(written).to_bytes(LENGTH_BYTES, "little") + written + vectors, np.uint8)


def _unpacked(packed: NDArray[np.uint8], width: int) -> LaidOut:
    """The vectors and their layout; raises ValueError for bytes that do not hold vectors of this width."""
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
