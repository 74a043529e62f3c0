"""Photos in webdataset shards, and the index for random access to them.

The index of a shard is built once, from its headers, and cached under the shard's path, size and
modification time, together with the SHA-256 of its content:

    cache_home()/shards/NAME-<hash of these>.npz
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.download.checksum_note import sha256_of
from minigpt4.core.errors import DataError
from minigpt4.core.storage.atomic import replacing
from minigpt4.core.storage.paths import cache_home
from minigpt4.core.storage.regular_file import require_regular_file
from minigpt4.train.data.dataset import NO_CAPTION, PhotoError, captions_in, first_reasons, lacks_captions
from minigpt4.train.data.webdataset import parsed_json, parsed_text, scan
from minigpt4.train.events import PhotoSkipped, PhotosRead, Report

VERSION = 4
"""Incremented whenever the same shard would yield another photo or caption."""

SPANS = np.dtype(
    [
        ("photo", "<i8"),
        ("photo_size", "<u4"),
        ("json", "<i8"),
        ("json_size", "<u4"),
        ("text", "<i8"),
        ("text_size", "<u4"),
    ]
)
"""Offsets (0 for a file that the sample lacks) and sizes.

36 bytes per photo: 180 MB for the 5 million of stage 1.
"""

INDEXING = 4
"""Shards indexed at a time: their headers are read by one thread, their checksums by all."""


class ShardPhotos:
    """The photos of some shards, in the shards' order; moving the shards does not change the set."""

    def __init__(self, name: str, shards: Sequence[Path], report: Report) -> None:
        """Load or build the shards' indices; what they skip is passed to `report`.

        Raises DataError if the shards hold no photo with captions.
        """
        self.name = name
        self._shards: list[ShardIndex] = []
        with ThreadPoolExecutor(INDEXING) as pool:
            for index in pool.map(shard_index, shards):
                self._shards.append(index)
                report(PhotosRead(name, len(self._shards), len(shards)))
        skipped = [one for shard in self._shards for one in shard.skips(name)]
        self._ends = list(accumulate(len(shard) for shard in self._shards))
        damage = next((shard.damage for shard in self._shards if shard.damage), None)
        # The error below already describes a single damaged file.
        for one in skipped if len(self) or len(skipped) > 1 else ():
            report(one)
        if not len(self):
            reasons = first_reasons(skipped)
            raise DataError(damage or f"The shards of '{name}' hold no photo with captions{reasons}.")
        digests = "".join(shard.digest for shard in self._shards)
        self.fingerprint = hashlib.sha256(digests.encode()).hexdigest()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def shard(self, index: int) -> Path:
        """The shard that a photo is in."""
        return self._find(index)[0].path

    def key(self, index: int) -> str:
        """The name of the photo's files, up to the first dot."""
        shard, row = self._find(index)
        return shard.key(row)

    def meta(self, index: int) -> Mapping[str, Any]:
        """The content of the photo's JSON file, with the caption of its text file if the JSON has none.

        Raises PhotoError if there is no caption.
        """
        meta = self.content(index)
        if not captions_in(meta):
            raise PhotoError(self.name, self.key(index), lacks_captions(meta))
        return meta

    def content(self, index: int) -> Mapping[str, Any]:
        """The same as `meta`, with or without captions; raises PhotoError if it cannot be read."""
        shard, row = self._find(index)
        span = shard.spans[row]
        try:
            meta = parsed_json(self._read(shard, row, "json")) if span["json"] else {}
            # img2dataset writes a text beside each JSON, and other tools the captions into the text alone.
            if not captions_in(meta) and lacks_captions(meta) == NO_CAPTION and span["text"]:
                meta = {**meta, "captions": [parsed_text(self._read(shard, row, "text"))]}
        except ValueError as fault:
            raise PhotoError(self.name, shard.key(row), str(fault)) from None
        return meta

    def read(self, index: int) -> bytes:
        """The encoded image; raises PhotoError."""
        return self._read(*self._find(index), "photo")

    def _find(self, index: int) -> tuple[ShardIndex, int]:
        number = bisect_right(self._ends, index)
        return self._shards[number], index - (self._ends[number - 1] if number else 0)

    def _read(self, shard: ShardIndex, row: int, part: str) -> bytes:
        """A file of a sample, by its name in SPANS."""
        offset, size = int(shard.spans[row][part]), int(shard.spans[row][f"{part}_size"])
        # Opened for each read: it costs 10 us, and thousands of shards exceed the limit of open files.
        try:
            handle = os.open(shard.path, os.O_RDONLY)
            try:
                content = os.pread(handle, size, offset)
            finally:
                os.close(handle)
        except OSError as error:
            reason = f"{shard.path} cannot be read ({error.strerror})"
            raise PhotoError(self.name, shard.key(row), reason) from error
        if len(content) != size:
            raise PhotoError(self.name, shard.key(row), f"{shard.path} has become shorter")
        return content


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """The samples of a shard: their spans (SPANS), and their keys concatenated in UTF-8.

    `skipped` are keys and reasons of unusable samples; `damage` is the sentence about a truncated
    shard, empty for a whole one; `is_regrouped` as in Contents.
    """

    path: Path
    sha256: str
    spans: NDArray[np.void]
    keys: bytes
    key_ends: NDArray[np.int64]
    skipped: tuple[tuple[str, str], ...]
    damage: str
    is_regrouped: bool = False

    def __len__(self) -> int:
        return len(self.spans)

    @property
    def digest(self) -> str:
        """The content's digest, and how it is read: earlier versions found less in regrouped shards."""
        return f"{self.sha256} regrouped" if self.is_regrouped else self.sha256

    def skips(self, source: str) -> Iterator[PhotoSkipped]:
        """What is skipped, as events of the set `source`."""
        for key, reason in self.skipped:
            yield PhotoSkipped(source, key, reason)
        if self.damage:
            yield PhotoSkipped(source, self.path.name, self.damage)

    def key(self, row: int) -> str:
        """The key of a sample."""
        begin = self.key_ends[row - 1] if row else 0
        return self.keys[begin : self.key_ends[row]].decode("utf-8", errors="surrogateescape")


