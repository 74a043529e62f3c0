"""A person as the judge: the order of answers, what is kept of each verdict, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from minigpt4.core.errors import UsageError
from minigpt4.train.evaluate.person import Case, Sitting
from minigpt4.train.evaluate.run_folder import EvalRun

NewRun = Callable[..., EvalRun]


def seen(sitting: Sitting, value: float | None = 1.0) -> list[str]:
    """Judge everything; the answers' ids in the order in which they came, "!" for the negatives."""
    found = []
    while (case := sitting.current) is not None:
        found.append(shown(case))
        sitting.decide(value)
    return found


def shown(case: Case) -> str:
    return case.task.id + "!" * case.task.is_negative


def test_answers_come_in_an_order_of_the_seed_with_the_negatives_among_them(judged_run: NewRun) -> None:
    orders = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        with Sitting([judged_run(name, answers=12)], "ann", seed) as sitting:
            orders.append(seen(sitting))
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])
    assert orders[0] != sorted(orders[0])
    verdicts = EvalRun.open(judged_run("a").path).verdicts()
    places = [place for place, one in enumerate(verdicts) if one.is_negative]
    assert len(verdicts) == 15 and len(places) == 3
    assert places not in ([0, 1, 2], [12, 13, 14])


def test_each_verdict_is_in_the_run_at_once(judged_run: NewRun) -> None:
    run = judged_run("a")
    with Sitting([run], "ann") as sitting:
        for number, (value, words) in enumerate([(1.0, "yes"), (0.0, "no"), (None, "unsure")], start=1):
            task = sitting.current.task if sitting.current else None
            sitting.decide(value)
            *_, last = kept = run.verdicts()
            assert task is not None and len(kept) == number == sitting.judged
            assert (last.id, last.question, last.is_negative) == (task.id, task.question, task.is_negative)
            assert (last.judge, last.value, last.words) == ("ann", value, words) and sitting.last == words


def test_a_verdict_that_is_taken_back_is_gone_and_its_answer_comes_again(judged_run: NewRun) -> None:
    run = judged_run("a")
    with Sitting([run], "ann") as sitting:
        assert not sitting.undo()
        first = sitting.current
        sitting.decide(1.0)
        second = sitting.current
        sitting.decide(1.0)
        assert sitting.undo() and sitting.current is second
        assert sitting.undo() and sitting.current is first
        assert run.verdicts() == [] and sitting.judged == 0
        sitting.decide(0.0)
        assert [one.value for one in run.verdicts()] == [0.0]
        assert sitting.current is second


def test_a_sitting_goes_on_where_it_was_left_and_can_take_back_what_was_said_before(
    judged_run: NewRun,
) -> None:
    run = judged_run("a")
    with Sitting([run], "ann") as sitting:
        whole = [shown(case) for case in sitting.cases]
        sitting.decide(1.0)
        sitting.decide(0.0)
    with Sitting([run], "ann") as sitting:
        assert sitting.judged == 2 and sitting.last == "no"
        assert sitting.undo()
        assert seen(sitting) == whole[1:]
    assert len(run.verdicts()) == len(whole)


def test_another_judge_begins_at_the_beginning(judged_run: NewRun) -> None:
    run = judged_run("a")
    for judge in ("ann", "bob"):
        with Sitting([run], judge) as sitting:
            assert sitting.judged == 0
            seen(sitting)
    assert len(run.verdicts()) == 2 * len(sitting.cases)


def test_answers_that_come_later_do_not_change_the_order_of_the_others(judged_run: NewRun) -> None:
    run = judged_run("a", answers=6)
    with Sitting([run], "ann") as sitting:
        before = [case.task.id for case in sitting.cases if not case.task.is_negative]
    with run.answers_file() as file:
        file.add(replace(run.records()[0], id="new"))
    with Sitting([run], "ann") as sitting:
        after = [case.task.id for case in sitting.cases if not case.task.is_negative]
    assert [one for one in after if one != "new"] == before


def test_two_runs_are_mixed_and_each_keeps_its_own_verdicts(judged_run: NewRun) -> None:
    one, two = judged_run("a", answers=12), judged_run("b", answers=12)
    with Sitting([one, two], "ann") as sitting:
        order = [case.run for case in sitting.cases]
        assert order != sorted(order) and order != sorted(order, reverse=True)
        seen(sitting)
    assert len(one.verdicts()) == len(two.verdicts()) == 15


def test_a_run_that_another_process_writes_is_not_judged(judged_run: NewRun) -> None:
    one, two = judged_run("a"), judged_run("b")
    with (
        two.locked(),
        pytest.raises(UsageError, match="being written by another process"),
        Sitting([one, two], "ann"),
    ):
        pass
    with one.locked():
        pass  # and it is let go of


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda new: [new("a"), new("b", suite="captions")], "only runs of one suite can be compared"),
        (lambda new: [new("a"), new("a")], "is given twice"),
        (lambda new: [new("a", suite="captions")], "no answer that a judge is asked about"),
    ],
)
def test_runs_that_cannot_be_judged_together_are_refused(
    judged_run: NewRun, make: Callable[[NewRun], Any], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        Sitting(make(judged_run), "ann")


def test_a_verdict_that_cannot_be_written_leaves_the_answer_to_be_judged(
    judged_run: NewRun, tmp_path: Path
) -> None:
    run = judged_run("a")
    with Sitting([run], "ann") as sitting:
        case = sitting.current
        (run.path / "verdicts.jsonl").mkdir()
        with pytest.raises(OSError, match="directory"):
            sitting.decide(1.0)
        assert sitting.current is case and sitting.judged == 0
