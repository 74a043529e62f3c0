"""Decoded images as sRGB in 8 bits on white, whatever their color profile, depth and transparency.

An image whose profile is sRGB, or that has none, keeps its values bit for bit.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from minigpt4.core.image_file.formats import DECODER_ERRORS

if TYPE_CHECKING:
    from PIL.ImageCms import ImageCmsTransform

SAME_COLOR = 2
"""Most levels of 255 by which a profile may change a color and still count as sRGB.

Copies of sRGB differ by one or two in how their curve is rounded; Display P3 differs by 40.
"""

TEST_LEVELS = (0, 8, 16, 32, 64, 96, 128, 192, 255)
"""Dense in the shadows, where curves differ most."""

INPUT_CLASSES = ("mntr", "scnr", "prtr", "spac")
"""Profiles of displays, scanners, printers and color spaces; not links, effects or named colors."""


class ProfileError(Exception):
    """The color profile is broken, or for another color space than the image's."""


def srgb_conversion(image: Image.Image) -> ImageCmsTransform | None:
    """The conversion from the image's color profile to sRGB; None if it has none or that is sRGB.

    Relative colorimetric, as is usual for photos. No pixels are needed. Raises ProfileError.
    """
    # Lab is the same color in every profile.
    if "icc_profile" not in image.info or image.mode == "LAB":
        return None
    # Loaded here, because few images need it.
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(BytesIO(image.info["icc_profile"]))
        if source.profile.device_class not in INPUT_CLASSES:
            raise ProfileError(f"a profile of the class {source.profile.device_class}")
        conversion = ImageCms.ImageCmsTransform(
            source,
            ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
            _input_mode(image, source.profile.xcolor_space.strip()),
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
        )
        return conversion if _changes_colors(conversion) else None
    except (*DECODER_ERRORS, ImportError, ImageCms.PyCMSError) as error:
        # ImportError: this Pillow was built without LittleCMS.
        raise ProfileError(str(error)) from error


def correct_transparent_color(image: Image.Image) -> bool:
    """Convert a PNG's transparent color to the depth of the decoded pixels; returns whether it changed.

    Pillow leaves it in the file's depth. Call this before the pixels are decoded.
    """
    color = image.info.get("transparency")
    match color, _rawmode(image):
        case int(), "L;2":
            image.info["transparency"] = color * 85
        case int(), "L;4":
            image.info["transparency"] = color * 17
        case tuple(), "RGB;16B":
            image.info["transparency"] = tuple(one >> 8 for one in color)
        case _:
            return False
    return True


def is_wide(image: Image.Image) -> bool:
    """Whether it is grey with more than 8 bits."""
    return image.mode.startswith("I") or image.mode == "F"


def to_srgb(image: Image.Image, conversion: ImageCmsTransform | None = None) -> Image.Image:
    """The image as RGB, after `srgb_conversion`'s conversion, with transparency flattened on white.

    Raises one of DECODER_ERRORS for colors in a form that cannot be read.
    """
    colors, opacity = _colors_and_opacity(image, conversion.input_mode if conversion else "RGB")
    if conversion:
        colors = conversion.apply(colors)
        del colors.info["icc_profile"]
    if opacity is None:
        return colors
    flat = Image.new("RGB", colors.size, "white")
    flat.paste(colors, mask=opacity)
    return flat


def _rawmode(image: Image.Image) -> object:
    """Pillow's raw mode of the file's values; None once they are decoded."""
    tiles: Any = getattr(image, "tile", None)
    return tiles[0].args if tiles else None


def _input_mode(image: Image.Image, space: str) -> str:
    """Pillow's mode of the values that a profile of that color space applies to."""
    if space == "CMYK" and image.mode == "CMYK":
        return "CMYK"
    if space == "RGB" and image.mode not in ("CMYK", "LAB", "HSV"):
        return "RGB"
    if space == "GRAY" and is_wide(image):
        return "I;16"
    # Pillow decodes grey and transparency of 16 bits each as RGBA.
    is_grey = image.mode in ("1", "L", "LA", "La") or _rawmode(image) == "LA;16B"
    if space == "GRAY" and is_grey:
        return "L"
    raise ProfileError(f"a profile of {space} for an image of {image.mode}")


def _changes_colors(conversion: ImageCmsTransform) -> bool:
    """Whether the conversion changes any color visibly. Raises ProfileError if it maps all to one."""
    if conversion.input_mode == "CMYK":
        return True
    if conversion.input_mode == "RGB":
        levels = np.array(TEST_LEVELS, np.uint8)
        before = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, levels.size, 3)
        test = Image.fromarray(before)
    else:
        greys = np.arange(256, dtype=np.uint16)[None]
        before = np.repeat(greys[..., None], 3, axis=-1)
        test = Image.fromarray(greys * 257 if conversion.input_mode == "I;16" else greys.astype(np.uint8))
    after = np.asarray(conversion.apply(test)).astype(int)
    if (after == after[0, 0]).all():
        raise ProfileError("it makes all colors the same")
    return bool((abs(after - before) > SAME_COLOR).any())


def _colors_and_opacity(image: Image.Image, mode: str) -> tuple[Image.Image, Image.Image | None]:
    if is_wide(image):
        values: NDArray[Any] = np.asarray(image)
        clear = image.info.get("transparency")
        opacity = np.where(values == clear, 0, 255).astype(np.uint8) if isinstance(clear, int) else None
        colors = _sixteen_bits(image) if mode == "I;16" else _eight_bits(image).convert(mode)
        return colors, None if opacity is None else Image.fromarray(opacity)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return layer.convert(mode), layer.getchannel("A")
    return image.convert(mode), None


def _eight_bits(image: Image.Image) -> Image.Image:
    return Image.fromarray(_stretched(image, 255).astype(np.uint8))


def _sixteen_bits(image: Image.Image) -> Image.Image:
    return Image.fromarray(_stretched(image, 65535).astype(np.uint16))


def _stretched(image: Image.Image, white: int) -> NDArray[np.float64]:
    """Grey values wider than a byte, brought to 0..white; Pillow's own conversion clips them.

    16-bit values keep their proportion to 65535. Wider ones have no agreed white, so they are
    stretched from their least to their greatest value, unless they already lie in 0..65535
    (whole numbers) or 0..1 (fractions).
    """
    values: NDArray[Any] = np.asarray(image).astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    top = 1.0 if image.mode == "F" else 65535.0
    if low >= 0 and high <= top:
        low, high = 0.0, top
    known = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    scaled: NDArray[np.float64] = (known - low) * white / max(high - low, 1e-12)
    levels: NDArray[np.float64] = np.clip(np.rint(scaled), 0, white)
    return levels
