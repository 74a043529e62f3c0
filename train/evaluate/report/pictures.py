"""Find the pictures of runs, and make them small enough for a page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

from minigpt4.core.errors import DataError, ImageError, UsageError
from minigpt4.core.pixels import open_picture
from minigpt4.train.data.dataset import PhotoError
from minigpt4.train.evaluate.open import open_photos
from minigpt4.train.evaluate.photos import EvalPhoto, Need
from minigpt4.train.evaluate.report.reported_run import ReportedRun

SIDE = 320
"""Pixels of the longer side: a JPEG of about 20 kB, so that a page of 100 pictures has 3 MB."""

QUALITY = 80


@dataclass
class FoundPictures:
    """JPEG files by the digest of the picture that they show; names of pictures that were not found."""

    jpegs: dict[str, bytes] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    """Places that cannot be read any more, as sentences."""


def find_pictures(runs: Sequence[ReportedRun], data: Sequence[str]) -> FoundPictures:
    """The pictures that were asked about, at `data`, else where each run recorded them.

    A picture of the same name with other content does not count. Raises DataError or UsageError for `data`
    without any.
    """
    found = FoundPictures()
    opened: dict[tuple[Need | None, tuple[str, ...]], dict[str, EvalPhoto]] = {}
    for run in runs:
        places = (run.suite.need, tuple(data or run.places("data")))
        if places not in opened:
            opened[places] = _open(*places, found, is_asked=bool(data))
        for record in run.records:
            if record.digest in found.jpegs or record.photo in found.missing:
                continue
            photo = opened[places].get(record.photo)
            jpeg = photo and _thumbnail(photo, record.digest)
            if jpeg:
                found.jpegs[record.digest] = jpeg
            else:
                found.missing.append(record.photo)
    return found


def _open(
    need: Need | None, places: tuple[str, ...], found: FoundPictures, *, is_asked: bool
) -> dict[str, EvalPhoto]:
    if not places:
        return {}
    try:
        return {photo.key: photo for photo in open_photos(places, need, lambda _event: None)}
    except (DataError, UsageError, OSError) as error:
        if is_asked:
            raise
        found.unreadable.append(str(error))
        return {}


def _thumbnail(photo: EvalPhoto, digest: str) -> bytes | None:
    """The picture as a small JPEG; None if it is a different picture, or cannot be read."""
    try:
        picture = open_picture(photo.read(), name=photo.key)
        if picture.digest != digest:
            return None
        image = picture.image.copy()
    except (PhotoError, ImageError):
        return None
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
