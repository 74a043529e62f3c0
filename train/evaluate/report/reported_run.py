"""A run as a report reads it: its answers, rescored, and what each rate says about a single answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from minigpt4.core.errors import DataError, UsageError
from minigpt4.train.evaluate.run_folder import HEADER, EvalRun, places_in
from minigpt4.train.evaluate.scores import Score
from minigpt4.train.evaluate.suite import Record, Suite, Verdict
from minigpt4.train.evaluate.suites import suite_named


@dataclass(frozen=True)
class Mark:
    """What a rate says about one answer: hits of tries."""

    name: str
    hits: float
    tries: float
    better: str | None
    """Whether "higher" or "lower" is better; None if neither."""

    @property
    def is_wrong(self) -> bool:
        """Whether the rate counts against the answer."""
        return self.hits < self.tries if self.better == "higher" else self.better == "lower" and self.hits > 0


@dataclass(frozen=True, eq=False)
class ReportedRun:
    """A run's folder, read once."""

    path: Path
    name: str
    header: Mapping[str, Any]
    suite: Suite
    records: tuple[Record, ...]
    """The records with an answer."""

    failed: tuple[Record, ...]
    """The records without an answer, and why."""

    verdicts: Mapping[str, Sequence[Verdict]]
    """Verdicts by the answer's id."""

    questions: int
    """How many questions were to be asked."""

    date: str = ""
    """The day of the last answer (UTC), as 2026-01-31."""

    @classmethod
    def open(cls, path: Path) -> ReportedRun:
        """Read a run; raises UsageError or DataError if there is none, or it is damaged or has no answer."""
        run = EvalRun.open(path)
        header = run.header
        data, model = header.get("data"), header.get("model")
        questions = data.get("questions") if isinstance(data, dict) else None
        if not isinstance(questions, int) or not isinstance(model, dict):
            raise DataError(f"{path / HEADER} is damaged; evaluate again into a new folder.")
        try:
            suite = suite_named(str(header.get("suite")))
        except UsageError:
            raise DataError(
                f"{path / HEADER} is of the suite '{header.get('suite')}', which this version does not know."
            ) from None
        records = run.records()
        answered = tuple(one for one in records if not one.error)
        if not answered:
            raise DataError(f"'{path}' has no answer yet; run its 'minigpt4 eval {suite.name}' again.")
        verdicts = defaultdict(list)
        for verdict in run.verdicts():
            verdicts[verdict.id].append(verdict)
        failed = tuple(one for one in records if one.error)
        last = run.last_answered()
        date = "" if last is None else last.date().isoformat()
        return cls(path, path.name, header, suite, answered, failed, verdicts, questions, date)

    @property
    def is_incomplete(self) -> bool:
        """Whether questions have no answer."""
        return len(self.records) < self.questions

    @property
    def pictures(self) -> int:
        """How many pictures the answers are about."""
        return len({(one.set, one.photo) for one in self.records})

    @cached_property
    def scores(self) -> list[Score]:
        """The scores of all answers."""
        return self.scores_of(self.records)

    def scores_of(self, records: Sequence[Record]) -> list[Score]:
        """The scores of some answers; raises DataError if they do not hold what the suite scores."""
        verdicts = [one for record in records for one in self.verdicts.get(record.id, ())]
        try:
            return self.suite.scores(records, verdicts)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            # The rows are well-formed, but only the suite knows what must be inside `truth`.
            raise DataError(
                f"The answers in '{self.path}' lack what the suite {self.suite.name} scores; "
                "evaluate again into a new folder."
            ) from error

    @cached_property
    def marks(self) -> Mapping[str, list[Mark]]:
        """What the rates say about each answer, by its id: the rates of this answer alone."""
        return {record.id: _marks(self.scores_of([record])) for record in self.records}

    def places(self, name: str) -> list[str]:
        """Where its pictures ("data") or its projection lay when it was last asked."""
        return places_in(self.header, name)


def _marks(scores: Sequence[Score]) -> list[Mark]:
    found = []
    for score in scores:
        if (score.is_rate or score.is_share) and score.value == score.value:
            hits, tries = (
                (float(score.sums[0]), float(score.sums[1])) if score.is_rate else (score.value, 1.0)
            )
            found.append(Mark(score.name, hits, tries, score.better))
    return found


def open_runs(paths: Sequence[Path]) -> list[ReportedRun]:
    """The runs in their order, with distinct names: of bundle and projection, else of folders."""
    runs = [ReportedRun.open(path) for path in paths]
    folders = [str(run.path.absolute()) for run in runs]
    candidates = (
        [_model(run) for run in runs],
        [run.path.absolute().name for run in runs],
        folders,
        [f"{name} ({folders[: place + 1].count(name)})" for place, name in enumerate(folders)],
    )
    # Runs of different suites are never side by side.
    suites = [run.suite.name for run in runs]
    names = next(some for some in candidates if len(set(zip(suites, some, strict=True))) == len(runs))
    return [replace(run, name=name) for run, name in zip(runs, names, strict=True)]


def _model(run: ReportedRun) -> str:
    """The bundle, and the projection if it is not the bundle's own."""
    name = str(run.header["model"].get("bundle") or run.header["model"].get("name") or run.path.name)
    for place in map(Path, run.places("projection")):
        # A training run's folder tells more than the file in it, which always has the same name.
        name += f"/{place.parent.name if place.stem == 'projection' else place.stem}"
    return name
