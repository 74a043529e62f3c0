"""The English that questions about objects need: articles, plurals, and numbers in answers."""

from __future__ import annotations

import re

_IRREGULAR = {
    "person": "people",
    "man": "men",
    "woman": "women",
    "child": "children",
    "mouse": "mice",
    "goose": "geese",
    "ox": "oxen",
    "foot": "feet",
    "tooth": "teeth",
    "leaf": "leaves",
    "loaf": "loaves",
    "shelf": "shelves",
    "wolf": "wolves",
    "calf": "calves",
    "tv": "TVs",
}
_UNCHANGED = frozenset(
    "sheep fish deer bison cattle people children oxen skis scissors glasses pants shorts jeans aircraft "
    "broccoli luggage furniture".split()
)
_COMPOUND = ("man", "woman", "child", "mouse", "goose")
"""Endings that change in compounds, too: `snowman`, `grandchild`."""

_NUMBERS = {
    word: number
    for number, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
        "sixteen seventeen eighteen nineteen twenty".split()
    )
} | {"no": 0, "none": 0, "single": 1, "couple": 2, "pair": 2, "dozen": 12}
_WORD = re.compile(r"\d{1,3}(?:,\d{3})+|\d+|[a-z]+")


def with_article(noun: str) -> str:
    """`a dog`, `an umbrella`: by its first letter, as POPE does it."""
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"


def plural(noun: str) -> str:
    """The plural of a noun; in a compound such as `wine glass`, of its last word."""
    first, space, last = noun.rpartition(" ")
    return f"{first}{space}{_plural_of_word(last)}"


def _plural_of_word(word: str) -> str:
    if word in _UNCHANGED:
        return word
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    for ending in _COMPOUND:
        if word.endswith(ending) and word not in ("human", "german", "mongoose"):
            return word.removesuffix(ending) + _IRREGULAR[ending]
    if word.endswith("fe"):
        return f"{word[:-2]}ves" if word.endswith("ife") else f"{word}s"
    if word.endswith("y") and word[-2:-1] not in ("a", "e", "i", "o", "u", ""):
        return f"{word[:-1]}ies"
    return f"{word}es" if word.endswith(("s", "x", "z", "ch", "sh")) else f"{word}s"


def number_in(answer: str) -> int | None:
    """The first number in an answer, as digits or as a word; None without any.

    `no`, `none` are 0, `a single` is 1, `a couple` and `a pair` are 2, `a dozen` is 12. An article alone
    is not a number: "A man and a woman." has none.
    """
    for word in _WORD.findall(answer.lower()):
        if word[0].isdigit():
            return int(word.replace(",", ""))
        if word in _NUMBERS:
            return _NUMBERS[word]
    return None
