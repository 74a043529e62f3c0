"""What is known about an image file before its pixels are decoded: size, orientation, colors, oddities."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from PIL import Image, ImageFile, UnidentifiedImageError

from minigpt4.core.errors import ImageError
from minigpt4.core.image_file.color import (
    ProfileError,
    correct_transparent_color,
    is_wide,
    srgb_conversion,
)
from minigpt4.core.image_file.formats import ANIMATED_FORMATS, DECODER_ERRORS, FORMATS
from minigpt4.core.image_file.kinds import description, raw_description

if TYPE_CHECKING:
    from PIL.ImageCms import ImageCmsTransform

MAX_PIXELS = 89_478_485
"""Most pixels a picture may hold: 256 MiB as RGB, and the size from which Pillow itself warns."""

ORIENTATION = 0x0112
"""EXIF's tag for the orientation of the camera."""

LYING = range(5, 9)
"""Orientations whose stored width is the upright picture's height."""

PNG_NOTES = {
    "exif": b"eXIf",
    "XML:com.adobe.xmp": b"XML:com.adobe.xmp",
    "Raw profile type exif": b"Raw profile type exif",
}
"""Pillow's names for PNG metadata that may hold the orientation, and their marks in the file.

Metadata after the pixels is only found by decoding them, so the file is searched for the marks first.
"""

AS_STORED = "The color profile cannot be read or does not fit; the colors are used as stored."


@dataclass(frozen=True)
class PictureInfo:
    """The header of a picture file, read before its pixels are decoded."""

    size: tuple[int, int]
    """Width and height of the upright picture."""

    format: str
    """Pillow's name of the file format; PNG for an image in memory."""

    notices: tuple[str, ...] = ()
    """Sentences for the user, such as that only the first frame of an animation is used."""


@dataclass(frozen=True)
class OpenedFile:
    """An image file whose size is known and allowed, with no pixel decoded yet."""

    image: ImageFile.ImageFile

    conversion: ImageCmsTransform | None
    """From its color profile to sRGB, if that changes its colors."""

    has_new_pixels: bool
    """Whether its pixels differ from those that the first version of this code decoded."""

    notices: tuple[str, ...]
    """Sentences about its colors."""


def open_file(data: bytes, called: str) -> OpenedFile:
    """Open an image file; raises ImageError, which calls it `called`, if it is not one."""
    image = _open(data, called)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(_too_large(called, f"{width} x {height} pixels"))
    if width < 1 or height < 1:
        raise ImageError(f"{called} has no pixels ({width} x {height}).")
    tags = getattr(image, "tag_v2", None)
    if image.format == "TIFF" and tags is not None and (raw := raw_description(data, tags)):
        raise ImageError(f"{called} is {raw}.")
    notices: tuple[str, ...] = ()
    conversion = None
    try:
        conversion = srgb_conversion(image)
    except ProfileError:
        notices = (AS_STORED,)
    has_clear_color = correct_transparent_color(image) or (is_wide(image) and "transparency" in image.info)
    return OpenedFile(image, conversion, conversion is not None or has_clear_color, notices)


def picture_info(opened: OpenedFile, data: bytes) -> PictureInfo:
    """Size, format and notices; decodes nothing but a PNG with notes after its pixels."""
    image = opened.image
    width, height = image.size
    frames = _frame_notices(image)
    turned, notices = orientation(image, data)
    size = (height, width) if turned in LYING else (width, height)
    return PictureInfo(size, image.format or "PNG", frames + notices + opened.notices)


def orientation(image: Image.Image, data: bytes = b"") -> tuple[int, tuple[str, ...]]:
    """EXIF's orientation, which ImageOps.exif_transpose will undo, and a notice if it cannot be read."""
    try:
        if image.format == "TIFF":
            return 1, ()  # Pillow turns these itself, and their size is the upright one
        if image.format == "PNG" and any(
            mark in data and note not in image.info for note, mark in PNG_NOTES.items()
        ):
            image.load()
        # Not the PNG plugin's method, which decodes the pixels to search for metadata after them.
        exif = Image.Image.getexif(image)
        turned = exif.get(ORIENTATION)
        if turned not in range(2, 9):
            return 1, ()
        if "exif" in image.info:
            exif.tobytes()  # as exif_transpose will
        return turned or 1, ()
    except DECODER_ERRORS:
        return 1, ("The note about the camera's rotation cannot be read; the picture is used as stored.",)


def _open(data: bytes, called: str) -> ImageFile.ImageFile:
    try:
        with warnings.catch_warnings():
            # Pillow warns of large sizes, which open_file refuses.
            warnings.simplefilter("ignore")
            Image.preinit()
            try:
                return _image(data)
            except UnidentifiedImageError:
                # The readers of rare formats take 30 ms to import, which JPEG and PNG do without.
                Image.init()
                return _image(data)
    except Image.DecompressionBombError as error:
        raise ImageError(_too_large(called, f"over {2 * MAX_PIXELS // 1_000_000} million pixels")) from error
    except DECODER_ERRORS as error:
        raise ImageError(f"{called} is {description(data)}.") from error


def _image(data: bytes) -> ImageFile.ImageFile:
    return Image.open(BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN])


def _too_large(called: str, size: str) -> str:
    limit = MAX_PIXELS // 1_000_000
    return (
        f"{called} is too large: {size}, where at most {limit} million pixels are decoded; "
        "scale it down first."
    )


def _frame_notices(image: Image.Image) -> tuple[str, ...]:
    try:
        frames = int(getattr(image, "n_frames", 1))
    except DECODER_ERRORS:
        return ()
    if frames > 1 and image.format in ANIMATED_FORMATS:
        return (f"The picture is animated ({frames} frames); its first frame is used.",)
    if frames > 1 and image.format == "TIFF":
        return (f"The file holds {frames} pages; the first is used.",)
    return ()
