"""The tokenizer that a GGUF file brings, over llama.cpp's: any family's.

Adjacent texts are tokenised as one string. Control tokens are found in a template's text only; of a
person's, those that llama.cpp would find anyway (of the kind "user defined", some of which mark pictures
and turns) are taken apart, so the model still reads their characters but never the mark.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from minigpt4.core.types import Text

_MARK = re.compile(r"<[^<>\s]+>|\[[A-Z_/]+\]")
"""How marks of turns and pictures are spelt, among the tokens that are "user defined"."""

_BREAK = "\n"
"""A character that never merges with others: text after it is tokenised as if nothing preceded it."""


class GgufText:
    """The rule above as a function from texts to token ids."""

    def __init__(
        self,
        plain: Callable[[str], Sequence[int]],
        control: Iterable[tuple[str, int]],
        user_defined: Iterable[str],
    ) -> None:
        """`plain` tokenises a text and finds no control tokens; `control` are those, by their spelling."""
        self._plain = plain
        self._control = {text: token for text, token in control if text}
        self._marks = tuple(text for text in user_defined if _MARK.fullmatch(text))
        self._before_break = tuple(plain(_BREAK))

    def __call__(self, *texts: Text) -> list[int]:
        """Token ids of adjacent texts."""
        tokens: list[int] = []
        stretch: list[Text] = []
        for text in texts:
            for part in self._split(text):
                if text.control and part in self._control:
                    tokens += [*self._stretch(stretch), self._control[part]]
                    stretch = []
                elif part:
                    stretch.append(Text(part, control=text.control))
        return tokens + self._stretch(stretch)

    def _split(self, text: Text) -> list[str]:
        """A template's text at its control tokens, the longest first; a person's is one part."""
        found = [spelt for spelt in self._control if spelt in text.text] if text.control else []
        if not found:
            return [text.text]
        found.sort(key=len, reverse=True)
        return re.split(f"({'|'.join(map(re.escape, found))})", text.text)

    def _stretch(self, texts: Sequence[Text]) -> list[int]:
        """Tokens of texts without control tokens: one string, but for the marks that a person typed."""
        tokens: list[int] = []
        for place, part in enumerate(self._parts(texts)):
            tokens += self._within(part) if place else self._plain(part)
        return tokens

    def _parts(self, texts: Sequence[Text]) -> list[str]:
        whole = "".join(text.text for text in texts)
        is_typed = [not text.control for text in texts for _ in text.text]
        cuts = [0]
        for mark in self._marks:
            place = whole.find(mark)
            while place >= 0:
                if any(is_typed[place : place + len(mark)]):
                    cuts.append(place + 1)
                place = whole.find(mark, place + 1)
        cuts = sorted({*cuts, len(whole)})
        return [whole[start:end] for start, end in zip(cuts, cuts[1:], strict=False)]

    def _within(self, text: str) -> list[int]:
        """Tokens of a text that continues another: without a space that a SentencePiece vocabulary puts first."""
        return list(self._plain(_BREAK + text)[len(self._before_break) :])
