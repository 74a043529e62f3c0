"""Whether something is in the picture: POPE (Li et al. 2023, arXiv 2305.10355).

Each picture is asked about its first three kinds of objects and, for each of these, about one that it lacks,
chosen in three ways: at random, the most frequent in the set (popular), or the one that most often
accompanies the object that is there (adversarial). Questions that several ways share are asked once.
POPE leaves out pictures with fewer than three kinds; here they have fewer questions.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.errors import DataError
from minigpt4.train.evaluate.metrics.english import with_article
from minigpt4.train.evaluate.photos import EvalPhoto
from minigpt4.train.evaluate.scores import Score
from minigpt4.train.evaluate.suite import Record, Suite, SuiteOptions, Task, Verdict

QUESTION = "Is there {object} in the image?"
ASKED = 3
"""Most kinds of objects that are asked about per picture."""

Negatives = Literal["random", "popular", "adversarial"]
Sums = NDArray[np.float64]

_NO = frozenset(("No", "no", "not"))
_CLEAR = re.compile(r"\b(?:yes|no|not)\b|n't\b", re.IGNORECASE)


class Presence(Suite):
    """Yes-or-no questions about objects, with as many true answers yes as no."""

    name = "presence"
    need = "objects"
    max_tokens = 4
    """POPE reads the first words; six tokens change none of 470 answers of mini, and are a quarter slower."""

    def tasks(self, photos: Sequence[EvalPhoto], options: SuiteOptions) -> Iterator[Task]:
        """Up to twelve questions per picture; raises DataError if the set has no two kinds of objects."""
        template = options.template(QUESTION, "object", "a dog")
        present = {photo: list(dict.fromkeys(one.label for one in photo.objects)) for photo in photos}
        choose = NegativeChoice(list(present.values()), options.seed)
        is_asked = False
        for photo, labels in present.items():
            kinds: dict[tuple[str, bool], list[str]] = defaultdict(list)
            for kind in get_args(Negatives):
                for label, absent in choose.pairs(labels, kind):
                    kinds[label, True].append(kind)
                    kinds[absent, False].append(kind)
            for (label, is_there), ways in kinds.items():
                is_asked = True
                yield Task(
                    f"{photo.key} {label}",
                    photo,
                    template.replace("{object}", with_article(label)),
                    options.max_tokens or self.max_tokens,
                    {"object": label, "is_there": is_there, "negatives": ways},
                )
        if not is_asked:
            raise DataError(
                "All pictures have the same kinds of objects, so nothing can be asked that is not there."
            )

    def scores(self, records: Sequence[Record], verdicts: Sequence[Verdict] = ()) -> list[Score]:
        """POPE's five figures for each kind of negatives, and for all questions of the three together."""
        counts: dict[str, dict[str, list[float]]] = {kind: {} for kind in ("all", *get_args(Negatives))}
        unclear: dict[str, tuple[float, float]] = {}
        for record in records:
            outcome = 2 * bool(record.truth["is_there"]) + says_yes(record.answer)
            for kind in record.truth["negatives"]:
                for group in ("all", kind):
                    counts[group].setdefault(record.photo, [0.0] * 4)[outcome] += 1
            hits, tries = unclear.get(record.photo, (0.0, 0.0))
            unclear[record.photo] = (hits + (not is_clear(record.answer)), tries + 1)
        return [
            *(
                Score(
                    f"{kind}: {name}",
                    {key: tuple(sums) for key, sums in by_photo.items()},
                    rate,
                    is_share=(kind, name) == ("all", "accuracy"),
                    better=None if name == "yes share" else "higher",
                )
                for kind, by_photo in counts.items()
                if by_photo
                for name, rate in FIGURES.items()
            ),
            Score("neither yes nor no", unclear, better="lower"),
        ]


class NegativeChoice:
    """Chooses objects that a picture lacks, based on those in all pictures of the set."""

    def __init__(self, pictures: Sequence[Sequence[str]], seed: int) -> None:
        """`pictures` are the labels of each picture, without repetitions."""
        frequency = Counter(label for labels in pictures for label in labels)
        self._all = list(frequency)
        self._popular = [label for label, _ in frequency.most_common()]
        together: dict[str, Counter[str]] = defaultdict(Counter)
        for labels in pictures:
            for label in labels:
                together[label].update(other for other in labels if other != label)
        self._together = {
            label: [other for other, _ in found.most_common()] for label, found in together.items()
        }
        self._random = random.Random(seed)

    def pairs(self, labels: Sequence[str], kind: Negatives) -> Iterator[tuple[str, str]]:
        """For each of a picture's first labels, one that it lacks; fewer if there are not enough."""
        used = set(labels)
        for label in labels[:ASKED]:
            ranked = {"random": [], "popular": self._popular, "adversarial": self._together[label]}[kind]
            absent = next((other for other in ranked if other not in used), None)
            if absent is None:
                rest = [other for other in self._all if other not in used]
                if not rest:
                    return
                absent = self._random.choice(rest)
            used.add(absent)
            yield label, absent


def says_yes(answer: str) -> bool:
    """POPE's reading of an answer: yes, unless the first sentence has the word `no` or `not`."""
    return _NO.isdisjoint(re.findall(r"\w+", answer.partition(".")[0]))


def is_clear(answer: str) -> bool:
    """Whether the first sentence has a word for yes or no at all; POPE reads one without as yes."""
    return _CLEAR.search(answer.partition(".")[0]) is not None


def _ratio(sums: Sums, hits: Sequence[int], tries: Sequence[int]) -> Sums:
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio: Sums = sums[..., hits].sum(-1) / sums[..., tries].sum(-1)
    return ratio


_TN, _FP, _FN, _TP = range(4)
FIGURES: Mapping[str, Callable[[Sums], Sums]] = {
    "accuracy": partial(_ratio, hits=(_TN, _TP), tries=(_TN, _FP, _FN, _TP)),
    "precision": partial(_ratio, hits=(_TP,), tries=(_FP, _TP)),
    "recall": partial(_ratio, hits=(_TP,), tries=(_FN, _TP)),
    "F1": partial(_ratio, hits=(_TP, _TP), tries=(_TP, _TP, _FP, _FN)),
    "yes share": partial(_ratio, hits=(_FP, _TP), tries=(_TN, _FP, _FN, _TP)),
}
"""From the counts TN, FP, FN and TP: of questions about absent objects first, then about present ones."""
