"""From a picture file to the input of a vision tower.

Nothing here needs torch. A picture is read and hashed at once and decoded only when its pixels are
asked for. Files are untrusted, so every decoder failure becomes one sentence (ImageError), and a picture's
size is checked before any of its pixels are decoded.
"""

from __future__ import annotations

import hashlib
import math
import os
import stat
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from minigpt4.core.bundles.geometry import Fit
from minigpt4.core.errors import ImageError
from minigpt4.core.image_file.color import ProfileError, srgb_conversion, to_srgb
from minigpt4.core.image_file.decode import decode
from minigpt4.core.image_file.formats import DECODER_ERRORS
from minigpt4.core.image_file.header import OpenedFile, PictureInfo, open_file, orientation, picture_info
from minigpt4.core.storage.regular_file import NO_FILES, open_file_or_pipe

if TYPE_CHECKING:
    from PIL.ImageCms import ImageCmsTransform

MAX_FILE_BYTES = 256 * 2**20
"""Most bytes a picture file may hold; a longer one is a video or a disk image, not a picture."""

PIXELS_VERSION = 2
"""Version of the pixels of images with a color profile other than sRGB or a corrected transparent color.

Version 1 used their values as if they were sRGB. Raise it whenever their conversion changes again.
It is part of the cache keys of such pictures only: all others have kept their pixels, and so their
embeddings, bit for bit. For a change to all pictures' pixels, raise `CODE_VERSION` (vision/fingerprint.py).
"""


class Picture:
    """A picture's bytes and digest, decoded when `image` is first asked for.

    A picture whose embedding is cached therefore costs one read and one SHA-256: 2 ms for a
    12-megapixel JPEG, which takes 84 ms to decode.
    """

    def __init__(self, data: bytes, name: str, called: str, *, digest: str | None = None) -> None:
        """`called` is its name in error messages."""
        self.data = data
        """The file's bytes; empty for an image in memory."""
        self.name = name
        self.digest = digest or hashlib.sha256(data).hexdigest()
        """SHA-256 (hex) of the file's bytes, so independent of the file's name; for an image in
        memory, of its upright RGB pixels."""
        self.missing: float | None = None
        """Fraction of rows missing from a truncated or damaged file; None for a complete file, and
        before decoding."""
        self._called = called
        self._opened: OpenedFile | None = None
        self._has_new_pixels: bool | None = None
        self._info: PictureInfo | None = None
        self._image: Image.Image | None = None

    @classmethod
    def of_image(cls, image: Image.Image, name: str | None = None) -> Picture:
        """An image in memory; raises ImageError for a color mode that cannot be read."""
        _, notices = orientation(image)
        conversion = None
        with suppress(ProfileError):
            conversion = srgb_conversion(image)
        upright = _upright_rgb(image, conversion, name or "the picture")
        # Images of equal bytes may differ in palette or rotation, so the decoded pixels are hashed.
        digest = hashlib.sha256(f"{upright.size}".encode() + upright.tobytes()).hexdigest()
        picture = cls(b"", name or "picture", name or "the picture", digest=digest)
        picture._info, picture._image = PictureInfo(upright.size, "PNG", notices), upright
        picture._has_new_pixels = False
        return picture

    @property
    def info(self) -> PictureInfo:
        """Size, format and notices; raises ImageError if the header is damaged.

        From the header alone, except for the notice that the file is cut off, which decoding adds.
        """
        if self._info is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._info = picture_info(self._open(), self.data)
        return self._info

    @property
    def key(self) -> str:
        """The cache key of its pixels; raises ImageError if the header is damaged.

        Usually the digest. A picture known to be truncated has another key: if only that one is cached,
        the file is decoded again, and its notice shown again.
        """
        whole, cut = self.keys
        return whole if self.missing is None else cut

    @property
    def keys(self) -> tuple[str, str]:
        """The key for a complete file and the key for a truncated one; only decoding shows which applies."""
        if self._has_new_pixels is None:
            self._open()
        whole = f"{self.digest}-{PIXELS_VERSION}" if self._has_new_pixels else self.digest
        return whole, f"{whole}-cut"

    @property
    def image(self) -> Image.Image:
        """The pixels: upright, sRGB, transparency flattened on white.

        Decoded once and then kept. Raises ImageError, in one sentence, for any unusable picture.
        """
        if self._image is None:
            self._image = self._decode()
        return self._image

    @property
    def whole_image(self) -> Image.Image:
        """`image`, but raises ImageError if rows are missing too, as a caption might describe the gap."""
        image = self.image
        if self.missing:
            missing = f"{max(self.missing, 0.01):.0%} of the picture is missing"
            raise ImageError(f"{self._called} is damaged or cut off: {missing}; fetch it again.")
        return image

    def take_pixels(self, square: NDArray[np.uint8]) -> None:
        """Use pixels (H, W, 3) that another process has decoded and squashed; see `SquareCache`."""
        self._image = Image.fromarray(square)

    def _open(self) -> OpenedFile:
        if self._opened is None:
            if not self.data:
                raise ImageError(f"{self._called} is empty (0 bytes).")
            if len(self.data) > MAX_FILE_BYTES:
                raise ImageError(_too_long(self._called))
            self._opened = open_file(self.data, self._called)
            self._has_new_pixels = self._opened.has_new_pixels
        return self._opened

    def _decode(self) -> Image.Image:
        with warnings.catch_warnings():
            # Pillow warns of large sizes, which are refused, and of damaged EXIF data, which does
            # not matter here.
            warnings.simplefilter("ignore")
            opened, info = self._open(), self.info
            self._opened = None  # its pixels, which would otherwise be kept beside the RGB ones
            try:
                decoded = decode(opened.image, self.data)
            except DECODER_ERRORS as error:
                raise ImageError(
                    f"{self._called} is damaged or cut off and cannot be decoded; fetch it again or save it "
                    "anew."
                ) from error
            if decoded.notice:
                self.missing = decoded.missing
                self._info = replace(info, notices=(*info.notices, decoded.notice))
            return _upright_rgb(decoded.image, opened.conversion, self._called)


