"""The last line of defense before the terminal: whatever a widget draws, no control code gets through.

Text is sanitized when a widget receives it (`sanitize.sanitize`). A line being edited must keep what is
in it, such as the path of a file with an odd name, so only this filter replaces its control codes.
"""

from __future__ import annotations

import re

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from minigpt4.tui.terminal.sanitize import CONTROLS

_DIRECTIONS = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd")
"""Changes of writing direction."""

_REPLACED = CONTROLS | _DIRECTIONS
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
"""The same characters; searching for them is quicker than translating every text."""


class SanitizeFilter(LineFilter):
    """Replaces each such character with a visible sign; the terminal's own control segments stay."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Return the same list in the usual case that there is nothing to replace."""
        del background
        if not any(_FORBIDDEN.search(text) for text, _, control in segments if control is None):
            return segments
        return [
            segment
            if segment.control is not None
            else Segment(segment.text.translate(_REPLACED), segment.style)
            for segment in segments
        ]
