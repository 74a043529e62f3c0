"""Text from people, models, files and errors, made harmless for a terminal: the one place for it.

Nothing here joins or splits lines, so an answer may be made harmless piece by piece while it is said.
"""

from __future__ import annotations

import re
import unicodedata

from rich.cells import cell_len, set_cell_size

_LINE_ENDS = re.compile(r"\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
"""All that `str.splitlines` takes for a line's end: a screen that counts lines must not differ from it."""

_INVISIBLE = (
    "["
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "]"
)
"""Zero-width letters, marks of writing direction, variation selectors and tags: they hide or reorder text."""

_CONTROLS = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}
_CONTROLS |= {0x7F: "\u2421"} | dict.fromkeys(range(0x80, 0xA0), "\ufffd")
_CONTROLS |= dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
"""Control characters as their pictures, an escape as \u241b; halves of a surrogate pair as \ufffd."""

_PILE = r"[^\x00-\u02ff\u2000-\u20cf\u3000-\uffff]+"
MARKS = 4
"""Most accents that one letter may carry; more of them climb over the lines above."""


def shown(text: str) -> str:
    """The text without what a terminal would obey, what cannot be seen, and what moves other text."""
    text = _LINE_ENDS.sub("\n", text)
    if text.isascii():
        return text.translate(_CONTROLS)
    # These two are compiled (and kept by `re`) when they are first needed: 2 ms of a first frame.
    text = re.sub(_INVISIBLE, "", text).translate(_CONTROLS)
    return re.sub(_PILE, _unpiled, text)


def shown_line(text: str, width: int = 0) -> str:
    """The text on one line; with a width, shortened with an ellipsis to that many cells."""
    if width:
        # A file's name or a sentence: what would not be seen need not be looked through.
        text = text[: width * 8]
    line = " ".join(shown(text).split())
    if width and cell_len(line) > width:
        return set_cell_size(line, width - 1).rstrip() + "…" if width > 1 else "…"[:width]
    return line


def _unpiled(found: re.Match[str]) -> str:
    kept: list[str] = []
    marks = 0
    for letter in found[0]:
        marks = marks + 1 if unicodedata.combining(letter) else 0
        if marks <= MARKS:
            kept.append(letter)
    return "".join(kept)
