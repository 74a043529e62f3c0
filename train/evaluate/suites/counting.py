"""Questions about the number of objects in a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.errors import DataError
from minigpt4.train.evaluate.metrics.english import number_in, plural
from minigpt4.train.evaluate.photos import EvalPhoto
from minigpt4.train.evaluate.scores import Score
from minigpt4.train.evaluate.suite import Record, Suite, SuiteOptions, Task, Verdict

QUESTION = "How many {objects} are there in the image?"
GROUPS = ("1", "2", "3 or 4", "5 or more")
"""Groups of true numbers: larger ones are rare, and people do not see them at a glance either."""

AVERAGED = 3
"""The first groups, up to the number four, over which the mean over numbers is taken."""

Sums = NDArray[np.float64]


class Counting(Suite):
    """Numbers of objects."""

    name = "counting"
    need = "objects"
    max_tokens = 16

    def tasks(self, photos: Sequence[EvalPhoto], options: SuiteOptions) -> Iterator[Task]:
        """A question for each kind of object in a picture, except kinds with an uncounted crowd."""
        template = options.template(QUESTION, "objects", "dogs")
        is_asked = False
        for photo in photos:
            crowds = {one.label for one in photo.objects if one.is_crowd}
            for label, number in Counter(one.label for one in photo.objects).items():
                if label not in crowds:
                    is_asked = True
                    yield Task(
                        f"{photo.key} {label}",
                        photo,
                        template.replace("{objects}", plural(label)),
                        options.max_tokens or self.max_tokens,
                        {"object": label, "number": number},
                    )
        if not is_asked:
            raise DataError("All objects of the pictures are crowds, which nobody counted.")

    def scores(self, records: Sequence[Record], verdicts: Sequence[Verdict] = ()) -> list[Score]:
        """Accuracy, exact and within one: overall, per true number, their mean, and of always saying one."""
        found: list[Score] = []
        for name, tolerance in (("exact", 0), ("within one", 1)):
            own = _parts(records, tolerance, lambda record: number_in(record.answer))
            ones = _parts(records, tolerance, lambda _record: 1)
            found += [
                Score(name, own, _pooled, is_share=True),
                Score(f"{name}, always 'one'", ones, _pooled, better=None),
            ]
            if any(sum(sums[1 : 2 * AVERAGED : 2]) for sums in own.values()):
                found += [
                    Score(f"{name}, mean over numbers", own, _mean_over_numbers),
                    Score(f"{name}, mean over numbers, always 'one'", ones, _mean_over_numbers, better=None),
                ]
            found += [
                Score(
                    f"{name}, of {group}", {key: sums[2 * place : 2 * place + 2] for key, sums in own.items()}
                )
                for place, group in enumerate(GROUPS)
                if any(sums[2 * place + 1] for sums in own.values())
            ]
        none: dict[str, tuple[float, float]] = {}
        for record in records:
            hits, tries = none.get(record.photo, (0.0, 0.0))
            none[record.photo] = (hits + (number_in(record.answer) is None), tries + 1)
        return [*found, Score("no number in the answer", none, better="lower")]


def _parts(
    records: Sequence[Record], tolerance: int, answered: Callable[[Record], int | None]
) -> dict[str, tuple[float, ...]]:
    """Hits and tries of each group of true numbers, by picture."""
    parts: dict[str, list[float]] = {}
    for record in records:
        truth, answer = int(record.truth["number"]), answered(record)
        sums = parts.setdefault(record.photo, [0.0] * (2 * len(GROUPS)))
        place = 2 * _group_of(truth)
        sums[place] += answer is not None and abs(answer - truth) <= tolerance
        sums[place + 1] += 1
    return {key: tuple(sums) for key, sums in parts.items()}


def _group_of(number: int) -> int:
    return min(number - (number > 3), len(GROUPS)) - 1


def _pooled(sums: Sums) -> Sums:
    ratio: Sums = sums[..., 0::2].sum(-1) / sums[..., 1::2].sum(-1)
    return ratio


def _mean_over_numbers(sums: Sums) -> Sums:
    """The mean rate of the averaged groups that occur."""
    hits, tries = sums[..., 0 : 2 * AVERAGED : 2], sums[..., 1 : 2 * AVERAGED : 2]
    rates = np.divide(hits, tries, out=np.zeros_like(hits), where=tries > 0)
    with np.errstate(invalid="ignore"):
        mean: Sums = rates.sum(-1) / (tries > 0).sum(-1)
    return mean
