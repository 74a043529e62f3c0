"""Placeholders for users' texts and for pictures: a template places them and cannot read or imitate them.

No user's text reaches a template, so none can become a control token, and no text can make a template
write something else. White space around a text does reach it, because templates trim.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

BEGIN, END = "\ufdd0", "\ufdd1"
"""Unicode noncharacters; they have no upper case, so filters leave them alone."""

MOST_SPACE = 1000
"""Characters of white space around a text that a template sees; more is part of the text."""


@dataclass(frozen=True)
class Place:
    """Where the template put a text, or a picture, of this number."""

    number: int
    is_picture: bool


@dataclass(frozen=True)
class Typed:
    """A user's text, separated from the white space around it."""

    before: str
    text: str
    after: str

    @classmethod
    def of(cls, text: str) -> Typed:
        """The text in its three parts."""
        inner = text.strip()
        if not inner:
            return cls(text[:MOST_SPACE], "", "")
        before, after = text[: text.index(inner)], text[text.index(inner) + len(inner) :]
        if max(len(before), len(after)) > MOST_SPACE:
            return cls("", text, "")
        return cls(before, inner, after)


class Marks:
    """Marks with an unguessable number, chosen when a template is opened."""

    def __init__(self) -> None:
        self._secret = f"{secrets.randbelow(10**12):012}"
        self._pattern = re.compile(f"{BEGIN}{self._secret}([01])([0-9]+){END}")
        self.guard = f"{BEGIN}{self._secret}{END}"
        """A mark that stands for nothing; it reveals lists that are written as Python or JSON."""

    def text(self, number: int) -> str:
        """The mark of a text."""
        return f"{BEGIN}{self._secret}0{number}{END}"

    def picture(self, number: int) -> str:
        """The mark of a picture."""
        return f"{BEGIN}{self._secret}1{number}{END}"

    def split(self, rendered: str) -> list[str | Place]:
        """What a template wrote, and the places of the marks in it; raises ValueError for a broken mark."""
        parts: list[str | Place] = []
        for index, part in enumerate(self._pattern.split(rendered)):
            if index % 3 == 0:
                if BEGIN in part or END in part:
                    raise ValueError
                if part:
                    parts.append(part)
            elif index % 3 == 1:
                is_picture = part == "1"
            else:
                parts.append(Place(int(part), is_picture))
        return parts
