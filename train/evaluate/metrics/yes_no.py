"""What a judge's words mean, if they clearly say yes or no."""

from __future__ import annotations

import re

_MARKS = re.compile(r"[*_`\"'\u201c\u201d\u2018\u2019]+")
_OPENING = re.compile(r"(yes|no)\b(?=\s*(?:$|[.,;:!\n\u2014-]|\(|it\b))")
_STATED = re.compile(r"\b(?:answer|verdict)(?: is)?\s*:?\s*(yes|no)\s*(?:[.!]|$)", re.MULTILINE)
_ALONE = re.compile(r"(?:^|[.,;:!\n])\s*(yes|no)\s*(?=[.,;:!\n]|$)")
_HEDGED = re.compile(r"\byes (?:and|or) no\b|\bno (?:and|or) yes\b|\byes/no\b|\byes, (?:and|but) no\b")


def yes_or_no(words: str) -> float | None:
    """1 for yes, 0 for no; None for prose that neither opens with one nor states it as its answer.

    Also None if both are said ("Yes and no", "Yes. No.").
    """
    text = _MARKS.sub("", words).strip().lower()
    if _HEDGED.search(text):
        return None
    said = {found.group(1) for found in (*_STATED.finditer(text), *_ALONE.finditer(text))}
    if opening := _OPENING.match(text):
        said.add(opening.group(1))
    return {"yes": 1.0, "no": 0.0}[said.pop()] if len(said) == 1 else None
