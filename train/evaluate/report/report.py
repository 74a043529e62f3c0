"""A report: the runs of each suite side by side, and each compared with the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from minigpt4.train.evaluate.judges.summary import agreements
from minigpt4.train.evaluate.report.compare import Difference, difference
from minigpt4.train.evaluate.report.reported_run import ReportedRun
from minigpt4.train.evaluate.run_folder import short_places
from minigpt4.train.evaluate.scores import as_json
from minigpt4.train.evaluate.suite import Record, Verdict


@dataclass(frozen=True, eq=False)
class Comparison:
    """A run compared with the first one on the questions that both answered."""

    first: ReportedRun
    second: ReportedRun

    @cached_property
    def pairs(self) -> list[tuple[Record, Record]]:
        """The answers to the same question about the same picture; names alone may denote others."""
        known = {one.id: one for one in self.first.records}
        return [
            (known[one.id], one)
            for one in self.second.records
            if one.id in known and (known[one.id].digest, known[one.id].truth) == (one.digest, one.truth)
        ]

    @property
    def pictures(self) -> int:
        """How many pictures the pairs are about."""
        return len({first.digest for first, _ in self.pairs})

    @cached_property
    def differences(self) -> Mapping[str, Difference]:
        """The differences by score name, without scores that only one of the runs has."""
        if not self.pairs:
            return {}
        first = {one.name: one for one in self.first.scores_of([pair[0] for pair in self.pairs])}
        second = self.second.scores_of([pair[1] for pair in self.pairs])
        return {
            one.name: difference(
                first[one.name], one, self._outcomes(one.name) if one.is_rate or one.is_share else None
            )
            for one in second
            if one.name in first
        }

    def _outcomes(self, name: str) -> tuple[list[bool], list[bool]] | None:
        """Whether each answer is a hit of a rate; None unless both count each pair as one try."""
        both: tuple[list[bool], list[bool]] = ([], [])
        for first, second in self.pairs:
            marks = [
                next((mark for mark in run.marks[record.id] if mark.name == name), None)
                for run, record in ((self.first, first), (self.second, second))
            ]
            if marks == [None, None]:
                continue
            for mark, outcomes in zip(marks, both, strict=True):
                if mark is None or mark.tries != 1:
                    return None
                outcomes.append(mark.hits == 1)
        return both

    @property
    def notes(self) -> list[str]:
        """Notes for reading the differences."""
        names = f"'{self.first.name}' and '{self.second.name}'"
        if not self.pairs:
            return [f"{names} have no question about the same picture in common and are not compared."]
        if len(self.pairs) == len(self.first.records) == len(self.second.records):
            return []
        return [
            f"{names} answered different questions or pictures: they are compared on the "
            f"{len(self.pairs)} questions about {self.pictures} pictures that both answered."
        ]


@dataclass(frozen=True, eq=False)
class SuiteReport:
    """The runs of one suite."""

    name: str
    runs: Sequence[ReportedRun]

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """Each run but the first, against the first."""
        return [Comparison(self.runs[0], run) for run in self.runs[1:]]

    @property
    def score_names(self) -> list[str]:
        """The scores of all runs, in their order."""
        return list(dict.fromkeys(score.name for run in self.runs for score in run.scores))

    @property
    def notes(self) -> list[str]:
        """Notes for reading the table."""
        return [
            *(note for run in self.runs for note in _run_notes(run)),
            *(note for comparison in self.comparisons for note in comparison.notes),
        ]


@dataclass(frozen=True, eq=False)
class Report:
    """Runs, suite by suite."""

    runs: Sequence[ReportedRun]

    @cached_property
    def suites(self) -> list[SuiteReport]:
        """The suites in the order in which they were named."""
        names = dict.fromkeys(run.suite.name for run in self.runs)
        return [SuiteReport(name, [run for run in self.runs if run.suite.name == name]) for name in names]

    @property
    def notes(self) -> list[str]:
        """Notes that concern several suites."""
        if len(self.suites) < 2:
            return []
        names = ", ".join(suite.name for suite in self.suites)
        return [f"These runs are of different suites ({names}), and only runs of one suite are compared."]


def _run_notes(run: ReportedRun) -> list[str]:
    notes = []
    if run.is_incomplete:
        unasked = run.questions - len(run.records) - len(run.failed)
        reasons = [f"{unasked} not asked yet"] if unasked > 0 else []
        if run.failed:
            reasons.append(f"{len(run.failed)} could not be, the first: {run.failed[0].error.rstrip('.')}")
        notes.append(
            f"'{run.name}' is incomplete: {len(run.records)} of {run.questions} questions are answered "
            f"({'; '.join(reasons)})."
        )
    said = [one for some in run.verdicts.values() for one in some]
    for judge in dict.fromkeys(one.judge for one in said):
        notes += _judge_notes(run.name, judge, [one for one in said if one.judge == judge])
    return notes + [f"Judges of '{run.name}': {pair.sentence}." for pair in agreements(said)]


def _judge_notes(run: str, judge: str, said: Sequence[Verdict]) -> list[str]:
    notes = []
    unclear = sum(one.value is None for one in said)
    if unclear:
        notes.append(f"{unclear} of {len(said)} verdicts of '{judge}' about '{run}' could not be understood.")
    negatives = [one for one in said if one.is_negative and one.value is not None]
    accepted = sum(bool(one.value) for one in negatives)
    if accepted:
        weight = " and its verdicts say little" if 2 * accepted > len(negatives) else ""
        notes.append(
            f"'{judge}' accepted {accepted} of {len(negatives)} answers about other pictures as those of "
            f"'{run}'{weight}."
        )
    return notes


def as_record(report: Report) -> dict[str, Any]:
    """The report as JSON values: every figure unrounded; null for one that does not exist."""
    return {
        "notes": report.notes,
        "suites": [
            {
                "suite": suite.name,
                "notes": suite.notes,
                "runs": [_run(run) for run in suite.runs],
                "differences": [_differences(comparison) for comparison in suite.comparisons],
            }
            for suite in report.suites
        ],
    }


def _run(run: ReportedRun) -> dict[str, Any]:
    return {
        "name": run.name,
        "folder": str(run.path),
        "model": run.header["model"],
        "data": short_places(run.header, "data"),
        "projection": short_places(run.header, "projection"),
        **{part: _stated(run.header.get(part)) for part in ("options", "sampling", "versions")},
        "date": run.date,
        "pictures": run.pictures,
        "answers": len(run.records),
        "questions": run.questions,
        "scores": [_without_nan(as_json(score)) for score in run.scores],
        "agreements": [
            asdict(pair) for pair in agreements([one for some in run.verdicts.values() for one in some])
        ],
    }


def _stated(part: Any) -> dict[str, Any]:
    """The values in a part of the header, without None, which marks an option that was not given."""
    return (
        {name: value for name, value in part.items() if value is not None} if isinstance(part, dict) else {}
    )


def _differences(comparison: Comparison) -> dict[str, Any]:
    return {
        "run": comparison.second.name,
        "minus": comparison.first.name,
        "questions": len(comparison.pairs),
        "pictures": comparison.pictures,
        "scores": [
            _without_nan(
                {
                    "name": name,
                    "value": one.value,
                    "interval_95": None if one.interval is None else list(one.interval),
                    "mcnemar_p": one.p_value,
                }
            )
            for name, one in comparison.differences.items()
        ],
    }


def _without_nan(record: dict[str, Any]) -> dict[str, Any]:
    """Replace NaN, which JSON lacks, with None."""
    return {name: None if value != value else value for name, value in record.items()}
