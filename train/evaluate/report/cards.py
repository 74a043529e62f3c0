"""The answers of a report by picture: the questions about it, every run's answer, and the verdicts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minigpt4.train.evaluate.report.reported_run import Mark, ReportedRun
from minigpt4.train.evaluate.suite import Record, Verdict

KINDS: Mapping[str, str] = {
    "wrong": "a wrong answer",
    "unanswered": "no answer",
    "differ": "runs that disagree",
    "disagree": "judges who disagree",
    "unclear": "a verdict that is unclear",
}
"""The kinds by which questions can be filtered, and their labels."""

OF_PICTURES = ("objects", "captions")
"""What a suite may know about a picture, whatever it asks."""


@dataclass(frozen=True)
class Answer:
    """A run's answer, with its rates and the verdicts about it."""

    run: str
    record: Record
    marks: Sequence[Mark] = ()
    verdicts: Sequence[Verdict] = ()


@dataclass(frozen=True)
class Asked:
    """A question, and the answers of the runs that asked it."""

    suite: str
    prompt: str
    truth: Mapping[str, Any]
    answers: list[Answer] = field(default_factory=list)

    @property
    def wrong(self) -> int:
        """How many runs are wrong by one of their rates."""
        return sum(any(mark.is_wrong for mark in answer.marks) for answer in self.answers)

    @property
    def length(self) -> int:
        """Characters of the longest answer."""
        return max(len(answer.record.answer) for answer in self.answers)

    @property
    def kinds(self) -> list[str]:
        """The `KINDS` that apply to it."""
        verdicts = [verdict for answer in self.answers for verdict in answer.verdicts]
        is_of = {
            "wrong": self.wrong > 0,
            "unanswered": any(answer.record.error for answer in self.answers),
            "differ": any(self._differs(name) for name in self._mark_names()),
            "disagree": any(_disagree(answer.verdicts) for answer in self.answers),
            "unclear": any(verdict.value is None for verdict in verdicts),
        }
        return [name for name in KINDS if is_of[name]]

    def _mark_names(self) -> set[str]:
        return {mark.name for answer in self.answers for mark in answer.marks}

    def _differs(self, name: str) -> bool:
        hits = {mark.hits for answer in self.answers for mark in answer.marks if mark.name == name}
        return len(hits) > 1


@dataclass(frozen=True)
class Card:
    """A picture with all questions about it."""

    photo: str
    digest: str
    questions: list[Asked] = field(default_factory=list)

    @property
    def known(self) -> dict[str, Any]:
        """What several questions know about the picture itself, if they agree: it is shown once."""
        found: dict[str, Any] = {}
        for name in OF_PICTURES:
            values = [asked.truth[name] for asked in self.questions if name in asked.truth]
            if len(values) > 1 and all(value == values[0] for value in values):
                found[name] = values[0]
        return found


def cards(runs: Sequence[ReportedRun]) -> list[Card]:
    """The pictures in the order of their runs; equal pictures share a card."""
    digests = {(one.set, one.photo): one.digest for run in runs for one in run.records}
    found: dict[str, Card] = {}
    questions: dict[tuple[str, ...], Asked] = {}
    for run in runs:
        for answer in _answers(run):
            record = answer.record
            # A question that could not be asked has no digest; another run may have opened the picture.
            digest = record.digest or digests.get((record.set, record.photo), "")
            picture = digest or f"{record.set}/{record.photo}"
            card = found.setdefault(picture, Card(record.photo, digest))
            key = (picture, run.suite.name, record.id, record.prompt, json.dumps(record.truth))
            if key not in questions:
                questions[key] = Asked(run.suite.name, record.prompt, record.truth)
                card.questions.append(questions[key])
            questions[key].answers.append(answer)
    return list(found.values())


def _answers(run: ReportedRun) -> Iterator[Answer]:
    for record in sorted((*run.records, *run.failed), key=lambda record: record.id):
        # A verdict about a known negative is of another picture's answer, not of this one.
        verdicts = [one for one in run.verdicts.get(record.id, ()) if not one.is_negative]
        yield Answer(run.name, record, run.marks.get(record.id, ()), verdicts)


def _disagree(verdicts: Sequence[Verdict]) -> bool:
    """Whether two judges give different verdicts on the same question about an answer."""
    values: dict[str, set[float]] = {}
    for one in verdicts:
        if one.value is not None:
            values.setdefault(one.question, set()).add(one.value)
    return any(len(some) > 1 for some in values.values())
