"""The last guard before the terminal: whatever a widget draws, nothing in it is obeyed.

Texts are made harmless where they are handed to a widget (`text.shown`); a line that is edited must
keep what is in it, such as the path of a file with an odd name, and is seen through this alone.
"""

from __future__ import annotations

import re

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
"""Controls, halves of surrogate pairs, which no terminal can be sent, and changes of writing direction."""


class Harmless(LineFilter):
    """Puts a sign in the place of each such letter; what is meant for the terminal itself stays."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same segments, as nearly always, where there is no such letter."""
        del background
        if not any(_OBEYED.search(text) for text, _, control in segments if control is None):
            return segments
        return [
            segment
            if segment.control is not None
            else Segment(_OBEYED.sub(_sign, segment.text), segment.style)
            for segment in segments
        ]


def _sign(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else "\ufffd"
