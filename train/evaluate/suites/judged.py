"""The common base of suites whose answers are judged, by a model or by people."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from minigpt4.train.evaluate.metrics.yes_no import yes_or_no
from minigpt4.train.evaluate.scores import Score
from minigpt4.train.evaluate.suite import JudgeTask, Record, Suite, Verdict
from minigpt4.train.evaluate.suites.subjects import length

NEGATIVE_SHARE = 0.1
"""Known negatives per judged answer."""

FEWEST_NEGATIVES = 5


class JudgedSuite(Suite):
    """A suite whose judges say yes or no, also to known negatives among the answers."""

    is_judged = True
    negative_question: ClassVar[str | None] = None
    """The only question that is asked about known negatives; None: all questions."""

    @abstractmethod
    def questions(self, record: Record, answer: str, *, is_negative: bool) -> list[JudgeTask]:
        """The judges' questions about `answer`, taken as the answer to the record's question."""

    @abstractmethod
    def judged_scores(self, said: Mapping[str, Mapping[str, float]]) -> list[Score]:
        """The scores from one judge's verdicts, by record and question: 1 for yes, 0 for no."""

    def may_replace(self, record: Record, other: Record) -> bool:
        """Whether the other's answer is certainly wrong for this record, as far as can be told."""
        return other.photo != record.photo and other.answer != record.answer

    def judge_tasks(self, records: Sequence[Record], seed: int = 0) -> list[JudgeTask]:
        """The suite's questions about each answer, and one in ten again with another picture's answer."""
        return [
            *(task for one in records for task in self.questions(one, one.answer, is_negative=False)),
            *(
                task
                for one, answer in self._negatives(records, seed)
                for task in self.questions(one, answer, is_negative=True)
                if self.negative_question in (None, task.question)
            ),
        ]

    def _negatives(self, records: Sequence[Record], seed: int) -> Iterator[tuple[Record, str]]:
        wanted = max(FEWEST_NEGATIVES, round(NEGATIVE_SHARE * len(records)))
        rng = random.Random(f"negatives {seed}")
        ordered = sorted(records, key=lambda one: one.id)  # the order of a run's files is arbitrary
        for record in rng.sample(ordered, len(ordered)):
            others = [other for other in ordered if self.may_replace(record, other)]
            if others and wanted:
                wanted -= 1
                yield record, rng.choice(others).answer

    def verdict(self, task: JudgeTask, words: str) -> float | None:
        """1 for yes, 0 for no, None for anything else."""
        return yes_or_no(words)

    def scores(self, records: Sequence[Record], verdicts: Sequence[Verdict] = ()) -> list[Score]:
        """The scores by each judge, and the answers' length; without verdicts only the latter."""
        judges = dict.fromkeys(one.judge for one in verdicts)
        found: list[Score] = []
        for judge in judges:
            prefix = f"{judge}: " if len(judges) > 1 else ""
            own = [one for one in verdicts if one.judge == judge]
            found += [prefixed(prefix, score) for score in self._scores_of(records, own)]
        return [*found, length(records)]

    def _scores_of(self, records: Sequence[Record], verdicts: Sequence[Verdict]) -> list[Score]:
        said: dict[str, dict[str, float]] = {}
        for one in verdicts:
            if one.value is not None and not one.is_negative:
                said.setdefault(one.id, {})[one.question] = one.value
        accepted = {
            f"{one.id} {one.question}": (one.value, 1.0)
            for one in verdicts
            if one.value is not None and one.is_negative
        }
        unclear = sum(one.value is None for one in verdicts)
        return [
            *self.judged_scores(said),
            count("answers judged", sum(record.id in said for record in records)),
            count("verdicts not understood", unclear),
            *([Score("known negatives accepted", accepted, is_rate=True, better=None)] if accepted else []),
        ]


def count(name: str, number: int) -> Score:
    """A count as a score."""
    return Score(name, {"": (number, 1)}, has_interval=False, digits=0)


def prefixed(prefix: str, score: Score) -> Score:
    """The same score under a longer name."""
    return replace(score, name=prefix + score.name)
