"""Failures in the form of a long answer, regardless of its content.

Repetition, fragments and other languages are the failures after MiniGPT-4's first stage that its second
stage addresses (Zhu et al. 2023, arXiv 2304.10592, section 3.2).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from minigpt4.train.evaluate.metrics.ptb_tokenizer import words

Failure = Literal[
    "repeats itself",
    "is a fragment",
    "stops in mid-sentence",
    "runs to the token limit",
    "is not English",
    "says nothing",
]

FEWEST_WORDS = 4
"""An answer of fewer words ("A dog.") is not a sentence about a picture."""

LONGEST_LOOP = 8
"""Words in the longest repeated unit that is looked for."""

FEWEST_JUDGED = 8
"""A text of fewer words is too short to tell its language."""

LEAST_ENGLISH = 0.08
"""The minimum share of English function words; of 4,051 long captions of flickr8k one has less."""

_ENGLISH = frozenset(
    "a an the and of in on is are was were has have been being with to his her their its it they she he this "
    "that there these by from at into for who which while as out up down over through near next behind front "
    "some above across along around between under one two you your my we our where when not or all".split()
)

_FOREIGN = frozenset(
    "der das und ist ein eine einer einem einen mit auf den dem im von zu nicht sich sind le la les un une "
    "des du et est dans sur avec au aux qui que el los las una y con en de del por su se está il lo gli di "
    "che è nel della uno sono een het van op aan zijn te os um uma com da ao são está na em och på är med "
    "som av det w z i się jest nie".split()
)
"""Frequent in German, French, Spanish, Italian, Dutch, Portuguese, Swedish or Polish, and rare in English."""

_SENTENCE_END = re.compile(r"(?<=[.!?\u2026])[\"')\]\u201d\u2019*]*\s+|\n+")
_CLOSED = re.compile(r"[.!?\u2026][\"')\]\u201d\u2019*\s]*$")


def failures(answer: str, *, ran_to_limit: bool, is_verse: bool = False) -> tuple[Failure, ...]:
    """The failures in the answer's form.

    Verse may have a refrain and end without a full stop.
    """
    if not words(answer) and not _letters(answer):
        return ("says nothing",)
    found: list[Failure] = []
    if repeats_sentence(answer, is_verse=is_verse) or loops(answer):
        found.append("repeats itself")
    if not is_english(answer):
        found.append("is not English")
    elif len(words(answer)) < FEWEST_WORDS:
        found.append("is a fragment")
    if not is_verse and not ends_closed(answer):
        found.append("stops in mid-sentence")
    if ran_to_limit:
        found.append("runs to the token limit")
    return tuple(found)


def repeats_sentence(answer: str, *, is_verse: bool = False) -> bool:
    """Whether two sentences have the same words, ignoring case and punctuation.

    In verse, where a line counts as a sentence: two in succession, or three in all.
    """
    sentences = [found for sentence in sentences_of(answer) if (found := tuple(words(sentence)))]
    most = max(Counter(sentences).values(), default=0)
    if is_verse:
        return most > 2 or any(one == other for one, other in pairwise(sentences))
    return most > 1


def loops(answer: str) -> bool:
    """Whether some words follow each other three times in a row, a single word four times."""
    found = words(answer)
    return any(_times_in_a_row(found, size) >= (4 if size == 1 else 3) for size in range(1, LONGEST_LOOP + 1))


def _times_in_a_row(found: Sequence[str], size: int) -> int:
    most = equal = 0
    for word, later in zip(found, found[size:], strict=False):
        equal = equal + 1 if word == later else 0
        most = max(most, equal)
    return 1 + most // size


def ends_closed(answer: str) -> bool:
    """Whether the answer's last mark closes a sentence, quotation marks and brackets aside."""
    return _CLOSED.search(answer) is not None


def is_english(answer: str) -> bool:
    """Whether the answer and each of its sentences are English, as far as script and frequent words tell.

    A sentence may quote another script; one with too few words for a judgement counts as English.
    """
    return all(_is_english(text) for text in (answer, *sentences_of(answer)))


def _is_english(text: str) -> bool:
    letters = _letters(text)
    if 2 * sum(unicodedata.name(letter, "").startswith("LATIN") for letter in letters) < len(letters):
        return False
    found = words(text)
    if len(found) < FEWEST_JUDGED:
        return True
    english = sum(word in _ENGLISH for word in found)
    return english >= LEAST_ENGLISH * len(found) and english >= sum(word in _FOREIGN for word in found)


def _letters(text: str) -> list[str]:
    return [character for character in text if character.isalpha()]


def sentences_of(answer: str) -> list[str]:
    """The answer's sentences; a line break ends one as well."""
    return [sentence for sentence in _SENTENCE_END.split(answer) if sentence.strip()]
