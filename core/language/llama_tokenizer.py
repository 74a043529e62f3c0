"""How LLaMA and Vicuna cut text into tokens, over SentencePiece or llama.cpp's copy of it.

Texts that stand side by side are cut as one string with one prefix space, as MiniGPT-4 was trained.
Two things differ from the original: what a person wrote never becomes a control token, and
never what separates turns. Where a person's `###` or `[/INST]` stands, its characters are cut one
by one, so the model still reads them but never in the form that the template has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from minigpt4.core.types import Text

CONTROL_TOKENS = {"<unk>": 0, "<s>": 1, "</s>": 2}
"""LLaMA's control tokens; a text that holds one is cut around it, and each part has its own prefix space."""

END = CONTROL_TOKENS["</s>"]

_CONTROL = re.compile("(" + "|".join(CONTROL_TOKENS) + ")")

_TURN_MARKS = re.compile(r"#{3,}|\[/?INST\]")
"""What separates turns in the templates of this family; a run of # reads as `###` where it is cut so."""

_BREAK = "\n"
"""A character that no token has beside others: what follows it is cut as if nothing stood before."""


class LlamaText:
    """The rule above as a function from texts to token ids."""

    def __init__(self, plain: Callable[[str], Sequence[int]]) -> None:
        """`plain` cuts a text that is not empty, its prefix space added, no control token found in it."""
        self._plain = plain
        self._before_break = tuple(plain(_BREAK))

    def __call__(self, *texts: Text) -> list[int]:
        """Token ids of texts that stand side by side."""
        tokens: list[int] = []
        stretch: list[Text] = []
        for text in texts:
            if not text.control:
                stretch.append(text)
                continue
            for part in _CONTROL.split(text.text):
                if part in CONTROL_TOKENS:
                    tokens += [*self._stretch(stretch), CONTROL_TOKENS[part]]
                    stretch = []
                else:
                    stretch.append(Text(part, control=True))
        return tokens + self._stretch(stretch)

    def readings(self, text: str) -> list[list[int]]:
        """The ways `text` is cut: after a space or at the start of a text, and within a word."""
        return [list(self._plain(text)), self._within(text)]

    def _stretch(self, texts: Sequence[Text]) -> list[int]:
        """Tokens of texts without control tokens: one string, but for a person's turn marks."""
        tokens: list[int] = []
        for part, is_at_start in _parts(texts):
            tokens += self._plain(part) if is_at_start else self._within(part)
        return tokens

    def _within(self, text: str) -> list[int]:
        """Tokens of a text that continues another: without a prefix space."""
        return list(self._plain(_BREAK + text)[len(self._before_break) :])


def _parts(texts: Sequence[Text]) -> Iterator[tuple[str, bool]]:
    """The string in parts that are cut alone, and whether each is the first."""
    whole = "".join(text.text for text in texts)
    is_persons = [not text.control for text in texts for _ in text.text]
    alone = {
        place for mark in _TURN_MARKS.finditer(whole) for place in range(*mark.span()) if is_persons[place]
    }
    for is_alone, places in groupby(range(len(whole)), key=alone.__contains__):
        run = list(places)
        for start, end in ((p, p + 1) for p in run) if is_alone else ((run[0], run[-1] + 1),):
            yield whole[start:end], start == 0
