"""A-OKVQA and GQA: their files, and their measures on worked examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from minigpt4.core.errors import DataError
from minigpt4.core.types import ImageEmbedding, ResolvedSampling
from minigpt4.train.evaluate.answering import BundleAnswerer
from minigpt4.train.evaluate.metrics.vqa import normalized, soft_accuracy
from minigpt4.train.evaluate.open import open_photos
from minigpt4.train.evaluate.suite import Record, SuiteOptions, Task
from minigpt4.train.evaluate.suites.vqa import Vqa
from minigpt4.train.events import Event, PhotoSkipped

CAB = {
    "image_id": 299207,
    "question_id": "22MexNkBPpdZGX6sxbxVBH",
    "question": "What is the man by the bags awaiting?",
    "choices": ["skateboarder", "train", "delivery", "cab"],
    "correct_choice_idx": 3,
    "direct_answers": [
        "ride",
        "ride",
        "bus",
        "taxi",
        "travelling",
        "traffic",
        "taxi",
        "cab",
        "cab",
        "his ride",
    ],
    "difficult_direct_answer": False,
}
"""The example of A-OKVQA's own README."""

GQA = {
    "1": {
        "imageId": "20",
        "question": "Is the sky dark?",
        "answer": "yes",
        "isBalanced": True,
        "types": {"structural": "verify"},
    },
    "2": {
        "imageId": "20",
        "question": "What is on the wall?",
        "answer": "pipe",
        "isBalanced": True,
        "types": {"structural": "query"},
    },
    "3": {"imageId": "20", "question": "Which?", "answer": "left", "isBalanced": False},
    "4": {"imageId": "21", "question": "What is it?", "answer": "dog"},
}


def opened(folder: Path, name: str, content: Any, *pictures: str) -> tuple[list[Task], list[PhotoSkipped]]:
    (folder / "images").mkdir()
    for picture in pictures:
        Image.new("RGB", (8, 8)).save(folder / "images" / picture)
    (folder / name).write_text(json.dumps(content))
    skipped: list[Event] = []
    photos = open_photos([str(folder)], "questions", skipped.append)
    return list(Vqa().tasks(photos, SuiteOptions())), [
        one for one in skipped if isinstance(one, PhotoSkipped)
    ]


def records(tasks: list[Task], answers: dict[str, str]) -> list[Record]:
    return [
        Record(task.id, task.photo.key, "s", "", task.prompt, answers[task.id], truth=task.truth)
        for task in tasks
    ]


def values(tasks: list[Task], answers: dict[str, str]) -> dict[str, float]:
    return {score.name: score.value for score in Vqa().scores(records(tasks, answers))}


def test_a_question_of_aokvqa_is_asked_by_choice_and_directly(tmp_path: Path) -> None:
    tasks, skipped = opened(tmp_path, "aokvqa_v1p0_val.json", [CAB], "000000299207.jpg")
    assert skipped == []
    chosen, direct = tasks
    assert chosen.choices == ("skateboarder", "train", "delivery", "cab")
    assert chosen.prompt == direct.prompt == "Question: What is the man by the bags awaiting? Short answer:"
    assert chosen.prompt_with_choices.endswith("skateboarder; train; delivery; cab.")
    assert direct.prompt_with_choices == direct.prompt


@pytest.mark.parametrize(
    ("chosen", "direct", "by_choice", "directly"),
    [
        ("cab", "taxi", 1, 2 / 3),
        ("train", "A cab.", 0, 2 / 3),
        ("Cab.", "bus", 1, 1 / 3),
        ("bus", "car", 0, 0),
    ],
)
def test_aokvqa_is_scored_as_its_own_evaluation_does(
    tmp_path: Path, chosen: str, direct: str, by_choice: float, directly: float
) -> None:
    tasks, _ = opened(tmp_path, "aokvqa_v1p0_val.json", [CAB], "000000299207.jpg")
    id_ = CAB["question_id"]
    assert values(tasks, {f"{id_}#choice": chosen, f"{id_}": direct}) == pytest.approx(
        {"A-OKVQA, multiple choice": by_choice, "A-OKVQA, direct answer": directly}
    )


def test_direct_answers_count_fully_from_three_on_and_not_if_they_are_difficult(tmp_path: Path) -> None:
    assert [soft_accuracy("ride", ["ride"] * number) for number in range(5)] == pytest.approx(
        [0, 1 / 3, 2 / 3, 1, 1]
    )
    difficult = {**CAB, "difficult_direct_answer": True}
    (only,), _ = opened(tmp_path, "aokvqa_v1p0_val.json", [difficult], "000000299207.jpg")
    assert only.choices


def test_gqa_is_the_share_of_equal_answers_to_balanced_questions(tmp_path: Path) -> None:
    tasks, skipped = opened(tmp_path, "val_balanced_questions.json", GQA, "20.jpg")
    assert [task.id for task in tasks] == ["1", "2"]
    assert {(one.key, one.reason.split(",")[0]) for one in skipped} == {
        ("3", "not balanced"),
        ("21.jpg", "it has questions"),
    }
    assert values(tasks, {"1": "Yes.", "2": "the painting"}) == {
        "GQA": 0.5,
        "GQA, binary questions": 1,
        "GQA, open questions": 0,
    }


def test_damaged_and_doubled_questions_are_named(tmp_path: Path) -> None:
    rows = [CAB, {**CAB, "question_id": "b", "correct_choice_idx": 9}, CAB, "nothing"]
    tasks, skipped = opened(tmp_path, "aokvqa_v1p0_val.json", rows, "000000299207.jpg")
    assert len(tasks) == 2
    assert [one.key for one in skipped] == ["entry 2", CAB["question_id"], "entry 4"]


def test_a_file_without_questions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no question"):
        opened(tmp_path, "aokvqa.json", [{"image_id": 1}])


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("The Dog.", "dog"), ("a  red, old car", "red old car"), ("3.5", "3.5"), ("12:30", "12 30"), ("an", "")],
)
def test_normalisation(answer: str, expected: str) -> None:
    assert normalized(answer) == expected


def test_a_bundle_chooses_the_likeliest_answer(tmp_path: Path) -> None:
    class Engine:
        def look(self, picture: Any) -> ImageEmbedding:
            return ImageEmbedding(np.zeros((1, 4), np.float32), key=picture.name)

        def log_likelihoods(self, conversation: Any, answers: Any) -> list[float]:
            return [-9.0, -3.0, -5.0, -4.0]

    tasks, _ = opened(tmp_path, "aokvqa_v1p0_val.json", [CAB], "000000299207.jpg")
    answerer = BundleAnswerer(Engine(), {}, ResolvedSampling())  # type: ignore[arg-type]
    (record,) = answerer.answers(tasks[:1])
    assert (record.answer, record.finish) == ("train", "stop")
