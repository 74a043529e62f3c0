"""A detector's objects as vectors, and the tower that gives them beside its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from minigpt4.core.bundles.bundle import Bundle, ObjectsSpec
from minigpt4.core.bundles.source import File
from minigpt4.core.errors import BundleError
from minigpt4.core.memory import memory_needed
from minigpt4.core.pixels import open_picture, to_pixels
from minigpt4.core.projection import load_projection
from minigpt4.core.vision.coco_classes import NAMES
from minigpt4.core.vision.detections import Detections
from minigpt4.core.vision.fingerprint import tower_fingerprint
from minigpt4.core.vision.objects import (
    COUNT_COLUMNS,
    IS_EMPTY,
    IS_OBJECT,
    NAME_COLUMNS,
    NAMED_COLUMNS,
    PLACE_COLUMNS,
    SCORE_COLUMNS,
    WIDTH,
    found_objects,
    object_boxes,
    object_vectors,
)
from minigpt4.core.vision.tower import load_tower

PERSON, CAT, DOG = 1, 17, 18
GRAPH = "ssd_mobilenet_v2_coco_2018_03_29.pb"
SHA256 = "2a8d8a89d695842e60d8c6d144181100555563e21acf2fa1e8f561fec5c3c6ad"


def found(*objects: tuple[int, float, list[float]]) -> Detections:
    """Objects of class, score and box (top, left, bottom, right), each with its score in its own class."""
    probabilities_KC = np.zeros((len(objects), 90), np.float32)
    for place, (number, score, _) in enumerate(objects):
        probabilities_KC[place, number - 1] = score
    return Detections(
        np.array([box for _, _, box in objects], np.float32).reshape(-1, 4),
        np.array([number for number, _, _ in objects], np.int64),
        np.array([score for _, score, _ in objects], np.float32),
        probabilities_KC,
    )


def classes_of(rows: np.ndarray) -> list[str]:
    """The class of each object; empty for vectors that say that there is nothing."""
    names = list(NAMES.values())
    assert (rows[::2, IS_EMPTY] == rows[1::2, IS_EMPTY]).all()
    return ["" if row[IS_EMPTY] else names[row[: len(names)].argmax()] for row in rows[1::2]]


def test_the_clearest_of_each_class_comes_first_and_then_the_rest() -> None:
    crowd = [(PERSON, 0.9, [0.0, 0.1 * x, 0.5 + 0.01 * x, 0.1 * x + 0.1]) for x in range(5)]
    rows = object_vectors(found(*crowd, (DOG, 0.5, [0.9, 0.9, 1.0, 1.0])), 4)
    assert classes_of(rows) == ["person", "dog", "person", "person"]
    heights = rows[::2, PLACE_COLUMNS][:, 3]
    assert heights[0] == pytest.approx(0.54) and heights[2] == pytest.approx(0.53)


def test_a_large_faint_object_comes_after_a_smaller_clear_one() -> None:
    table, cup = (67, 0.3, [0.0, 0.0, 1.0, 1.0]), (47, 0.9, [0.4, 0.4, 0.6, 0.6])
    assert classes_of(object_vectors(found(table, cup), 2)) == ["cup", "dining table"]
    sure = (67, 0.9, [0.0, 0.0, 1.0, 1.0])
    assert classes_of(object_vectors(found(sure, cup), 2)) == ["dining table", "cup"]
    no_area = (CAT, 0.9, [0.5, 0.5, 0.5, 0.4])
    assert classes_of(object_vectors(found(no_area, table), 2)) == ["dining table", "cat"]


def test_a_faint_object_is_there_but_not_counted() -> None:
    cats = [(CAT, score, [0.1, 0.1, 0.5, 0.5]) for score in (0.9, 0.5, 0.19)]
    faint = (DOG, 0.16, [0.5, 0.5, 0.9, 0.9])
    rows = object_vectors(found(*cats, faint), 4)
    assert classes_of(rows) == ["cat", "dog", "cat", "cat"]
    assert rows[[0, 4, 6], COUNT_COLUMNS].tolist() == [[0, 1, 0, 0, 0]] * 3, "two of three"
    assert rows[2, COUNT_COLUMNS].tolist() == [1, 0, 0, 0, 0], "one, though none counts"


def test_an_objects_number_place_and_score_come_before_its_name() -> None:
    one, other = [0.25, 0.0, 0.75, 0.5], [0.5, 0.5, 0.6, 0.6]
    rows = object_vectors(found((CAT, 0.75, one), (CAT, 0.5, other)), 3)
    assert rows.shape == (6, WIDTH) == (6, 96)
    number, name = rows[:2]
    # The center is half way to the left and at the middle of the height.
    assert number[PLACE_COLUMNS].tolist() == pytest.approx([-0.5, 0.0, 0.5, 0.5, 0.25])
    assert number[SCORE_COLUMNS].tolist() == [0, 0, 0, 1] and not number[NAME_COLUMNS].any()
    assert rows[[0, 2], COUNT_COLUMNS].tolist() == [[0, 1, 0, 0, 0]] * 2
    clear = SCORE_COLUMNS.stop - 1
    assert np.flatnonzero(name).tolist() == [list(NAMES).index(CAT), clear, WIDTH + IS_OBJECT]
    assert rows[:, IS_OBJECT].tolist() == [1, 1, 1, 1, 0, 0]
    assert (rows[4:, IS_EMPTY] == 1).all() and np.count_nonzero(rows[4:]) == 2


def test_each_range_of_scores_has_a_column_in_both_vectors() -> None:
    scores = [0.6, 0.599, 0.4, 0.25, 0.249, 0.15]
    rows = object_vectors(found(*[(CAT, score, [0.0, 0.0, 0.1, 0.1]) for score in scores]), 6)
    for vectors in (rows[::2], rows[1::2]):
        assert vectors[:, SCORE_COLUMNS].argmax(1).tolist() == [3, 2, 2, 1, 0, 0]
        assert (vectors[:, SCORE_COLUMNS].sum(1) == 1).all()


def test_more_than_four_are_several() -> None:
    rows = object_vectors(found(*[(CAT, 0.9, [0.0, 0.0, 0.1, 0.1])] * 200), 8)
    assert (rows[::2, COUNT_COLUMNS.stop - 1] == 1).all()
    assert NAMED_COLUMNS[COUNT_COLUMNS.stop - 1] == "several"


def test_no_object_and_a_class_without_a_name_leave_empty_vectors() -> None:
    assert classes_of(object_vectors(found(), 2)) == ["", ""]
    assert classes_of(object_vectors(found((12, 0.9, [0, 0, 1, 1])), 2)) == ["", ""]


def test_people_are_shown_the_objects_that_have_a_vector_in_the_same_order() -> None:
    crowd = [(PERSON, 0.9, [0.0, 0.1 * x, 0.5 + 0.01 * x, 0.1 * x + 0.1]) for x in range(5)]
    many = found((DOG, 0.5, [0.25, 0.0, 1.0, 0.875]), (12, 0.9, [0, 0, 1, 1]), *crowd)
    shown = found_objects(object_boxes(many, 4))
    assert [one.name for one in shown] == classes_of(object_vectors(many, 4))
    assert (shown[0].score, shown[0].box) == (0.5, (0.0, 0.25, 0.875, 1.0)), "left, top, right, bottom"
    assert len(found_objects(object_boxes(many, 8))) == 6


def test_of_200_objects_no_more_are_shown_than_have_a_vector() -> None:
    many = found(*[(CAT, 0.9, [0.0, 0.0, 0.1, 0.1])] * 200)
    assert len(found_objects(object_boxes(many, 6))) == 6
    assert found_objects(object_boxes(found(), 6)) == []


@pytest.fixture
def seeing(mini_without_detector: Bundle) -> Bundle:
    """mini with a detector of four objects."""
    file, mini = File(GRAPH, 69688296, SHA256), mini_without_detector
    return replace(
        mini,
        vision=replace(mini.vision, image_size=300),
        objects=ObjectsSpec("ssd-mobilenet-v2", file, limit=4, min_score=0.35, soft_prompt=2),
        projection=replace(mini.projection, inputs=2378, image_tokens=25),
    )


def test_the_tower_gives_its_own_vectors_then_a_soft_prompt_and_the_objects(
    seeing: Bundle, mini_without_detector: Bundle, mini_home: Path, examples: Path
) -> None:
    tower, before = load_tower(seeing), load_tower(mini_without_detector)
    image = open_picture(examples / "chelsea.png").image
    vision = seeing.vision
    pixels = torch.from_numpy(to_pixels(image, 300, vision.mean, vision.std))[None]
    stages = tower.stages(pixels)
    assert stages.objects_BKD is not None
    assert classes_of(stages.objects_BKD[0].numpy())[0] == "cat"
    features_ND = stages.features_BND[0]
    assert features_ND.shape == (tower.tokens, tower.width) == (25, 2378)
    assert not features_ND[:15, 2280:].any() and not features_ND[15:, :2280].any()
    assert features_ND[15:17].nonzero().tolist() == [[0, 2376], [1, 2377]]
    torch.testing.assert_close(features_ND[17:, tower.object_columns][:, :96], stages.objects_BKD[0])
    # The reduced pixels are nearly those that the tower is given without a detector.
    own = before.encode(torch.from_numpy(to_pixels(image, 260, vision.mean, vision.std))[None])[0]
    assert (features_ND[:5, 1280:2280] - own[:5, 1280:]).abs().max() < 0.1
    assert tower.named_columns[2280] == "person"
    assert [tower.object_names, tower.prompt_columns] == [slice(2280, 2360), slice(2376, 2378)]
    assert tower.object_counts == slice(2369, 2374)
    boxes_BK6 = tower.object_boxes(pixels)
    assert boxes_BK6.shape == (1, 4, 6)
    places_K5 = features_ND[17::2, 2280:].numpy()[:, PLACE_COLUMNS]
    np.testing.assert_allclose(boxes_BK6[0, :, 4] - boxes_BK6[0, :, 2], places_K5[:, 2], atol=1e-6)
    assert found_objects(boxes_BK6[0])[0].name == "cat"
    assert before.object_boxes(pixels).shape == (1, 0, 6)
    for flat in (torch.zeros(1, 3, 300, 300), torch.ones(1, 3, 300, 300)):
        assert found_objects(tower.object_boxes(flat)[0]) == [], "a picture of one color"


def test_a_missing_graph_is_named_with_the_command_that_fetches_it(seeing: Bundle) -> None:
    assert seeing.objects is not None
    elsewhere = replace(seeing, objects=replace(seeing.objects, file=File("none.pb", 1, "0" * 64)))
    with pytest.raises(BundleError, match=r"none\.pb is not here; fetch it with `minigpt4 models pull mini`"):
        load_tower(elsewhere)


def test_a_detector_changes_the_fingerprint_and_so_do_its_settings(
    seeing: Bundle, mini_without_detector: Bundle
) -> None:
    assert seeing.objects is not None
    changed = [
        mini_without_detector,
        seeing,
        replace(seeing, objects=replace(seeing.objects, limit=5)),
        replace(seeing, objects=replace(seeing.objects, min_score=0.2)),
        replace(seeing, objects=replace(seeing.objects, soft_prompt=3)),
    ]
    assert len({tower_fingerprint(bundle) for bundle in changed}) == 5


def test_the_detector_counts_in_the_memory_that_is_needed(
    seeing: Bundle, mini_without_detector: Bundle
) -> None:
    assert memory_needed(seeing, "fp32")["detector"] == 67_272_828
    assert "detector" not in memory_needed(mini_without_detector, "fp32")


def test_a_detector_needs_its_own_pixels_and_the_tower_that_it_stands_beside(seeing: Bundle) -> None:
    smaller = replace(seeing, vision=replace(seeing.vision, image_size=260))
    assert (
        "vision.image_size",
        "is 260, but the detector of 'objects' reads 300",
    ) in smaller.contradictions()
    other = replace(seeing, vision=replace(seeing.vision, architecture="eva-vit-g"))
    assert [key for key, _ in other.contradictions()] == ["objects"]


def test_an_earlier_projection_is_named_as_such_with_the_bundle_that_takes_it(
    mini_without_detector: Bundle, mini: Bundle
) -> None:
    earlier, own = mini_without_detector.projection.path, mini.projection.path
    assert earlier is not None and own is not None
    with pytest.raises(BundleError, match=r"trained for mini before .* `--bundle mini-without-detector`, or"):
        load_projection(earlier, 2385, 576)
    with pytest.raises(
        BundleError, match=r"trained for mini with its detector .*use it with `--bundle mini`"
    ):
        load_projection(own, 2280, 576)
