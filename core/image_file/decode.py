"""Decoding of image files, including the readable part of truncated or damaged ones."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageFile

from minigpt4.core.image_file.formats import DECODER_ERRORS

MOST_MISSING = 0.6
"""Largest fraction of an image's rows that may be missing; beyond it, the answer is about another image."""

AS_FAR = "the picture is used as far as it goes"

END_OF_IMAGE, START_OF_SCAN = b"\xff\xd9", b"\xff\xda"

SEGMENT = re.compile(rb"\xff[\xc4\xda\xdb\xdd\xfe]")
"""Start of a JPEG segment that may stand between two scans. Compressed data holds none of these bytes."""

JPEG_GREY = 128
"""libjpeg's value for blocks without data; 127 in CMYK, which is stored inverted."""


@dataclass(frozen=True)
class Decoded:
    """The pixels of an image file."""

    image: Image.Image

    missing: float = 0.0
    """Fraction of the rows that the file has lost."""

    notice: str = ""
    """A sentence for the user, if the file is truncated or damaged."""


def decode(image: ImageFile.ImageFile, data: bytes) -> Decoded:
    """Decode an opened image whose file is `data`, or the part of it that is left.

    Raises one of DECODER_ERRORS if more than MOST_MISSING of it is lost.
    """
    is_jpeg = image.format in ("JPEG", "MPO")
    try:
        image.load()
        # libjpeg often emits the last row before it has read the end mark.
        is_cut = is_jpeg and not _has_end_mark(data)
        return Decoded(image, notice=f"The file is cut off; {AS_FAR}." if is_cut else "")
    except DECODER_ERRORS as error:
        # Not ImageFile.LOAD_TRUNCATED_IMAGES, which applies to all threads at once.
        so_far = _decoded_so_far(image)
        ended = _with_end_mark(data) if is_jpeg else None
        left = ended or so_far
        if left is None:
            raise
        top, bottom = _untouched_rows(so_far) if so_far else (0, left.height)
        if ended is not None:
            # libjpeg holds rows back until more data comes; the rows that are really missing are grey.
            grey = JPEG_GREY - (ended.mode == "CMYK")
            top, bottom = 0, min(bottom, _rows_of(ended, grey, range(ended.height - 1, -1, -1)))
        missing = max(top, bottom) / left.height
        if missing > MOST_MISSING:
            raise
        state = "cut off" if "truncated" in str(error) else "damaged"
        side = "last" if bottom >= top else "first"
        rows = f"its {side} rows are missing ({max(missing, 0.01):.0%} of the picture)"
        rest = rows if missing else AS_FAR
        return Decoded(left, missing, f"The file is {state}; {rest}.")


def _has_end_mark(data: bytes) -> bool:
    """Whether a JPEG has its end mark; that of a thumbnail in its metadata does not count."""
    at = len(b"\xff\xd8")
    while data[at : at + 1] == b"\xff" and data[at : at + 2] != START_OF_SCAN:
        is_fill = data[at : at + 2] == b"\xff\xff"
        at += 1 if is_fill else 2 + int.from_bytes(data[at + 2 : at + 4])
    return data.find(END_OF_IMAGE, at) >= 0


def _with_end_mark(data: bytes) -> Image.Image | None:
    """Decode a truncated JPEG with an end mark added, for which libjpeg fills in the missing data."""
    last_segment = max((found.start() for found in SEGMENT.finditer(data)), default=0)
    # The second attempt is for a file that ends inside a table between two scans.
    for end in (len(data), last_segment):
        with suppress(*DECODER_ERRORS):
            image = Image.open(BytesIO(data[:end] + END_OF_IMAGE), formats=["JPEG"])
            image.load()
            return image
    return None


def _decoded_so_far(image: ImageFile.ImageFile) -> Image.Image | None:
    """The image with the pixels that were decoded before an error."""
    with suppress(*DECODER_ERRORS):
        if image.tile:
            image.tile = []
            image.load_end()
        image.load()
        return image
    return None


def _untouched_rows(image: Image.Image) -> tuple[int, int]:
    """How many rows at the top and at the bottom decoding has left unchanged."""
    # A GIF starts as its transparent color, everything else as zeros.
    start = image.info.get("transparency", 0) if image.format == "GIF" else 0
    if image.format == "GIF":
        # Its rows may be interlaced, so that missing rows lie between others.
        return 0, sum(_rows_of(image, start, range(y, y + 1)) for y in range(image.height))
    downwards, upwards = range(image.height), range(image.height - 1, -1, -1)
    return _rows_of(image, start, downwards), _rows_of(image, start, upwards)


def _rows_of(image: Image.Image, value: int, rows: range) -> int:
    """How many of the first rows hold only that byte."""
    byte = bytes([value])
    for number, y in enumerate(rows):
        if image.crop((0, y, image.width, y + 1)).tobytes().strip(byte):
            return number
    return len(rows)
