"""How often a set of photos shows each kind and number, to balance "yes" and "no" and the numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from minigpt4.train.captions.objects.nouns import MANY, noun_of
from minigpt4.train.captions.objects.scene import Scene

Negative = Literal["random", "popular", "together"]
NEGATIVES: tuple[Negative, ...] = ("random", "popular", "together")
"""How an absent kind is drawn: uniformly, by frequency, or by co-occurrence with what is there."""


@dataclass(frozen=True)
class LabelStatistics:
    """The kinds that somebody looked for in a set of photos, and what was found.

    `frequency` counts the photos with a kind, `together` those with two; `numbers` counts how often there
    are one, two, ... of a kind, MANY for that many or more. `share` is the fraction of photos with anything.
    """

    labels: tuple[str, ...]
    frequency: Mapping[str, int]
    together: Mapping[str, Mapping[str, int]]
    numbers: Mapping[int, int]
    share: float

    @classmethod
    def of(cls, scenes: Iterable[Scene], labels: Collection[str] = ()) -> LabelStatistics:
        """The statistics of some scenes; `labels` are kinds that were looked for besides those found."""
        frequency: Counter[str] = Counter()
        together: dict[str, Counter[str]] = {}
        numbers: Counter[int] = Counter()
        photos = shown = 0
        for scene in scenes:
            photos += 1
            shown += bool(scene.things)
            frequency.update(scene.things.keys())
            numbers.update(
                min(number, MANY) for kind, number in scene.numbers.items() if noun_of(kind).is_counted
            )
            for kind in scene.things:
                together.setdefault(kind, Counter()).update(other for other in scene.things if other != kind)
        known = tuple(sorted({*labels, *frequency}))
        return cls(known, frequency, together, numbers, shown / photos if photos else 0.0)

    @property
    def yes_rate(self) -> float:
        """How often a presence question about a photo with objects asks for a present one.

        Photos without objects can only be answered with "no", for which the others compensate.
        """
        return min(1.0, 0.5 / self.share) if self.share else 1.0

    @property
    def no_rate(self) -> float:
        """How often a presence question about a photo without objects is asked at all."""
        return min(1.0, self.share / (1 - self.share)) if self.share < 1 else 1.0

    def count_rate(self, number: int) -> float:
        """How often a count question with this answer is kept, so that none exceeds two and three.

        One may be as frequent as these together, to balance it against all others.
        """
        found = self.numbers.get(min(number, MANY), 0)
        fair = (self.numbers.get(2, 0) + self.numbers.get(3, 0)) / (1 if number == 1 else 2)
        return min(1.0, fair / found) if found and fair else 1.0

    def rare(self, kinds: Sequence[str], rng: Random) -> str:
        """One of the kinds, drawn with a probability inverse to its frequency."""
        return rng.choices(kinds, [1 / max(1, self.frequency.get(kind, 0)) for kind in kinds])[0]

    def absent(self, scene: Scene, rng: Random, besides: Collection[str] = ()) -> str | None:
        """A kind that the scene surely lacks, drawn in one of the NEGATIVES ways; None if there is none."""
        kinds = [kind for kind in self.labels if scene.is_absent(kind) and kind not in besides]
        if not kinds:
            return None
        way = rng.choice(NEGATIVES)
        weights = [0] * len(kinds)
        if way == "popular":
            weights = [self.frequency.get(kind, 0) for kind in kinds]
        elif way == "together":
            near = [self.together.get(thing, {}) for thing in scene.things]
            weights = [sum(one.get(kind, 0) for one in near) for kind in kinds]
        return rng.choices(kinds, weights)[0] if any(weights) else rng.choice(kinds)
