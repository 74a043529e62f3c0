"""The rules' output for some photos, word for word: a model's training data must not change by accident.

`python tests/train/captions/test_rules_golden.py` regenerates `rules_golden.json` after an intended change.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from minigpt4.train.captions.labels import label_caption, label_question_answers, load_classes
from minigpt4.train.captions.paragraph import paragraph
from minigpt4.train.captions.questions import question_answers

GOLDEN = Path(__file__).with_name("rules_golden.json")
SEEDS = range(3)


def written_about(captions: Sequence[str]) -> list[Any]:
    return [
        [paragraph(captions, Random(seed)), [list(pair) for pair in question_answers(captions, Random(seed))]]
        for seed in SEEDS
    ]


def written_about_label(index: int) -> list[Any]:
    label, rng = load_classes()[index], Random(index)
    return [label_caption(label, rng), [list(pair) for pair in label_question_answers(label, rng)]]


def photos() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(GOLDEN.read_text("utf-8"))["photos"]
    return found


@pytest.mark.parametrize("photo", photos(), ids=lambda photo: photo["captions"][0])
def test_captions_become_the_same_sentences(photo: dict[str, Any]) -> None:
    assert written_about(photo["captions"]) == photo["written"]


def test_labels_become_the_same_sentences() -> None:
    labels = json.loads(GOLDEN.read_text("utf-8"))["labels"]
    assert {index: written_about_label(int(index)) for index in labels} == labels


if __name__ == "__main__":
    kept = json.loads(GOLDEN.read_text("utf-8"))
    kept["photos"] = [
        {"captions": one["captions"], "written": written_about(one["captions"])} for one in kept["photos"]
    ]
    kept["labels"] = {index: written_about_label(int(index)) for index in kept["labels"]}
    GOLDEN.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")
