"""Subject rate: how often an answer names something that the human captions name, too.

An answer counts if it has a content word that at least three of the photo's five human captions
have (of n captions: at least three in five). Content words are all words except those in
`stop_words.toml`, with simple plurals folded (`fold`). Synonyms do not count ("puppy" is not "dog"),
so the rate is a lower bound; a photo without any agreed word counts against it.
"""

from __future__ import annotations

import math
import tomllib
from collections import Counter
from collections.abc import Sequence
from importlib import resources

from minigpt4.train.evaluate.metrics.ptb_tokenizer import words

AGREEMENT = 3 / 5
"""The fraction of a photo's captions that must have a word for it to be the photo's subject."""


_STOP_WORDS = frozenset(
    word
    for words_of_kind in tomllib.loads(
        resources.files("minigpt4.train.evaluate.metrics")
        .joinpath("stop_words.toml")
        .read_text(encoding="utf-8")
    ).values()
    for word in words_of_kind.split()
)

_ENDINGS = (  # the first that fits; a singular in -ie or -oe meets its plural half-way
    ("ies", "y"),
    ("ie", "y"),
    ("oes", "o"),
    ("oe", "o"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("sses", "ss"),
    ("xes", "x"),
    ("zzes", "zz"),
    ("buses", "bus"),
    ("ss", "ss"),
    ("us", "us"),
    ("is", "is"),
    ("s", ""),
)


def fold(word: str) -> str:
    """Singular and plural (in -s, -es, -ies) of a word as one key: not always a word itself."""
    if len(word) > 2:
        for ending, instead in _ENDINGS:
            if word.endswith(ending):
                return word.removesuffix(ending) + instead
    return word


def content_words(text: str) -> frozenset[str]:
    """The folded content words of a text."""
    return frozenset(
        fold(word)
        for word in words(text)
        if len(word) > 1 and word[0].isalpha() and _STOP_WORDS.isdisjoint((word, fold(word)))
    )


def agreed_words(captions: Sequence[str]) -> frozenset[str]:
    """The content words that enough of a photo's captions share."""
    counts = Counter(word for caption in captions for word in content_words(caption))
    needed = math.ceil(AGREEMENT * len(captions))
    return frozenset(word for word, count in counts.items() if count >= needed)


def names_subject(answer: str, captions: Sequence[str]) -> bool:
    """Whether the answer has one of the photo's agreed content words."""
    return not content_words(answer).isdisjoint(agreed_words(captions))
