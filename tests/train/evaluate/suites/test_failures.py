"""The paper's count of failed answers."""

from __future__ import annotations

from minigpt4.train.evaluate.photos import EvalPhoto
from minigpt4.train.evaluate.suite import Record, SuiteOptions
from minigpt4.train.evaluate.suites.fluency import Failures

PHOTOS = [EvalPhoto(key, "folder", bytes) for key in ("a.jpg", "b.jpg")]


def answers(detail: str, poem: str, finish: str = "stop") -> list[Record]:
    texts = {"detail": detail, "poem": poem}
    return [
        Record(
            task.id,
            task.photo.key,
            "folder",
            "",
            task.prompt,
            texts[task.truth["question"]],
            finish=finish,
            truth=task.truth,
        )
        for task in Failures().tasks(PHOTOS, SuiteOptions())
    ]


def test_each_picture_is_to_be_described_and_to_be_made_a_poem_of() -> None:
    tasks = list(Failures().tasks(PHOTOS, SuiteOptions()))
    assert [task.id for task in tasks] == ["a.jpg#detail", "a.jpg#poem", "b.jpg#detail", "b.jpg#poem"]
    assert [task.prompt for task in tasks[:2]] == [
        "Describe the image in detail.",
        "Can you write a beautiful poem about this image?",
    ]


def test_each_question_has_its_failures_beside_the_papers() -> None:
    scores = {
        score.name: score
        for score in Failures().scores(answers("A dog runs. A dog runs.", "A dog runs\nin the sun"))
    }
    assert (scores["detail: failed"].value, scores["detail: failed"].paper) == (1, 0.02)
    assert (scores["poem: failed"].value, scores["poem: failed"].paper) == (0, 0.01)
    assert scores["detail: repeats itself"].value == 1
    assert scores["poem: mean length (words)"].value == 6


def test_an_answer_that_ran_to_the_limit_has_failed() -> None:
    cut = Failures().scores(answers("A dog runs on.", "A dog runs on.", "length"))
    scores = {score.name: score.value for score in cut}
    assert scores["detail: runs to the token limit"] == scores["poem: failed"] == 1


def test_another_prompt_is_asked_alone() -> None:
    (task, _) = Failures().tasks(PHOTOS, SuiteOptions(prompt="Tell me more.", max_tokens=9))
    assert (task.id, task.prompt, task.max_tokens) == ("a.jpg", "Tell me more.", 9)
