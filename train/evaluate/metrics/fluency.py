"""Failures in the form of a long answer, regardless of its content.

Repeated sentences and fragments: the failures after MiniGPT-4's first stage that its second stage
is for (Zhu et al. 2023, arXiv 2304.10592, section 3.2).
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Literal

from minigpt4.train.evaluate.metrics.ptb_tokenizer import words

Failure = Literal["repeats a sentence", "stops in mid-sentence", "runs to the token limit", "says nothing"]

_SENTENCE_END = re.compile(r"(?<=[.!?\u2026])[\"')\]\u201d\u2019*]*\s+|\n+")
_CLOSED = re.compile(r"[.!?\u2026][\"')\]\u201d\u2019*\s]*$")


def failures(answer: str, *, ran_to_limit: bool) -> tuple[Failure, ...]:
    """The failures in the answer's form."""
    if not words(answer):
        return ("says nothing",)
    found: list[Failure] = []
    if repeats_sentence(answer):
        found.append("repeats a sentence")
    if not ends_closed(answer):
        found.append("stops in mid-sentence")
    if ran_to_limit:
        found.append("runs to the token limit")
    return tuple(found)


def repeats_sentence(answer: str) -> bool:
    """Whether two sentences have the same words, ignoring case and punctuation."""
    sentences = Counter(tuple(words(sentence)) for sentence in _SENTENCE_END.split(answer))
    del sentences[()]
    return any(count > 1 for count in sentences.values())


def ends_closed(answer: str) -> bool:
    """Whether the answer's last mark closes a sentence, quotation marks and brackets aside."""
    return _CLOSED.search(answer) is not None
