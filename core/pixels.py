"""From a picture file to the input of a vision tower.

Nothing here needs torch. A picture is read and hashed at once and decoded only when its pixels are
asked for. Files are untrusted, so every decoder failure becomes one sentence (ImageError), and a picture's
size is checked before any of its pixels are decoded.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from minigpt4.core.errors import ImageError

MAX_PIXELS = 89_478_485
"""Most pixels a picture may hold: 256 MiB as RGB, and the size from which Pillow itself warns."""

MAX_FILE_BYTES = 256 * 2**20
"""Most bytes a picture file may hold; a longer one is a video or a disk image, not a picture."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO", "AVIF", "JPEG2000", "PPM", "TGA", "ICO")
"""Formats to try on a file. Not EPS and its like, which Pillow passes to other programs."""

ANIMATED_FORMATS = ("GIF", "WEBP", "PNG", "AVIF")

OTHER_FILES = (
    (4, b"ftyphei", "a HEIC photo; save it as JPEG or PNG first"),
    (4, b"ftypmif1", "a HEIC photo; save it as JPEG or PNG first"),
    (4, b"ftyp", "a video; save one frame of it as JPEG or PNG"),
    (0, b"%PDF", "a PDF; save the page as JPEG or PNG first"),
    (0, b"<svg", "an SVG drawing; save it as PNG first"),
)
"""Offset, first bytes and name of files that people take for pictures."""

DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    struct.error,
    zlib.error,
    RuntimeError,
    Image.DecompressionBombError,
)
"""Exceptions that Pillow's decoders raise on damaged files."""


ORIENTATION = 0x0112
"""EXIF's tag for how the camera was held."""

LYING = range(5, 9)
"""Orientations whose stored width is the upright picture's height."""

PNG_NOTES = {
    "exif": b"eXIf",
    "XML:com.adobe.xmp": b"XML:com.adobe.xmp",
    "Raw profile type exif": b"Raw profile type exif",
}
"""Pillow's names of PNG metadata that may hold the orientation, and their marks in the file.

Metadata after the pixels is only found by decoding them, so the file is searched for the marks first.
"""


@dataclass(frozen=True)
class PictureInfo:
    """The header of a picture file, read before its pixels are decoded."""

    size: tuple[int, int]
    """Width and height of the upright picture."""

    format: str
    """Pillow's name of the file format; PNG for an image in memory."""

    notices: tuple[str, ...] = ()
    """Sentences for the person, such as that only the first frame of an animation is used."""


class Picture:
    """A picture's bytes and digest, decoded when `image` is first asked for.

    A picture whose embedding is cached therefore costs one read and one SHA-256: 2 ms for a
    12-megapixel JPEG, which takes 84 ms to decode.
    """

    def __init__(self, data: bytes, name: str, called: str, *, digest: str | None = None) -> None:
        """`called` is how error sentences name it."""
        self.data = data
        """The file's bytes; none of an image in memory."""
        self.name = name
        self.digest = digest or hashlib.sha256(data).hexdigest()
        """SHA-256 (hex) of the file's bytes, so it names the content whatever the file is called;
        of an image in memory, that of its upright RGB pixels."""
        self._called = called
        self._info: PictureInfo | None = None
        self._image: Image.Image | None = None

    @classmethod
    def of_image(cls, image: Image.Image, name: str | None = None) -> Picture:
        """An image in memory; raises ImageError for a color mode that cannot be read."""
        _, notices = _orientation(image, b"")
        upright = _upright_rgb(image, name or "the picture")
        # Images of equal bytes may differ in palette or rotation, so the decoded pixels are hashed.
        digest = hashlib.sha256(f"{upright.size}".encode() + upright.tobytes()).hexdigest()
        picture = cls(b"", name or "picture", name or "the picture", digest=digest)
        picture._info, picture._image = PictureInfo(upright.size, "PNG", notices), upright
        return picture

    @property
    def info(self) -> PictureInfo:
        """Size, format and notices, from the header alone; raises ImageError if it is damaged."""
        if self._info is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._info = _info(_open_header(self.data, self._called), self.data)
        return self._info

    @property
    def image(self) -> Image.Image:
        """The pixels: upright, RGB, transparency flattened on white.

        Decoded once and then kept. Raises ImageError, in one sentence, for any unusable picture.
        """
        if self._image is None:
            self._image = self._decode()
        return self._image

    def take_pixels(self, square: NDArray[np.uint8]) -> None:
        """Use pixels (H, W, 3) that another process has decoded and squashed; see `SquareCache`."""
        self._image = Image.fromarray(square)

    def _decode(self) -> Image.Image:
        with warnings.catch_warnings():
            # Pillow warns of large sizes, which are refused below, and of damaged EXIF data, which does
            # not matter here.
            warnings.simplefilter("ignore")
            image = _open_header(self.data, self._called)
            self._info = _info(image, self.data)
            try:
                image.load()
            except DECODER_ERRORS as error:
                raise ImageError(
                    f"{self._called} is damaged or cut off and cannot be decoded ({error})."
                ) from error
            return _upright_rgb(image, self._called)


