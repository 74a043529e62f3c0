"""A person as the judge of one or several runs: what to judge next, and the verdicts, saved at once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from minigpt4.core.errors import UsageError
from minigpt4.train.evaluate.suite import JudgeTask, Record, Suite, Verdict
from minigpt4.train.evaluate.suites import suite_named

if TYPE_CHECKING:
    from minigpt4.train.evaluate.run_folder import EvalRun

SAID = {1.0: "yes", 0.0: "no", None: "unsure"}
"""A person's verdicts as words."""


@dataclass(frozen=True, eq=False)
class Case:
    """An answer to be judged. The judge must not see which run it is from."""

    run: int
    record: Record
    """The record whose picture is shown."""

    task: JudgeTask


class Sitting:
    """A judge's pass through the answers of some runs, in an order drawn from `seed`.

    The order depends on neither what has been judged nor what is added to a run, so that a sitting can be
    left and resumed. Use it as a context manager: no other process can write to the runs meanwhile.
    """

    def __init__(self, runs: Sequence[EvalRun], judge: str, seed: int = 0) -> None:
        """Raises UsageError for runs of different suites, and if there is nothing to judge."""
        self.runs, self.judge, self.seed = list(runs), judge, seed
        self.suite = _suite_of(runs)
        self._locks = ExitStack()
        self.cases = sorted(self._all_cases(), key=self._place)
        if not self.cases:
            raise UsageError(
                f"'{runs[0].path}' holds no answer that a judge is asked about; "
                f"its suite is {self.suite.name}."
            )
        self._said: dict[tuple[int, str, str, bool], Verdict] = {}
        self._order: list[Case] = []
        self._read_verdicts()
        self.current = self._next()
        """The answer to be judged now; None if all are."""

    def __enter__(self) -> Sitting:
        with ExitStack() as stack:
            for run in self.runs:
                stack.enter_context(run.locked())
            self._locks = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._locks.close()

    @property
    def judged(self) -> int:
        """How many of the answers are judged."""
        return len(self._order)

    @property
    def last(self) -> str:
        """The last verdict: "yes", "no" or "unsure"; empty at the beginning."""
        return self._said[_key(self._order[-1])].words if self._order else ""

    def decide(self, value: float | None) -> None:
        """Save the verdict on the current answer, and go to the next one.

        Raises OSError, without going on, if it cannot be written.
        """
        if self.current is None:
            return
        task = self.current.task
        verdict = Verdict(task.id, self.judge, task.question, value, SAID[value], task.is_negative)
        self._write(self.current, verdict)
        self._said[_key(self.current)] = verdict
        self._order.append(self.current)
        self.current = self._next()

    def undo(self) -> bool:
        """Withdraw the last verdict, and show its answer again; False if there is none."""
        if not self._order:
            return False
        case = self._order[-1]
        self._write(case, replace(self._said[_key(case)], is_withdrawn=True))
        del self._said[_key(case)]
        self.current = self._order.pop()
        return True

    def _write(self, case: Case, verdict: Verdict) -> None:
        with self.runs[case.run].verdicts_file() as file:
            file.add(verdict)

    def _all_cases(self) -> list[Case]:
        found = []
        for number, run in enumerate(self.runs):
            records = [record for record in run.records() if not record.error]
            by_id = {record.id: record for record in records}
            tasks = self.suite.judge_tasks(records, self.seed)
            found += [Case(number, by_id[task.id], task) for task in tasks]
        return found

    def _place(self, case: Case) -> bytes:
        return hashlib.sha256("\n".join(map(str, (self.seed, *_key(case)))).encode()).digest()

    def _read_verdicts(self) -> None:
        cases = {_key(case): case for case in self.cases}
        for number, run in enumerate(self.runs):
            for one in run.verdicts():
                key = number, one.id, one.question, one.is_negative
                if one.judge == self.judge and key in cases:
                    self._said[key] = one
                    self._order.append(cases[key])

    def _next(self) -> Case | None:
        return next((case for case in self.cases if _key(case) not in self._said), None)


def _key(case: Case) -> tuple[int, str, str, bool]:
    return case.run, case.task.id, case.task.question, case.task.is_negative


def _suite_of(runs: Sequence[EvalRun]) -> Suite:
    first = runs[0]
    for run in runs[1:]:
        if run.header["suite"] != first.header["suite"]:
            raise UsageError(
                f"'{first.path}' holds answers of the suite {first.header['suite']} and '{run.path}' of "
                f"{run.header['suite']}; only runs of one suite can be compared."
            )
        if run.path.resolve() == first.path.resolve():
            raise UsageError(f"'{run.path}' is given twice; give two different runs.")
    return suite_named(first.header["suite"])
