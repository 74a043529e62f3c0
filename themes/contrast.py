"""How well one colour stands out on another, as the Web Content Accessibility Guidelines measure it.

WCAG 2.2, "relative luminance" and "contrast ratio": from 1 (the same) to 21 (black on white). Text
needs 4.5 (success criterion 1.4.3), 7 where more is wanted (1.4.6).
"""

from __future__ import annotations

READABLE = 4.5
VERY_READABLE = 7.0

Rgb = tuple[int, int, int]


def contrast(one: Rgb, other: Rgb) -> float:
    """The contrast ratio of two opaque colours, in either order."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color: Rgb) -> float:
    """Relative luminance of an sRGB colour: 0 is black, 1 is white."""
    red, green, blue = (_linear(channel / 255) for channel in color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4
