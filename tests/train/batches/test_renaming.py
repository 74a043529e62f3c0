"""Objects under other names, in questions and vectors alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt4.core.vision.coco_classes import NAMES
from minigpt4.core.vision.detections import Detections
from minigpt4.core.vision.objects import COUNT_COLUMNS, COUNTS, NAME_COLUMNS, WIDTH, object_vectors
from minigpt4.train.batches.renaming import (
    LABELS,
    draw_renaming,
    rename_columns,
    renamed,
    statistics_of_renamed,
)
from minigpt4.train.batches.samples import FeatureColumns, Sample, change_features
from minigpt4.train.captions.objects.scene import SceneObject
from minigpt4.train.captions.objects.statistics import LabelStatistics
from minigpt4.train.recipe import Recipe

MakeRecipe = Callable[..., Recipe]
NUMBERS = list(NAMES)
TOWER = 3
DOG = {"label": "dog", "box": [0.1, 0.1, 0.5, 0.6]}
BUS = {"label": "bus", "box": [0.5, 0.2, 0.9, 0.9]}


def found(*numbers: int) -> Detections:
    count = len(numbers)
    boxes = np.array([[0.1, 0.1, 0.9 - 0.01 * place, 0.8] for place in range(count)], np.float32)
    return Detections(
        boxes, np.array(numbers, np.int64), np.full(count, 0.9, np.float32), np.zeros((count, 90), np.float32)
    )


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=6), st.integers(0, 2**32))
def test_vectors_and_objects_get_the_same_new_names(numbers: list[int], seed: int) -> None:
    renaming = draw_renaming(Random(seed))
    assert sorted(renaming.places) == list(range(len(LABELS)))
    objects = [SceneObject(NAMES[number], None) for number in numbers]
    new = {NUMBERS[LABELS.index(one.label)] for one in renamed(objects, renaming)}
    vectors = torch.from_numpy(object_vectors(found(*numbers), 6))
    before = vectors[:, COUNT_COLUMNS].clone()
    rename_columns(vectors, renaming, NAME_COLUMNS, COUNT_COLUMNS)
    named = vectors[:, NAME_COLUMNS]
    assert {NUMBERS[int(row.argmax())] for row in named if row.any()} == new
    assert named.sum() == len(numbers)
    assert torch.equal(vectors[:, COUNT_COLUMNS], before)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=6), st.integers(0, 2**32))
def test_vectors_and_answers_get_the_same_new_numbers(numbers: list[int], seed: int) -> None:
    renaming = draw_renaming(Random(seed), renumbered=True)
    vectors = torch.from_numpy(object_vectors(found(*numbers), 6))
    rename_columns(vectors, renaming, NAME_COLUMNS, COUNT_COLUMNS)
    for number, name in zip(vectors[::2], vectors[1::2], strict=True):
        if name[NAME_COLUMNS].any():
            label = LABELS[int(name[NAME_COLUMNS].argmax())]
            assert number[COUNT_COLUMNS].sum() == 1
            assert int(number[COUNT_COLUMNS].argmax()) + 1 == renaming.by_label[label]
        else:
            assert not number[COUNT_COLUMNS].any()


def test_every_number_is_as_frequent_as_any_other_where_it_is_drawn() -> None:
    numbers = Counter(
        number for seed in range(50) for number in draw_renaming(Random(seed), renumbered=True).numbers
    )
    assert sorted(numbers) == [1, 2, 3, 4, 5] and len(COUNTS) == 5
    assert max(numbers.values()) < 1.25 * min(numbers.values())
    known = LabelStatistics(("dog",), {"dog": 90}, {}, {1: 90, 2: 8}, share=0.9)
    new = statistics_of_renamed(known, renumbered=True)
    assert new.count_rate(1) == new.count_rate(4) == 1


def test_what_no_detector_knows_is_left_out_under_new_names() -> None:
    objects = [SceneObject("unicorn", None), SceneObject("dog", None, 0.7)]
    (one,) = renamed(objects, draw_renaming(Random(0)))
    assert one.score == 0.7 and one.label in LABELS


def test_numbers_are_as_rare_under_new_names_as_in_their_source() -> None:
    numbers = {1: 90, 2: 8, 3: 2}
    known = LabelStatistics(("dog",), {"dog": 90}, {}, numbers, share=0.9)
    new = statistics_of_renamed(known)
    assert (new.labels, new.share) == (tuple(sorted(LABELS)), 1.0)
    assert new.count_rate(1) == known.count_rate(1) == pytest.approx(10 / 90)
    assert not new.frequency and not new.together


def test_only_the_names_of_a_renamed_photo_are_changed(tiny_recipe: MakeRecipe) -> None:
    batch_BND = torch.zeros(2, 4, TOWER + WIDTH)
    batch_BND[:, :2, :TOWER] = 1
    batch_BND[:, 2:, TOWER:] = torch.from_numpy(object_vectors(found(18), 1))
    before_BND = batch_BND.clone()
    columns = FeatureColumns(
        slice(0, 2),
        slice(TOWER + NAME_COLUMNS.start, TOWER + NAME_COLUMNS.stop),
        slice(TOWER + COUNT_COLUMNS.start, TOWER + COUNT_COLUMNS.stop),
    )
    samples = [Sample(0, 0, 0, (), renaming=draw_renaming(Random(1))), Sample(0, 0, 0, ())]
    change_features(batch_BND, samples, tiny_recipe(feature_dropout=0.0), columns)
    assert torch.equal(batch_BND[0, :, :TOWER], before_BND[0, :, :TOWER])
    assert not torch.equal(batch_BND[0, 2:, columns.names], before_BND[0, 2:, columns.names])
    assert torch.equal(batch_BND[0, :, columns.names.stop :], before_BND[0, :, columns.names.stop :])
    assert torch.equal(batch_BND[1], before_BND[1])
