"""The image formats that are read, and the exceptions that their decoders raise."""

from __future__ import annotations

import struct
import zlib

from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO", "AVIF", "JPEG2000", "PPM", "TGA", "ICO")
"""Formats to try on a file. Not EPS and its like, which Pillow passes to other programs."""

ANIMATED_FORMATS = ("GIF", "WEBP", "PNG", "AVIF")

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
