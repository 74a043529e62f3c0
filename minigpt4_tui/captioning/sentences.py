"""Whole sentences of an answer, and the one that serves as alt text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_END = re.compile(r"[.!?…]+[\"'”’»)\]]*(?=\s|$)|[。！？]+[」』”]?")
"""Where a sentence may end."""

_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'.])(?:mr|mrs|ms|dr|st|prof|jr|sr|vs|etc|e\.g|i\.e|[ap]\.m|approx|(?-i:[A-Z]))$|^\d{1,2}$",
    re.IGNORECASE,
)
"""Words before a full stop that does not end a sentence: abbreviations, initials, the number of a list."""

_CAPTION = r"(?:alt(?:ernative)?[ -]?text|caption|description|sentence|answer)"
_PICTURE = r"(?:image|picture|photo|photograph|scene|illustration|screenshot)"
_SHOWS = (
    r"(?:(?:clearly |also |mainly )?(?:shows?|depicts?|features?|displays?|captures?|presents?|portrays?|"
    r"illustrates?|contains?|showcases?)|(?:appears|seems) to (?:show|depict|be of)|is of|consists of)"
)
_SEES = r"(?:(?:we|you|i|one) (?:can )?see|there (?:is|are)|there's|can be seen)"
_OPENINGS = re.compile(
    "|".join(
        (
            r"\d{1,2}[.)]\s+",
            r"(?:sure|certainly|of course|okay|ok)[,.!:]\s+",
            rf"(?:here(?:'s| is) (?:an?|the|one) (?:\w+ )?)?{_CAPTION}"
            rf"(?: (?:for|of) (?:this|the) {_PICTURE})?\s*:\s*",
            rf"(?:in|on) (?:this|the) {_PICTURE}\s*,?\s+(?:{_SEES}\s+)?",
            rf"(?:this|the|that) {_PICTURE} {_SHOWS} (?:that )?",
            rf"(?:this|the) {_PICTURE} is (?=an? )",
            rf"(?:this|it|here) is an? {_PICTURE} (?:of|showing|depicting|that shows) ",
            rf"an? {_PICTURE} (?:of|showing|depicting|that shows) ",
            rf"{_PICTURE} (?:of|showing|depicting) ",
            rf"(?:this|it) {_SHOWS} (?:that )?",
            r"(?:this|it) is (?=an? |the )",
            rf"{_SEES} ",
        )
    ),
    re.IGNORECASE,
)
"""Openings that alt text drops: a screen reader has already said that this is a picture."""

_QUOTES = {'"': '"', "'": "'", "“": "”", "«": "»"}


def as_caption(answer: str) -> str:
    """The answer without characters that a text file may lose: control characters and byte order marks."""
    lines = re.sub(r"\r\n?|[\v\f\x85\u2028\u2029]", "\n", answer)
    return "".join(letter for letter in lines if letter in "\n\t" or not _is_lost(letter)).strip()


def _is_lost(letter: str) -> bool:
    return letter in "\ufeff\ufffe" or unicodedata.category(letter) in ("Cc", "Cs")


def whole_sentences(text: str) -> str:
    """The text up to the end of its last whole sentence; the whole text if no sentence ends."""
    ends = list(_ends(text))
    return text[: ends[-1]].strip() if ends else text.strip()


def alt_text(answer: str) -> str:
    """The first sentence of an answer, without "The image shows" and the like.

    Empty for an empty answer.
    """
    text = _unquoted(" ".join(answer.replace("**", "").split()))
    while (match := _OPENINGS.match(text)) and re.search(r"\w", text[match.end() :]):
        text = _unquoted(text[match.end() :].strip())
    text = text[: next(_ends(text), len(text))].strip()
    if not text:
        return ""
    is_ended = re.search(r"[.!?…。！？][\"'”’»)\]」』]*$", text)
    return f"{text[0].upper()}{text[1:].rstrip(' ,;:')}" + ("" if is_ended else ".")


def _ends(text: str) -> Iterator[int]:
    """Positions after the ends of sentences."""
    for match in _END.finditer(text):
        is_last = match.end() == len(text)
        if is_last or match[0][0] != "." or not _ABBREVIATION.search(text[: match.start()]):
            yield match.end()


def _unquoted(text: str) -> str:
    closing = _QUOTES.get(text[:1])
    is_whole = closing is not None and len(text) > 2 and text.endswith(closing) and closing not in text[1:-1]
    return text[1:-1].strip() if is_whole else text