def shard_index(path: Path) -> ShardIndex:
    """The shard's index, from the cache or built now; raises DataError if it cannot be read at all."""
    try:
        require_regular_file(path)
        status = path.stat()
        identity = f"{VERSION} {path.resolve()} {status.st_size} {status.st_mtime_ns}"
        name = hashlib.sha256(os.fsencode(identity)).hexdigest()[:16]
        cached = cache_home() / "shards" / f"{path.stem}-{name}.npz"
        index = _load(cached, path)
        if index is None:
            index = _build(path)
            # Without a writable cache, the index is built again the next time.
            with suppress(OSError):
                _save(index, cached)
        return index
    except OSError as error:
        raise DataError(f"The shard {path} cannot be read: {error.strerror or error}.") from error


def _build(path: Path) -> ShardIndex:
    contents = scan(path)
    rows = [
        tuple(number for span in spans for number in ((span.offset, span.size) if span else (0, 0)))
        for _, *spans in contents.samples
    ]
    keys = [sample.key.encode("utf-8", errors="surrogateescape") for sample in contents.samples]
    return ShardIndex(
        path=path,
        sha256=sha256_of(path),
        spans=np.array(rows, dtype=SPANS),
        keys=b"".join(keys),
        key_ends=np.cumsum([len(key) for key in keys], dtype=np.int64),
        skipped=tuple(contents.skipped),
        damage=contents.damage,
        is_regrouped=contents.is_regrouped,
    )


def _save(index: ShardIndex, cached: Path) -> None:
    note = {
        "sha256": index.sha256,
        "left_out": index.skipped,
        "damage": index.damage,
        "is_regrouped": index.is_regrouped,
    }
    with replacing(cached) as draft, draft.open("wb") as file:
        np.savez(
            file,
            spans=index.spans,
            keys=np.frombuffer(index.keys, np.uint8),
            key_ends=index.key_ends,
            note=np.frombuffer(json.dumps(note).encode(), np.uint8),
        )


def _load(cached: Path, path: Path) -> ShardIndex | None:
    try:
        with np.load(cached, allow_pickle=False) as arrays:
            note: dict[str, Any] = json.loads(arrays["note"].tobytes())
            index = ShardIndex(
                path=path,
                sha256=str(note["sha256"]),
                spans=arrays["spans"],
                keys=arrays["keys"].tobytes(),
                key_ends=arrays["key_ends"],
                skipped=tuple((str(key), str(reason)) for key, reason in note["left_out"]),
                damage=str(note["damage"]),
                is_regrouped=bool(note["is_regrouped"]),
            )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None
    is_whole = index.spans.dtype == SPANS and index.spans.shape == index.key_ends.shape
    return index if is_whole and (not len(index) or index.key_ends[-1] == len(index.keys)) else None
