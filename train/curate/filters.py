"""The filters of a curation: rules that remove a description and record why.

Apologies are the paper's own filter (arXiv 2304.10592, section 3.2); the rules of form are those by which an
evaluation counts failures.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from minigpt4.train.curate.near_duplicates import near_duplicates
from minigpt4.train.curate.run_folder import Candidate, Description, Removal
from minigpt4.train.evaluate.metrics.fluency import (
    ends_closed,
    is_english,
    loops,
    repeats_sentence,
)
from minigpt4.train.evaluate.metrics.ptb_tokenizer import words
from minigpt4.train.inspection.perceptual_hash import similar_groups

RULES = {
    "apology": "apologizes, or speaks of itself as a model",
    "fragment": "has too few words, or begins or ends within a sentence",
    "repetition": "says a sentence twice, or some words over and over",
    "language": "is not English, or holds characters that are not text",
    "similar-text": "says almost the same as an earlier description",
    "similar-picture": "is of a picture that looks like an earlier one",
}
"""What each filter removes, in the order in which they are applied."""

SIMILAR = 0.8
"""Minimum Jaccard similarity of near-duplicate texts."""

FEWEST_WORDS = 10

_APOLOGY = re.compile(
    r"\b(?:i\s*['\u2019]?\s*a?m (?:so |very |truly |really )?sorry|i (?:do |must |sincerely )?apologi[sz]e|"
    r"my (?:sincere )?apolog(?:ies|y)|(?:sorry|apologies) for (?:the|that|this|my|any)|"
    r"i (?:have )?made an? (?:mistake|error)|as an ai\b|as a (?:large )?language model|"
    r"i(?: am|'m|\u2019m) (?:an ai|a language model)|"
    r"i (?:cannot|can ?['\u2019]?n?t|am unable to|am not able to) (?:see|view|describe|provide|process)\b)",
    re.IGNORECASE,
)
_NO_TEXT = re.compile(
    r"[\ufffd\x00-\x08\x0b-\x1f\x7f]|</?(?:s|img|imagehere|unk)>|<\||\|>|#{3,}", re.IGNORECASE
)
_BEGINS_WITHIN = re.compile(r"^[\"'(\[\u201c\u2018]*[a-z,;:.!?)]")

Rule = Callable[[str], str | None]


@dataclass(frozen=True)
class FilterOptions:
    """The thresholds, and the filters that are left out."""

    min_words: int = FEWEST_WORDS
    similar: float = SIMILAR
    without: frozenset[str] = frozenset()


def apology(text: str) -> str | None:
    """The words with which a text apologizes or declines."""
    found = _APOLOGY.search(text)
    return found[0] if found else None


def fragment(text: str, min_words: int = FEWEST_WORDS) -> str | None:
    """Why a text is a fragment."""
    number = len(words(text))
    if number < min_words:
        return f"{number} word{'' if number == 1 else 's'}"
    if _BEGINS_WITHIN.match(text):
        return f"begins with '{text[:30]}'"
    return None if ends_closed(text) else f"ends with '{text[-30:]}'"


def repetition(text: str) -> str | None:
    """How a text repeats itself."""
    if repeats_sentence(text):
        return "a sentence twice"
    return "words over and over" if loops(text) else None


def language(text: str) -> str | None:
    """Why a text is not English."""
    found = _NO_TEXT.search(text)
    if found:
        return f"holds {found[0]!r}"
    return None if is_english(text) else "not English"


def removals(
    candidates: Sequence[Candidate], descriptions: Mapping[str, Description], options: FilterOptions
) -> list[Removal]:
    """The removals, each by the first rule that applies; they depend only on the texts and pictures.

    Of texts or pictures that resemble each other, the first stays; what an earlier rule removed does not
    count as the first.
    """
    by_text: dict[str, Rule] = {
        "apology": apology,
        "fragment": lambda text: fragment(text, options.min_words),
        "repetition": repetition,
        "language": language,
    }
    texts = {one.key: one.after for one in candidates}
    found: dict[str, Removal] = {}
    for name in RULES:
        if name in options.without:
            continue
        left = {key: text for key, text in texts.items() if key not in found}
        if name == "similar-text":
            reasons = near_duplicates(left, options.similar)
        elif name == "similar-picture":
            reasons = _similar_pictures({key: descriptions[key] for key in left})
        else:
            judged = ((key, by_text[name](text)) for key, text in left.items())
            reasons = {key: why for key, why in judged if why is not None}
        found |= {key: Removal(key, name, why, texts[key]) for key, why in reasons.items()}
    return [found[key] for key in texts if key in found]


def _similar_pictures(descriptions: Mapping[str, Description]) -> dict[str, str]:
    """The pictures that equal or resemble an earlier one, each with that picture's name."""
    first: dict[str, str] = {}
    similar: dict[str, str] = {}
    for key, one in descriptions.items():
        if first.setdefault(one.digest, key) != key:
            similar[key] = first[one.digest]
    seen = [key for key, one in descriptions.items() if one.look and key not in similar]
    hashes = np.array([int(descriptions[key].look, 16) for key in seen], dtype=np.uint64)
    for group in similar_groups(hashes) if len(hashes) else []:
        similar |= {seen[place]: seen[group[0]] for place in group[1:]}
    return similar
