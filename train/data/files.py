"""Photos as files, with captions from a list or from a text file beside each (`dog.jpg`, `dog.txt`)."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minigpt4.core.download.checksum_note import sha256_of
from minigpt4.core.errors import DataError
from minigpt4.core.pixels import MAX_FILE_BYTES
from minigpt4.core.storage.atomic import replacing
from minigpt4.core.storage.paths import cache_home
from minigpt4.core.storage.regular_file import require_regular_file
from minigpt4.train.data.dataset import (
    CAPTION_LIMIT,
    PhotoError,
    caption_faults,
    captions_in,
    first_reasons,
    lacks_captions,
)
from minigpt4.train.events import PhotoSkipped, PhotosRead, Report

SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in "jpg jpeg jpe jfif mpo png apng webp gif bmp dib tif tiff avif heic jp2 j2k jpx ppm pgm "
    "pbm pnm tga ico".split()
)
"""Suffixes of photo files, in lower case; whether they can be decoded is checked later."""

HASHING = 4
"""Files hashed concurrently."""

REPORT_EVERY = 200
"""Files between two reports."""


@dataclass(frozen=True)
class FilePhoto:
    """A photo's name in its set, its file, and its captions, usable or not."""

    key: str
    path: Path
    captions: Sequence[object]
    fault: str = ""
    """Why its captions cannot be read."""


class FilePhotos:
    """Photo files below a folder. The fingerprint depends on their content, not on the folder."""

    def __init__(
        self,
        name: str,
        folder: Path,
        listed: Sequence[FilePhoto],
        report: Report,
        skipped: Sequence[PhotoSkipped] = (),
    ) -> None:
        """`listed` photos without a file or a usable caption go to `report`, after the `skipped` rows.

        Raises DataError, with the first reasons, if none is left.
        """
        self.name = name
        self._photos: list[FilePhoto] = []
        faults = list(skipped)
        for photo in listed:
            fault = _fault(photo, folder)
            meta = {"captions": photo.captions}
            if fault:
                faults.append(PhotoSkipped(name, photo.key, fault))
            else:
                self._photos.append(FilePhoto(photo.key, photo.path, captions_in(meta)))
                faults += [PhotoSkipped(name, photo.key, fault) for fault in caption_faults(meta)]
        for one in faults:
            report(one)
        if not self._photos:
            raise DataError(f"'{name}' has no photo with captions in {folder}{first_reasons(faults)}.")
        digests = _digests(name, folder, [photo.path for photo in self._photos], report)
        content = hashlib.sha256()
        for photo, digest in zip(self._photos, digests, strict=True):
            content.update(json.dumps([photo.key, photo.captions, digest]).encode())
        self.fingerprint = content.hexdigest()

    def __len__(self) -> int:
        return len(self._photos)

    def key(self, index: int) -> str:
        """The photo's name in the set."""
        return self._photos[index].key

    def meta(self, index: int) -> Mapping[str, Any]:
        """The photo's captions."""
        return {"captions": self._photos[index].captions}

    def content(self, index: int) -> Mapping[str, Any]:
        """The same as `meta`: every photo has captions."""
        return self.meta(index)

    def read(self, index: int) -> bytes:
        """The file's content; raises PhotoError."""
        photo = self._photos[index]
        try:
            with photo.path.open("rb") as file:
                return file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            reason = f"the file cannot be read ({reason_of(error)})"
            raise PhotoError(self.name, photo.key, reason) from error