def open_picture(
    source: str | os.PathLike[str] | bytes | Image.Image | Picture, name: str | None = None
) -> Picture:
    """Read a file, a file's bytes or an image in memory; `name` is its name in error messages.

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


PADDING = (122, 116, 104)
"""The color beside a letterboxed picture: CLIP's mean, as in LLaVA and llama.cpp."""


def letterboxed(image: Image.Image, size: int) -> Image.Image:
    """The whole picture in its own proportions, centered on a square of `size` pixels; bicubic.

    As llama.cpp's libmtmd prepares pictures for LLaVA-1.5 (`img_tool::resize` of its mtmd-image.cpp, to the
    pixel): sides are computed in float32 and rounded up.
    """
    image = image.convert("RGB")
    if image.size == (size, size):
        return image
    scale = min(np.float32(size) / np.float32(side) for side in image.size)
    width, height = (min(math.ceil(np.float32(side) * scale), size) for side in image.size)
    square = Image.new("RGB", (size, size), PADDING)
    # One side after the other: Pillow 13 begins with the height of a tall picture, libmtmd with the width.
    inner = image.resize((width, image.height), Image.Resampling.BICUBIC)
    inner = inner.resize((width, height), Image.Resampling.BICUBIC)
    square.paste(inner, ((size - width) // 2, (size - height) // 2))
    return square


def to_pixels(
    image: Image.Image, size: int, mean: Sequence[float], std: Sequence[float], fit: Fit = "squashed"
) -> NDArray[np.float32]:
    """The input of a vision tower, (3, size, size): the picture as a square scaled to 0..1, then
    `(x - mean) / std` for each channel.
    """
    square = FITS[fit](image, size)
    # Transposed while still bytes, then changed in place: a third of the time, and the same numbers.
    pixels_CHW = np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1)).astype(np.float32)
    pixels_CHW /= np.float32(255)
    pixels_CHW -= np.asarray(mean, np.float32)[:, None, None]
    pixels_CHW /= np.asarray(std, np.float32)[:, None, None]
    return pixels_CHW


FITS: Mapping[Fit, Callable[[Image.Image, int], Image.Image]] = {
    "squashed": squashed,
    "letterboxed": letterboxed,
}


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(f"'{path}' is a folder; give the path of a picture in it.")
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode)):
            what = NO_FILES.get(stat.S_IFMT(status.st_mode), "something else")
            raise ImageError(f"'{path}' is {what}, not a picture file.")
        if status.st_size > MAX_FILE_BYTES:
            raise ImageError(_too_long(f"'{path}'"))
        with open_file_or_pipe(path) as file:
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


def _too_long(called: str) -> str:
    return f"{called} is over {MAX_FILE_BYTES // 2**20} MiB, too long for a picture; save it smaller first."


def _upright_rgb(image: Image.Image, conversion: ImageCmsTransform | None, called: str) -> Image.Image:
    with suppress(*DECODER_ERRORS):  # broken EXIF data, which PictureInfo.notices reports
        image = ImageOps.exif_transpose(image)
    try:
        return to_srgb(image, conversion)
    except DECODER_ERRORS as error:
        raise ImageError(
            f"{called} stores its colors in a form that cannot be read (mode {image.mode})."
        ) from error
