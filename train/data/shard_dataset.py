"""Photos in webdataset shards, read where they lie."""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Any

from minigpt4.core.errors import DataError
from minigpt4.train.data.dataset import PhotoError
from minigpt4.train.data.shard_index import ShardIndex, shard_index
from minigpt4.train.data.webdataset import parsed_meta
from minigpt4.train.events import PhotoLeftOut, PhotosRead, Report

INDEXING = 4
"""Shards that are indexed at a time: their headers are read by one thread, their checksums by all."""


class ShardPhotos:
    """The photos of some shards, in the shards' order. Whoever moves the shards does not change them."""

    def __init__(self, name: str, shards: Sequence[Path], report: Report) -> None:
        """Read or make the shards' indices; what is left out of them is told to `report`.

        Raises DataError where the shards hold no photo with captions.
        """
        self.name = name
        self._shards = list(_indexed(name, shards, report))
        for shard in self._shards:
            for key, reason in shard.left_out:
                report(PhotoLeftOut(name, key, reason))
            if shard.damage:
                report(PhotoLeftOut(name, shard.path.name, shard.damage))
        self._ends = list(accumulate(len(shard) for shard in self._shards))
        if not len(self):
            damage = next((shard.damage for shard in self._shards if shard.damage), None)
            raise DataError(damage or f"The shards of '{name}' hold no photo with captions.")
        digests = "".join(shard.sha256 for shard in self._shards)
        self.fingerprint = hashlib.sha256(digests.encode()).hexdigest()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def key(self, place: int) -> str:
        """The name of its files, without what follows the first dot."""
        shard, row = self._find(place)
        return shard.key(row)

    def meta(self, place: int) -> Mapping[str, Any]:
        """What its JSON or text says; raises PhotoError."""
        shard, row = self._find(place)
        span = shard.spans[row]
        content = self._read(shard, row, int(span["meta"]), int(span["meta_size"]))
        try:
            return parsed_meta(content, "json" if span["is_json"] else "txt")
        except ValueError as fault:
            raise PhotoError(self.name, shard.key(row), str(fault)) from None

    def read(self, place: int) -> bytes:
        """The encoded picture; raises PhotoError."""
        shard, row = self._find(place)
        span = shard.spans[row]
        return self._read(shard, row, int(span["photo"]), int(span["photo_size"]))

    def _find(self, place: int) -> tuple[ShardIndex, int]:
        number = bisect_right(self._ends, place)
        return self._shards[number], place - (self._ends[number - 1] if number else 0)

    def _read(self, shard: ShardIndex, row: int, offset: int, size: int) -> bytes:
        # Opened anew each time: it costs 10 us, and thousands of shards are more than may be open.
        try:
            handle = os.open(shard.path, os.O_RDONLY)
            try:
                content = os.pread(handle, size, offset)
            finally:
                os.close(handle)
        except OSError as error:
            raise PhotoError(
                self.name, shard.key(row), f"{shard.path} cannot be read ({error.strerror})"
            ) from error
        if len(content) != size:
            raise PhotoError(self.name, shard.key(row), f"{shard.path} has become shorter")
        return content


def _indexed(name: str, shards: Sequence[Path], report: Report) -> list[ShardIndex]:
    with ThreadPoolExecutor(INDEXING) as pool:
        found = []
        for done, index in enumerate(pool.map(shard_index, shards), start=1):
            found.append(index)
            report(PhotosRead(name, done, len(shards)))
    return found