def open_picture(
    source: str | os.PathLike[str] | bytes | Image.Image | Picture, name: str | None = None
) -> Picture:
    """Read a file, a file's bytes or an image in memory; `name` is what sentences call it.

    Nothing is decoded yet. Raises ImageError, in one sentence, for a file that cannot be read.
    """
    if isinstance(source, Picture):
        return source
    if isinstance(source, Image.Image):
        return Picture.of_image(source, name)
    if isinstance(source, bytes):
        return Picture(source, name or "picture", name or "the picture")
    path = Path(source)
    return Picture(_read(path), name or path.name, name or f"'{path}'")


def squashed(image: Image.Image, size: int) -> Image.Image:
    """The picture as a square of `size` pixels: squashed, not cropped, by bicubic resampling."""
    # After a change of these pixels, or those of `to_pixels`, raise CODE_VERSION in vision/fingerprint.py.
    return image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)


def to_pixels(
    image: Image.Image, size: int, mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.float32]:
    """The input of a vision tower, (3, size, size): the squashed picture scaled to 0..1, then
    `(x - mean) / std` for each channel.
    """
    # Transposed while still bytes, then changed in place: a third of the time, and the same numbers.
    pixels_CHW = np.ascontiguousarray(np.asarray(squashed(image, size)).transpose(2, 0, 1)).astype(np.float32)
    pixels_CHW /= np.float32(255)
    pixels_CHW -= np.asarray(mean, np.float32)[:, None, None]
    pixels_CHW /= np.asarray(std, np.float32)[:, None, None]
    return pixels_CHW


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(f"'{path}' is a folder; give the path of a picture in it.")
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode)):
            raise ImageError(f"'{path}' is a device, not a picture file.")
        if status.st_size > MAX_FILE_BYTES:
            raise ImageError(_too_long(f"'{path}'"))
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ImageError(f"There is no file '{path}'; check the path.") from None
    except PermissionError:
        raise ImageError(f"'{path}' may not be read by this user; change its permissions.") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise ImageError(f"'{path}' cannot be read: {reason}.") from error
    except ValueError as error:
        raise ImageError(f"{str(path)!r} is not a path: {error}.") from error


def _open_header(data: bytes, called: str) -> Image.Image:
    """The picture with its size known and allowed, and no pixel decoded yet."""
    if not data:
        raise ImageError(f"{called} is empty (0 bytes).")
    if len(data) > MAX_FILE_BYTES:
        raise ImageError(_too_long(called))
    Image.init()
    try:
        image = Image.open(BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN])
    except Image.DecompressionBombError as error:
        raise ImageError(_too_large(called, f"over {2 * MAX_PIXELS // 1_000_000} million pixels")) from error
    except DECODER_ERRORS as error:
        raise ImageError(f"{called} is {_what_it_is(data)}.") from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(_too_large(called, f"{width} x {height} pixels"))
    if width < 1 or height < 1:
        raise ImageError(f"{called} has no pixels ({width} x {height}).")
    return image


def _what_it_is(data: bytes) -> str:
    head = data[:512].lstrip()
    for offset, signature, description in OTHER_FILES:
        if head[offset:].startswith(signature) or (offset == 0 and signature in head):
            return description
    return "not a picture, or damaged; JPEG, PNG, WebP, GIF, BMP and TIFF can be read"


def _too_large(called: str, size: str) -> str:
    limit = MAX_PIXELS // 1_000_000
    return (
        f"{called} is too large: {size}, where at most {limit} million pixels are decoded; "
        "scale it down first."
    )


def _too_long(called: str) -> str:
    return f"{called} is over {MAX_FILE_BYTES // 2**20} MiB, too long for a picture; save it smaller first."


def _info(image: Image.Image, data: bytes) -> PictureInfo:
    width, height = image.size
    frames = _frame_notices(image)
    orientation, notices = _orientation(image, data)
    size = (height, width) if orientation in LYING else (width, height)
    return PictureInfo(size, image.format or "PNG", frames + notices)


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


def _orientation(image: Image.Image, data: bytes) -> tuple[int, tuple[str, ...]]:
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
        orientation = exif.get(ORIENTATION)
        if orientation not in range(2, 9):
            return 1, ()
        if "exif" in image.info:
            exif.tobytes()  # as exif_transpose will
        return orientation or 1, ()
    except DECODER_ERRORS:
        return 1, ("The note about the camera's rotation cannot be read; the picture is used as stored.",)


def _upright_rgb(image: Image.Image, called: str) -> Image.Image:
    with suppress(*DECODER_ERRORS):  # broken EXIF data, which PictureInfo.notices reports
        image = ImageOps.exif_transpose(image)
    try:
        return _flattened(image)
    except DECODER_ERRORS as error:
        raise ImageError(
            f"{called} stores its colors in a form that cannot be read (mode {image.mode})."
        ) from error


def _flattened(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bits(image).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        flat = Image.new("RGB", layer.size, "white")
        flat.paste(layer, mask=layer.getchannel("A"))
        return flat
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey values wider than a byte, brought to 0..255; Pillow's own conversion clips them.

    16-bit values are divided by 257. Wider ones have no agreed white, so they are stretched
    from their least to their greatest value, unless they already lie in 0..65535 (whole
    numbers) or 0..1 (fractions).
    """
    values: NDArray[Any] = np.asarray(image).astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    top = 1.0 if image.mode == "F" else 65535.0
    if low >= 0 and high <= top:
        low, high = 0.0, top
    known = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    scaled = (known - low) * 255 / max(high - low, 1e-12)
    return Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))
