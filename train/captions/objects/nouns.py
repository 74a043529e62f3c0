"""The English of object labels: articles, plurals, and what cannot be counted."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from minigpt4.train.captions.lexicon import NUMBERS, article_for
from minigpt4.train.evaluate.metrics.english import plural

MANY = 5
"""From this number on, things are "several"."""

_MASS = frozenset(("broccoli", "luggage", "furniture", "food"))
_PLURAL_ONLY = frozenset(("skis", "scissors", "glasses", "sunglasses", "pants", "shorts", "jeans"))
_NUMBER_NAMES = {count: word for word, count in NUMBERS.items()}
_SPELLED = {"tv": "TV"}
_ALSO = {
    "couch": "sofa",
    "tv": "television",
    "motorcycle": "motorbike",
    "airplane": "plane",
    "refrigerator": "fridge",
    "donut": "doughnut",
    "sports ball": "ball",
    "cell phone": "mobile phone",
    "hair drier": "hair dryer",
}
"""Synonyms that are as true of an absent thing as of a present one: "plant" for "potted plant" is not."""


@dataclass(frozen=True)
class Noun:
    """What a thing is called in a sentence."""

    name: str

    @property
    def is_mass(self) -> bool:
        """Whether it is a mass noun: broccoli."""
        return self.name in _MASS

    @property
    def is_plural(self) -> bool:
        """Whether it has no singular: scissors."""
        return self.name in _PLURAL_ONLY

    @property
    def is_counted(self) -> bool:
        """Whether a number can stand before it."""
        return not self.is_mass and not self.is_plural

    @property
    def be(self) -> str:
        """The verb after "the" and the noun: "is", or "are" for scissors."""
        return "are" if self.is_plural else "is"

    @property
    def many(self) -> str:
        """ "dogs", "broccoli", "scissors"."""
        return plural(self.name).replace("tvs", "TVs") if self.is_counted else self.name

    @property
    def one(self) -> str:
        """ "a dog", "some broccoli", "some scissors"."""
        return f"{article_for(self.name)} {self.name}" if self.is_counted else f"some {self.name}"

    @property
    def any(self) -> str:
        """ "any dogs", "any broccoli"."""
        return f"any {self.many}"

    def counted(self, number: int) -> str:
        """ "one dog", "no dogs", "four dogs", "several dogs"; uncountable nouns as `one`."""
        if not self.is_counted:
            return self.one if number else f"no {self.name}"
        if number == 1:
            return f"one {self.name}"
        return f"{_NUMBER_NAMES[number] if 0 < number < MANY else 'several' if number else 'no'} {self.many}"

    def phrase(self, number: int | None, *, is_one: bool = True) -> str:
        """ "a dog", "two dogs"; without a number "a dog" if one is sure (`is_one`), else "some dogs"."""
        if not self.is_counted or number == 1 or (number is None and is_one):
            return self.one
        return f"some {self.many}" if number is None else self.counted(number)


def noun_of(label: str, rng: Random | None = None) -> Noun:
    """The noun of a label; with a generator, sometimes a synonym."""
    if rng is not None and label in _ALSO and rng.random() < 0.3:
        return Noun(_ALSO[label])
    return Noun(_SPELLED.get(label, label))


def listed(phrases: list[str]) -> str:
    """ "a dog, two people and a frisbee"."""
    *rest, last = phrases
    return f"{', '.join(rest)} and {last}" if rest else last
