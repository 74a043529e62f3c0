"""Marks the words that only one of two versions of a text has."""

from __future__ import annotations

import difflib
import re

from textual.content import Content

REMOVED = "$text-error strike"
ADDED = "$text-success bold underline"
"""Without colours, lines through and below the words still tell them apart."""

_WORD = re.compile(r"\s*\S+")


def differences(before: str, after: str) -> tuple[Content, Content]:
    """Both texts: the first with what was removed marked, the second with what was added."""
    was, now = _WORD.findall(before), _WORD.findall(after)
    matcher = difflib.SequenceMatcher(
        None, [word.strip() for word in was], [word.strip() for word in now], False
    )
    old, new = [], []
    for kind, was_from, was_to, now_from, now_to in matcher.get_opcodes():
        old += _marked(was[was_from:was_to], REMOVED if kind != "equal" else "")
        new += _marked(now[now_from:now_to], ADDED if kind != "equal" else "")
    return Content.assemble(*old), Content.assemble(*new)


def _marked(words: list[str], style: str) -> list[str | tuple[str, str]]:
    """The words in a style; the space before them is not marked."""
    text = "".join(words)
    if not text:
        return []
    start = len(text) - len(text.lstrip())
    return [text[:start], (text[start:], style)]
