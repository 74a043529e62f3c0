"""LLaMA's and Vicuna's tokenisation, over SentencePiece or llama.cpp's port of it.

Adjacent texts are tokenised as one string with one prefix space, as MiniGPT-4 was trained. Two things
differ from the original: the user's text never becomes a control token, and never a separator of
turns. The characters of a user's `###` or `[/INST]` are tokenised one by one, so the model still
reads them, but never as the template's tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from minigpt4.core.types import Text

CONTROL_TOKENS = {"<unk>": 0, "<s>": 1, "</s>": 2}
"""LLaMA's control tokens; a text is split at them, and each part has a prefix space."""

END = CONTROL_TOKENS["</s>"]

_CONTROL = re.compile("(" + "|".join(CONTROL_TOKENS) + ")")

_TURN_MARKS = re.compile(r"#{3,}|\[/?INST\]")
"""Separators of turns in the templates of this family; a run of # could be tokenised as `###`."""

_BREAK = "\n"
"""A character that never merges with others: text after it is tokenised as if nothing preceded it."""


class LlamaText:
    """The rule above as a function from texts to token ids."""

    def __init__(self, plain: Callable[[str], Sequence[int]]) -> None:
        """`plain` tokenises a nonempty text with a prefix space, and finds no control tokens."""
        self._plain = plain
        self._before_break = tuple(plain(_BREAK))

    def __call__(self, *texts: Text) -> list[int]:
        """Token ids of adjacent texts."""
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
        """The tokenisations of `text`: after a space or at the start of a text, and within a word."""
        return [list(self._plain(text)), self._within(text)]

    def _stretch(self, texts: Sequence[Text]) -> list[int]:
        """Tokens of texts without control tokens: one string, but for the user's turn marks."""
        tokens: list[int] = []
        for part, is_at_start in _parts(texts):
            tokens += self._plain(part) if is_at_start else self._within(part)
        return tokens

    def _within(self, text: str) -> list[int]:
        """Tokens of a text that continues another: without a prefix space."""
        return list(self._plain(_BREAK + text)[len(self._before_break) :])


def _parts(texts: Sequence[Text]) -> Iterator[tuple[str, bool]]:
    """The string in parts that are tokenised separately, and whether each is the first."""
    whole = "".join(text.text for text in texts)
    is_users = [not text.control for text in texts for _ in text.text]
    alone = {
        place for mark in _TURN_MARKS.finditer(whole) for place in range(*mark.span()) if is_users[place]
    }
    for is_alone, places in groupby(range(len(whole)), key=alone.__contains__):
        run = list(places)
        for start, end in ((p, p + 1) for p in run) if is_alone else ((run[0], run[-1] + 1),):
            yield whole[start:end], start == 0
