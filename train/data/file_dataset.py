"""Photos that are files of their own, with captions that are in memory."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minigpt4.core.atomic import replacing
from minigpt4.core.download.checksum_note import sha256_of
from minigpt4.core.errors import DataError
from minigpt4.core.paths import cache_home
from minigpt4.core.pixels import MAX_FILE_BYTES
from minigpt4.train.data.dataset import PhotoError, captions_in, lacks_captions
from minigpt4.train.events import PhotoLeftOut, PhotosRead, Report

HASHING = 4
"""Files whose checksum is made at a time."""

TOLD_EVERY = 200
"""Files between two reports."""


@dataclass(frozen=True)
class FilePhoto:
    """A photo's name in its set, its file, and what is said of it: `captions`."""

    key: str
    path: Path
    meta: Mapping[str, Any]


class FilePhotos:
    """Photo files below a folder. Their content decides the fingerprint, not where they lie."""

    def __init__(self, name: str, folder: Path, listed: Sequence[FilePhoto], report: Report) -> None:
        """`listed` are all that are meant; those without a file or a usable caption are told to `report`.

        Raises DataError where none is left.
        """
        self.name = name
        self._photos: list[FilePhoto] = []
        first_fault = ""
        for photo in listed:
            fault = _fault(photo, folder)
            if fault:
                report(PhotoLeftOut(name, photo.key, fault))
                first_fault = first_fault or f"; of '{photo.key}': {fault}"
            else:
                self._photos.append(replace(photo, meta={**photo.meta, "captions": captions_in(photo.meta)}))
        if not self._photos:
            raise DataError(f"'{name}' has no photo with captions in {folder}{first_fault}.")
        digests = _digests(name, folder, [photo.path for photo in self._photos], report)
        content = hashlib.sha256()
        for photo, digest in zip(self._photos, digests, strict=True):
            content.update(json.dumps([photo.key, photo.meta["captions"], digest]).encode())
        self.fingerprint = content.hexdigest()

    def __len__(self) -> int:
        return len(self._photos)

    def key(self, place: int) -> str:
        """The photo's name in the set."""
        return self._photos[place].key

    def meta(self, place: int) -> Mapping[str, Any]:
        """What is said of it."""
        return self._photos[place].meta

    def read(self, place: int) -> bytes:
        """The file's content; raises PhotoError."""
        photo = self._photos[place]
        try:
            with photo.path.open("rb") as file:
                return file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise PhotoError(
                self.name, photo.key, f"the file cannot be read ({error.strerror or error})"
            ) from error


def _fault(photo: FilePhoto, folder: Path) -> str | None:
    if not captions_in(photo.meta):
        return lacks_captions(photo.meta)
    # A list may come from anybody: it may not have other files of this machine read.
    if not photo.path.is_relative_to(folder) or ".." in photo.path.relative_to(folder).parts:
        return f"its file lies outside of {folder}; name it relative to the list"
    if not photo.path.is_file():
        return "there is no such file"
    return None


def _digests(name: str, folder: Path, paths: Sequence[Path], report: Report) -> Iterator[str]:
    """The SHA-256 of each file, known from an earlier time where size and time of change are the same."""
    kept = cache_home() / "photos" / f"{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]}.json"
    known = _known(kept)
    found: dict[str, list[object]] = {}

    def digest(path: Path) -> str:
        status = path.stat()
        stamp = [status.st_size, status.st_mtime_ns]
        before = known.get(str(path))
        sha256 = str(before[2]) if before and before[:2] == stamp else sha256_of(path)
        found[str(path)] = [*stamp, sha256]
        return sha256

    with ThreadPoolExecutor(HASHING) as pool:
        for done, one in enumerate(pool.map(digest, paths), start=1):
            if done % TOLD_EVERY == 0 or done == len(paths):
                report(PhotosRead(name, done, len(paths)))
            yield one
    if found != known:
        with suppress(OSError), replacing(kept) as draft:
            draft.write_text(json.dumps(found), encoding="utf-8")


def _known(kept: Path) -> dict[str, list[object]]:
    try:
        known = json.loads(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
