"""Suites whose answers are judged: coverage of captions, and the paper's four tasks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from minigpt4.core.errors import UsageError
from minigpt4.train.evaluate.photos import EvalPhoto
from minigpt4.train.evaluate.scores import Score
from minigpt4.train.evaluate.suite import JudgeTask, Record, Suite, SuiteOptions, Verdict
from minigpt4.train.evaluate.suites.coverage import DRAWN, Coverage
from minigpt4.train.evaluate.suites.tasks import KINDS, Tasks

THINGS = ("dog", "cat", "horse", "boat", "train", "piano", "kite", "cake")


def photos(number: int, captions: int = 5) -> list[EvalPhoto]:
    return [
        EvalPhoto(
            f"{index:03}",
            "set",
            bytes,
            tuple(f"A {THINGS[index % 8]} of the kind {place}." for place in range(captions)),
        )
        for index in range(number)
    ]


def answered(suite: Suite, seen: Sequence[EvalPhoto], seed: int = 0) -> list[Record]:
    return [
        Record(
            task.id,
            task.photo.key,
            "set",
            "",
            task.prompt,
            f"Number {index}: a {THINGS[index % 8]}.",
            truth=task.truth,
        )
        for index, task in enumerate(suite.tasks(seen, SuiteOptions(seed=seed)))
    ]


def said(task: JudgeTask, value: float | None, judge: str = "j") -> Verdict:
    return Verdict(task.id, judge, task.question, value, "", task.is_negative)


def by_name(scores: Sequence[Score]) -> dict[str, Score]:
    return {score.name: score for score in scores}


def test_coverage_asks_the_papers_question_about_every_caption_and_draws_one_by_seed() -> None:
    suite = Coverage()
    (record, *_) = records = answered(suite, photos(20))
    tasks = [task for task in suite.judge_tasks(records) if task.id == "000" and not task.is_negative]
    drawn = record.truth["drawn"]
    assert [task.question for task in tasks] == [
        DRAWN if place == drawn else f"caption {place + 1}" for place in range(5)
    ]
    assert tasks[drawn].prompt == (
        f"There is one image caption1 'A dog of the kind {drawn}.', and there is another image caption2 "
        "'Number 0: a dog.'. Does image caption2 cover all the objects and visual relations shown in image "
        "caption1? Only answer yes or no without any explanation."
    )
    draws = [[record.truth["drawn"] for record in answered(suite, photos(20), seed)] for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert set(draws[0]) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(("answers", "negatives"), [(8, 5), (20, 5), (80, 8), (3, 3)])
def test_known_negatives_are_answers_about_pictures_of_something_else(answers: int, negatives: int) -> None:
    suite = Coverage()
    records = answered(suite, photos(answers))
    tasks = suite.judge_tasks(records)
    assert tasks == suite.judge_tasks(records)
    found = [task for task in tasks if task.is_negative]
    assert len(found) == negatives
    assert {task.question for task in found} == {DRAWN}
    things = {record.id: record.answer.split()[-1] for record in records}
    texts = {record.answer for record in records}
    for task in found:
        assert task.answer in texts
        assert not task.answer.endswith(things[task.id])
        assert task.answer in task.prompt


def test_no_negative_is_made_up_where_all_answers_are_of_one_thing() -> None:
    suite = Coverage()
    records = [record for record in answered(suite, photos(80)) if record.answer.endswith("dog.")]
    assert len(records) == 10
    assert not any(task.is_negative for task in suite.judge_tasks(records))


def test_coverage_counts_what_was_understood_beside_the_paper() -> None:
    suite = Coverage()
    records = answered(suite, photos(10))
    tasks = suite.judge_tasks(records)
    first, second, *_ = (record.id for record in records)
    verdicts = [
        said(task, None if (task.id, task.question) == (second, DRAWN) else float(task.id == first))
        for task in tasks
    ]
    scores = by_name(suite.scores(records, verdicts))
    assert scores["captions covered"].value == pytest.approx(1 / 9)
    assert scores["captions covered"].paper == 0.662
    assert scores["captions covered, of 5"].value == pytest.approx(5 / 9)
    assert scores["verdicts not understood"].value == sum(one.value is None for one in verdicts) > 0
    assert scores["answers judged"].value == 10


def test_a_judge_that_accepts_everything_is_exposed() -> None:
    suite = Coverage()
    records = answered(suite, photos(10))
    scores = by_name(suite.scores(records, [said(task, 1.0) for task in suite.judge_tasks(records)]))
    assert scores["known negatives accepted"].value == 1
    assert scores["known negatives accepted"].sums[1] == 5


def test_each_judge_has_its_own_scores() -> None:
    suite = Coverage()
    records = answered(suite, photos(10))
    tasks = suite.judge_tasks(records)
    verdicts = [said(task, 1.0, "a") for task in tasks] + [said(task, 0.0, "b") for task in tasks]
    scores = by_name(suite.scores(records, verdicts))
    assert (scores["a: captions covered"].value, scores["b: captions covered"].value) == (1, 0)


def test_before_any_verdict_there_is_no_coverage() -> None:
    suite = Coverage()
    assert list(by_name(suite.scores(answered(suite, photos(3))))) == ["mean length (words)"]


def test_pictures_without_five_captions_are_judged_by_the_drawn_one() -> None:
    suite = Coverage()
    records = answered(suite, photos(8, captions=3))
    tasks = suite.judge_tasks(records)
    assert {task.question for task in tasks} == {DRAWN}
    scores = by_name(suite.scores(records, [said(task, 1.0) for task in tasks]))
    assert "captions covered" in scores and "captions covered, of 5" not in scores


def in_folders(each: int) -> list[EvalPhoto]:
    return [EvalPhoto(f"{kind}/{index:02}.jpg", "all", bytes) for kind in KINDS for index in range(each)]


def test_each_folder_has_the_papers_prompt_and_25_pictures() -> None:
    suite = Tasks()
    chosen = suite.limited(in_folders(30), None)
    tasks = list(suite.tasks(chosen, SuiteOptions()))
    assert len(tasks) == 100
    assert {task.truth["kind"]: task.prompt for task in tasks} == {
        "meme": "Explain why this meme is funny.",
        "recipe": "How should I make something like this?",
        "advertisement": "Help me draft a professional advertisement for this.",
        "poem": "Can you craft a beautiful poem about this image?",
    }
    assert len(suite.limited(in_folders(30), 3)) == 12


def test_one_tasks_folder_can_be_given_alone() -> None:
    (task,) = Tasks().tasks([EvalPhoto("a.jpg", "meme", bytes)], SuiteOptions())
    assert task.truth == {"kind": "meme"}


def test_a_picture_of_no_task_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'cats/a\.jpg' lies in none of the folders meme, recipe"):
        Tasks().limited([EvalPhoto("cats/a.jpg", "all", bytes)], None)


def test_tasks_are_judged_from_the_picture_and_scored_beside_the_paper() -> None:
    suite = Tasks()
    records = answered(suite, in_folders(25))
    tasks = suite.judge_tasks(records)
    assert all(task.needs_picture for task in tasks)
    negatives = [task for task in tasks if task.is_negative]
    assert len(negatives) == 10
    kinds = {record.answer: record.truth["kind"] for record in records}
    assert all(kinds[task.answer] == task.question for task in negatives)
    scores = by_name(suite.scores(records, [said(task, float(task.question == "poem")) for task in tasks]))
    assert scores["successful"].value == 0.25
    assert scores["successful"].paper == pytest.approx(0.65)
    assert (scores["poem"].value, scores["poem"].paper) == (1, 0.8)
    assert (scores["meme"].value, scores["meme"].paper) == (0, 0.32)
