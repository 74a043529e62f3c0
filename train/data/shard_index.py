"""Where every photo of a shard lies, so that any of them is read without the ones before it.

The index of a shard is made once, from its headers, and kept in the cache under the shard's path,
size and time of change, together with the SHA-256 of its content:

    cache_home()/shards/NAME-<what it was made of>.npz
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.atomic import replacing
from minigpt4.core.download.checksum_note import sha256_of
from minigpt4.core.errors import DataError
from minigpt4.core.paths import cache_home
from minigpt4.train.data.webdataset import Sample, samples_of

VERSION = 1
"""Raised whenever another photo or caption would be found in the same shard."""

SPANS = np.dtype(
    [("photo", "<i8"), ("photo_size", "<u4"), ("meta", "<i8"), ("meta_size", "<u4"), ("is_json", "?")]
)
"""25 bytes a photo: 125 MB for the 5 million of stage 1."""

Spans = NDArray[np.void]


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """The samples of a shard: their spans (SPANS), and their keys one behind the other in UTF-8.

    `left_out` are keys and reasons of what cannot be used; `damage` is the sentence about a shard
    whose end is missing, empty where it is whole.
    """

    path: Path
    sha256: str
    spans: Spans
    keys: bytes
    key_ends: NDArray[np.int64]
    left_out: tuple[tuple[str, str], ...]
    damage: str

    def __len__(self) -> int:
        return len(self.spans)

    def key(self, place: int) -> str:
        """The key of a sample."""
        begin = self.key_ends[place - 1] if place else 0
        return self.keys[begin : self.key_ends[place]].decode("utf-8", errors="surrogateescape")


def shard_index(path: Path) -> ShardIndex:
    """The shard's index, from the cache or made now; raises DataError where it cannot be read at all."""
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"The shard {path} cannot be read: {error.strerror or error}.") from error
    made_of = f"{VERSION} {path.resolve()} {status.st_size} {status.st_mtime_ns}"
    name = hashlib.sha256(os.fsencode(made_of)).hexdigest()[:16]
    kept = cache_home() / "shards" / f"{path.stem}-{name}.npz"
    index = _read(kept, path)
    if index is None:
        index = _made(path)
        # A cache that cannot be written costs the same again the next time, and nothing else.
        with suppress(OSError):
            _write(index, kept)
    return index


def _made(path: Path) -> ShardIndex:
    left_out: list[tuple[str, str]] = []
    samples: list[Sample] = []
    damage = ""
    try:
        # One by one, so that those before the damage stay.
        for sample in samples_of(path, lambda key, reason: left_out.append((key, reason))):
            samples.append(sample)
    except DataError as error:
        damage = str(error)
    keys = [sample.key.encode("utf-8", errors="surrogateescape") for sample in samples]
    return ShardIndex(
        path=path,
        sha256=sha256_of(path),
        spans=_spans(samples),
        keys=b"".join(keys),
        key_ends=np.cumsum([len(key) for key in keys], dtype=np.int64),
        left_out=tuple(left_out),
        damage=damage,
    )


def _spans(samples: Iterable[Sample]) -> Spans:
    rows = [
        (photo.offset, photo.size, meta.offset, meta.size, meta.suffix == "json")
        for _, photo, meta in samples
    ]
    return np.array(rows, dtype=SPANS)


def _write(index: ShardIndex, kept: Path) -> None:
    note = {"sha256": index.sha256, "left_out": index.left_out, "damage": index.damage}
    with replacing(kept) as draft, draft.open("wb") as file:
        np.savez(
            file,
            spans=index.spans,
            keys=np.frombuffer(index.keys, np.uint8),
            key_ends=index.key_ends,
            note=np.frombuffer(json.dumps(note).encode(), np.uint8),
        )


def _read(kept: Path, path: Path) -> ShardIndex | None:
    try:
        with np.load(kept, allow_pickle=False) as arrays:
            note: dict[str, Any] = json.loads(arrays["note"].tobytes())
            index = ShardIndex(
                path=path,
                sha256=str(note["sha256"]),
                spans=arrays["spans"],
                keys=arrays["keys"].tobytes(),
                key_ends=arrays["key_ends"],
                left_out=tuple((str(key), str(reason)) for key, reason in note["left_out"]),
                damage=str(note["damage"]),
            )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None
    is_whole = index.spans.dtype == SPANS and index.spans.shape == index.key_ends.shape
    return index if is_whole and (not len(index) or index.key_ends[-1] == len(index.keys)) else None
