"""Makes text from people, models, files and errors safe to print in a terminal.

Nothing here joins or splits lines, so an answer can be sanitized delta by delta while it streams.
"""

from __future__ import annotations

import re
import unicodedata

from rich.cells import cell_len, set_cell_size

_LINE_ENDS = re.compile(r"\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
"""All line ends of `str.splitlines`: code that counts lines must agree with it."""

_INVISIBLE = (
    "["
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "]"
)
"""Zero-width characters, direction marks, variation selectors and tags: they hide or reorder text."""

CONTROLS = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}
CONTROLS |= {0x7F: "\u2421"} | dict.fromkeys(range(0x80, 0xA0), "\ufffd")
CONTROLS |= dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
"""Control characters become their Unicode pictures (escape is \u241b), lone surrogates \ufffd."""

_MAY_COMBINE = r"[^\x00-\u02ff\u2000-\u20cf\u3000-\uffff]+"
MAX_MARKS = 4
"""Combining marks kept on one character; more of them would climb over the lines above."""


def sanitize(text: str) -> str:
    """The text without control codes, invisible characters, and characters that reorder others."""
    text = _LINE_ENDS.sub("\n", text)
    if text.isascii():
        return text.translate(CONTROLS)
    # `re` compiles and caches these two on first use: at import they would cost the first frame 2 ms.
    text = re.sub(_INVISIBLE, "", text).translate(CONTROLS)
    return re.sub(_MAY_COMBINE, _limit_marks, text)


def sanitize_line(text: str, width: int = 0) -> str:
    """The sanitized text on one line, shortened with an ellipsis to `width` cells (0: any width)."""
    if width:
        # A pasted book need not be scanned beyond what is visible.
        text = text[: width * 8]
    line = " ".join(sanitize(text).split())
    if width and cell_len(line) > width:
        return set_cell_size(line, width - 1).rstrip() + "…" if width > 1 else "…"[:width]
    return line


def _limit_marks(found: re.Match[str]) -> str:
    kept: list[str] = []
    marks = 0
    for letter in found[0]:
        marks = marks + 1 if unicodedata.combining(letter) else 0
        if marks <= MAX_MARKS:
            kept.append(letter)
    return "".join(kept)
