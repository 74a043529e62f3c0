"""What a set of photos shows how often, for as many answers "yes" as "no" and for fair numbers."""

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
"""How an absent kind is chosen: any, by frequency, or by how often it accompanies what is there."""


@dataclass(frozen=True)
class LabelStatistics:
    """Of a set of photos: kinds that somebody looked for, and what was found.

    `frequency` counts the photos with a kind, `together` those with two; `numbers` counts how often there
    are one, two, ... of a kind, MANY for all from there on. `share` is the fraction of photos with anything.
    """

    labels: tuple[str, ...]
    frequency: Mapping[str, int]
    together: Mapping[str, Mapping[str, int]]
    numbers: Mapping[int, int]
    share: float

    @classmethod
    def of(cls, scenes: Iterable[Scene], labels: Collection[str] = ()) -> LabelStatistics:
        """The statistics of some scenes; `labels` are what was looked for beside what was found."""
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
        """How often a question about a photo with something on it asks for what is there.

        Photos without anything can only be answered with no, which the others make up for.
        """
        return min(1.0, 0.5 / self.share) if self.share else 1.0

    @property
    def no_rate(self) -> float:
        """How often a photo without anything is asked about at all."""
        return min(1.0, self.share / (1 - self.share)) if self.share < 1 else 1.0

    def count_rate(self, number: int) -> float:
        """How often a number may be asked for, so that none is more frequent than two and three.

        One is asked for as often as these together, as it stands alone against all others.
        """
        found = self.numbers.get(min(number, MANY), 0)
        fair = (self.numbers.get(2, 0) + self.numbers.get(3, 0)) / (1 if number == 1 else 2)
        return min(1.0, fair / found) if found and fair else 1.0

    def rare(self, kinds: Sequence[str], rng: Random) -> str:
        """One of the kinds, the rarer the more likely."""
        return rng.choices(kinds, [1 / max(1, self.frequency.get(kind, 0)) for kind in kinds])[0]

    def absent(self, scene: Scene, rng: Random, besides: Collection[str] = ()) -> str | None:
        """A kind that the scene surely lacks, chosen in one of the ways; None if there is no such kind."""
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
