"""From a picture file to the numbers that a vision tower reads.

Nothing here needs torch: a picture whose embedding is cached is opened, hashed and shown
without it. Files come from strangers, so everything a decoder can trip over becomes one
sentence (ImageError), and a picture's size is read before any of its pixels are.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Sequence
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
"""What is tried on a file. EPS and its like are left out: Pillow hands them to other programs."""

ANIMATED_FORMATS = ("GIF", "WEBP", "PNG", "AVIF")

KNOWN_STRANGERS = (
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
"""What Pillow's decoders have been seen to raise on damaged files."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture: upright, RGB, transparency flattened on white.

    `digest` is the SHA-256 (hex) of the file's bytes, so it names the content whatever the
    file is called; of an image in memory, that of the pixels here. `notices` are sentences for
    the person, such as that only the first frame of an animation is used.
    """

    image: Image.Image
    name: str
    digest: str
    notices: tuple[str, ...] = ()


def open_picture(
    source: str | os.PathLike[str] | bytes | Image.Image | Picture, name: str | None = None
) -> Picture:
    """Open a file, a file's bytes or an image in memory; `name` is what sentences call it.

    Raises ImageError, in one sentence, for everything that is not a usable picture.
    """
    if isinstance(source, Picture):
        return source
    if isinstance(source, Image.Image):
        image, notices = _upright_rgb(source, name or "the picture")
        return Picture(image, name or "picture", _digest_of_image(image), notices)
    if isinstance(source, bytes):
        data, called = source, name or "the picture"
        short = name or "picture"
    else:
        path = Path(source)
        data, called = _read(path), name or f"'{path}'"
        short = name or path.name
    image, notices = _decode(data, called)
    return Picture(image, short, hashlib.sha256(data).hexdigest(), notices)


def to_pixels(
    image: Image.Image, size: int, mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.float32]:
    """The picture as a tower wants it: (3, size, size), squashed (not cropped) by bicubic
    resampling, scaled to 0..1, then `(x - mean) / std` for each channel.
    """
    # Whoever changes these numbers raises CODE_VERSION in vision/fingerprint.py.
    squashed = image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
    # Turned while they are bytes, then changed in place: a third of the time, and the same numbers.
    pixels_CHW = np.ascontiguousarray(np.asarray(squashed).transpose(2, 0, 1)).astype(np.float32)
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


def _decode(data: bytes, called: str) -> tuple[Image.Image, tuple[str, ...]]:
    if not data:
        raise ImageError(f"{called} is empty (0 bytes).")
    if len(data) > MAX_FILE_BYTES:
        raise ImageError(_too_long(called))
    with warnings.catch_warnings():
        # Pillow warns of large sizes, which are refused in a sentence below, and of damaged
        # camera notes, which change nothing here.
        warnings.simplefilter("ignore")
        image = _open_header(data, called)
        notices = _frame_notices(image)
        try:
            image.load()
        except DECODER_ERRORS as error:
            raise ImageError(f"{called} is damaged or cut off and cannot be decoded ({error}).") from error
        upright, more = _upright_rgb(image, called)
    return upright, notices + more


def _open_header(data: bytes, called: str) -> Image.Image:
    """The picture with its size known and allowed, and no pixel decoded yet."""
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
    for offset, signature, description in KNOWN_STRANGERS:
        if head[offset:].startswith(signature) or (offset == 0 and signature in head):
            return description
    return "not a picture, or damaged; JPEG, PNG, WebP, GIF, BMP and TIFF can be read"


def _too_large(called: str, size: str) -> str:
    return (
        f"{called} is too large: {size}, where at most {MAX_PIXELS // 1_000_000} million pixels are "
        "decoded; scale it down first."
    )


def _too_long(called: str) -> str:
    return f"{called} is over {MAX_FILE_BYTES // 2**20} MiB, too long for a picture; save it smaller first."


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


def _upright_rgb(image: Image.Image, called: str) -> tuple[Image.Image, tuple[str, ...]]:
    notices: tuple[str, ...] = ()
    try:
        image = ImageOps.exif_transpose(image)
    except DECODER_ERRORS:
        notices = ("The note about the camera's rotation cannot be read; the picture is used as stored.",)
    try:
        return _flattened(image), notices
    except DECODER_ERRORS as error:
        raise ImageError(
            f"{called} stores its colours in a form that cannot be read (mode {image.mode})."
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


def _digest_of_image(image: Image.Image) -> str:
    # Of the upright RGB pixels: two images of like bytes may differ in palette or rotation.
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()