def _fault(photo: FilePhoto, folder: Path) -> str | None:
    if photo.fault:
        return photo.fault
    if not captions_in({"captions": photo.captions}):
        return lacks_captions({"captions": photo.captions})
    # A list is untrusted: it must not make other files of this machine readable.
    if not photo.path.is_relative_to(folder) or ".." in photo.path.relative_to(folder).parts:
        return f"its file lies outside of {folder}; name it relative to the list"
    try:
        require_regular_file(photo.path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            return "there is no such file"
        return f"its file cannot be read ({reason_of(error)})"
    return None


def reason_of(error: OSError) -> str:
    """Why a file could not be read, in the system's words."""
    return error.strerror or str(error)


def is_file(path: Path) -> bool:
    """Whether the path is a file; it may be longer than the system allows."""
    try:
        return path.is_file()
    except OSError:
        return False


def _digests(name: str, folder: Path, paths: Sequence[Path], report: Report) -> Iterator[str]:
    """The SHA-256 of each file, cached as long as its size and modification time stay the same."""
    kept = cache_home() / "photos" / f"{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]}.json"
    known: dict[str, list[object]] = {}
    with suppress(OSError, ValueError):
        content = json.loads(kept.read_text(encoding="utf-8"))
        known = content if isinstance(content, dict) else {}
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
            if done % REPORT_EVERY == 0 or done == len(paths):
                report(PhotosRead(name, done, len(paths)))
            yield one
    if found != known:
        with suppress(OSError), replacing(kept) as draft:
            draft.write_text(json.dumps(found), encoding="utf-8")


def has_pairs(folder: Path) -> bool:
    """Whether a photo below the folder has a text file of the same name."""
    return any(text is not None for _, text in photos_below(folder))


def pairs_in(folder: Path) -> list[FilePhoto]:
    """Every photo below the folder, by its relative path, with its text as its only caption."""
    return [_pair(path.relative_to(folder).as_posix(), path, text) for path, text in photos_below(folder)]


def _pair(key: str, path: Path, text: Path | None) -> FilePhoto:
    if text is None:
        return FilePhoto(key, path, [])
    try:
        return FilePhoto(key, path, [_text(text)])
    except OSError as error:
        return FilePhoto(key, path, [], f"its text {text.name} cannot be read ({reason_of(error)})")


def photos_below(
    folder: Path, unreadable: Callable[[OSError], object] = lambda _error: None
) -> Iterator[tuple[Path, Path | None]]:
    """Photos and their texts in the order of their names; hidden ones are ignored, links are followed.

    A folder that cannot be read is passed to `unreadable`, and has no photos.
    """
    seen = {folder.resolve()}
    for place, folders, files in os.walk(folder, onerror=unreadable, followlinks=True):
        folders[:] = [
            name
            for name in sorted(folders)
            if not name.startswith(".") and not _is_repeated(Path(place, name), folder, seen)
        ]
        texts = texts_among(files)
        for name in sorted(files):
            if not name.startswith(".") and has_photo_suffix(name):
                text = texts.get(Path(name).stem)
                yield Path(place, name), Path(place, text) if text is not None else None


def has_photo_suffix(name: str) -> bool:
    """Whether a file of that name counts as a photo."""
    return Path(name).suffix.lower() in SUFFIXES


def texts_among(names: Iterable[str]) -> dict[str, str]:
    """The text files among the files of a folder, by the stem that they share with their photos."""
    return {Path(name).stem: name for name in sorted(names) if Path(name).suffix.lower() == ".txt"}


def _is_repeated(place: Path, folder: Path, seen: set[Path]) -> bool:
    """Whether a link leads to photos that the walk through `folder` finds anyway, or to a cycle."""
    if not place.is_symlink():
        return False
    target, root = place.resolve(), folder.resolve()
    is_repeated = target in seen or target.is_relative_to(root) or root.is_relative_to(target)
    seen.add(target)
    return is_repeated


def encoding_of(path: Path) -> str:
    """The encoding of a text file by its first bytes: UTF-8, UTF-16 or UTF-32, with or without a BOM.

    Raises OSError if it cannot be read, or is not a regular file.
    """
    require_regular_file(path)
    with path.open("rb") as file:
        return json.detect_encoding(file.read(4))


def _text(path: Path) -> str:
    # Undecodable bytes are kept as surrogates, so that the photo is skipped with that reason.
    with path.open(encoding=encoding_of(path), errors="surrogateescape") as file:
        try:
            return file.read(CAPTION_LIMIT + 1)
        except UnicodeDecodeError:  # truncated UTF-16
            return "\udcff"
