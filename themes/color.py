"""Colours as theme files write them, checked before any screen sees them.

A strict part of what Textual reads: a colour that passes here is one that it can draw.
"""

from __future__ import annotations

import re

FORMS = "#RGB, #RRGGBB, #RRGGBBAA, rgb(255, 255, 255), hsl(360, 100%, 100%) or ansi_NAME"

_HEX = re.compile(r"#(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{4}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})")
_RGB = re.compile(r"rgb\((\d{1,3}), ?(\d{1,3}), ?(\d{1,3})\)")
_HSL = re.compile(r"hsl\((\d{1,3}), ?(\d{1,3})%, ?(\d{1,3})%\)")
_ANSI = re.compile(r"ansi_(?:default|(?:bright_)?(?:black|red|green|yellow|blue|magenta|cyan|white))")


def is_color(text: str) -> bool:
    """Whether `text` is one of `FORMS`, with every number in its range."""
    if _HEX.fullmatch(text) or _ANSI.fullmatch(text):
        return True
    if rgb := _RGB.fullmatch(text):
        return all(int(channel) <= 255 for channel in rgb.groups())
    if hsl := _HSL.fullmatch(text):
        hue, saturation, lightness = map(int, hsl.groups())
        return hue <= 360 and saturation <= 100 and lightness <= 100
    return False


def looks_like_color(text: str) -> bool:
    """Whether `text` is meant as a colour, so that a mistake in it should be reported."""
    return text.startswith(("#", "rgb", "hsl", "ansi_"))
