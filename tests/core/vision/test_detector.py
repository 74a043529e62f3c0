"""The detector: the same objects as OpenCV's reader of the same graph finds in the same pixels."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from minigpt4.core.errors import BundleError
from minigpt4.core.pixels import Picture, open_picture, to_pixels
from minigpt4.core.vision.coco_classes import NAMES
from minigpt4.core.vision.detections import (
    MAX_OBJECTS,
    MAX_OVERLAP,
    Detections,
    anchor_boxes,
    detections_of,
    merge_flipped,
    overlaps,
)
from minigpt4.core.vision.detector import Detector, convert_graph, load_detector
from minigpt4.core.vision.ssd import ANCHORS, IMAGE_SIZE, SSDMobileNetV2
from minigpt4.core.weights.graph_def import read_constants

GRAPH = "ssd_mobilenet_v2_coco_2018_03_29.pb"
GOLDEN = Path(__file__).parents[2] / "golden" / "detector" / "objects.json"
PHOTOS = Path(__file__).parents[4] / "shared" / "data" / "coco80" / "00000.tar"
SCORE_TOLERANCE, BOX_TOLERANCE = 1e-3, 2 / 300

Row = Sequence[float]
"""Class, score, top, left, bottom, right."""


@pytest.fixture(scope="session")
def graph(mini_home: Path) -> Path:
    """TensorFlow's graph of the detector."""
    return mini_home / "data" / "bundles" / "mini" / GRAPH


@pytest.fixture(scope="session")
def detector(graph: Path, tmp_path_factory: pytest.TempPathFactory) -> Detector:
    path = tmp_path_factory.mktemp("detector") / "detector.safetensors"
    convert_graph(graph, path)
    return load_detector(path)


def test_the_example_photos_hold_what_opencv_finds(detector: Detector, examples: Path) -> None:
    paths = [path for path in sorted(examples.iterdir()) if path.suffix in {".png", ".jpg"}]
    assert _compared(detector, [path.read_bytes() for path in paths]) == 4


def test_twenty_photos_hold_what_opencv_finds(detector: Detector) -> None:
    if not PHOTOS.is_file():
        pytest.skip("the photos are not beside this checkout")
    with tarfile.open(PHOTOS) as archive:
        names = sorted(name for name in archive.getnames() if name.endswith(".jpg"))[:20]
        files = [archive.extractfile(name) for name in names]
        assert _compared(detector, [file.read() for file in files if file]) == 20


def test_the_anchors_are_those_of_the_graph(graph: Path) -> None:
    constants = read_constants(graph)
    anchors_A4 = anchor_boxes()
    assert anchors_A4.shape == (ANCHORS, 4)
    last_cells = np.cumsum([19**2 * 3, 10**2 * 6, 5**2 * 6, 3**2 * 6, 2**2 * 6, 6])
    for index, end in enumerate(last_cells):
        root = "MultipleGridAnchorGenerator"
        scales = constants[f"{root}/mul_{15 + 8 * index}/x"]
        roots = np.sqrt(constants[f"{root}/Sqrt{f'_{index}' if index else ''}/x"])
        sizes = np.stack([scales / roots, scales * roots], 1)
        np.testing.assert_allclose(anchors_A4[end - len(sizes) : end, 2:], sizes, rtol=1e-6)


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGB", (300, 300), "white"),
        Image.new("L", (1, 1), 77),
        Image.new("CMYK", (7, 900)),
        Image.new("1", (900, 7)),
    ],
    ids=["one color", "one pixel", "tall", "wide"],
)
def test_a_picture_without_an_object_has_none(detector: Detector, image: Image.Image) -> None:
    (found,) = detector(_pixels(open_picture(image)), min_score=0.5)
    assert len(found) == 0 and found.names == []
    assert found.boxes_K4.shape == (0, 4) and found.probabilities_KC.shape == (0, 90)


def test_a_picture_gives_the_same_objects_alone_and_in_a_batch(detector: Detector, examples: Path) -> None:
    pictures = torch.cat([_pixels(open_picture(examples / name)) for name in ("coffee.jpg", "chelsea.png")])
    for together, pixels_CHW in zip(detector(pictures), pictures, strict=True):
        (alone,) = detector(pixels_CHW[None])
        assert alone.names == together.names
        np.testing.assert_allclose(alone.boxes_K4, together.boxes_K4, atol=1e-4)


def test_the_same_object_is_found_once_and_two_apart_twice() -> None:
    anchors_A4 = anchor_boxes()
    offsets_A4, scores_AC = _nothing()
    first, far = 0, 19**2 * 3 - 3
    scores_AC[first, 16] = 0.9
    scores_AC[far, 16] = 0.8
    near = first + 1
    offsets_A4[near, 2:] = 5 * np.log(anchors_A4[first, 2:] / anchors_A4[near, 2:])
    scores_AC[near, 16] = 0.7
    scores_AC[near, 17] = 0.6
    found = detections_of(offsets_A4, scores_AC)
    assert found.names == ["cat", "cat", "dog"]
    assert found.scores_K.tolist() == pytest.approx([0.9, 0.8, 0.6])
    assert (found.boxes_K4 >= 0).all() and (found.boxes_K4 <= 1).all()
    assert found.probabilities_KC[2, 16] == pytest.approx(0.7)


def test_a_mirrored_picture_has_the_same_objects_mirrored(detector: Detector, examples: Path) -> None:
    pictures = torch.cat([_pixels(open_picture(examples / name)) for name in ("coffee.jpg", "chelsea.png")])
    pairs = zip(
        detector.with_flip(pictures, min_score=0.15),
        detector.with_flip(pictures.flip(-1), min_score=0.15),
        strict=True,
    )
    for found, mirrored in pairs:
        assert found.names == mirrored.names and len(found)
        np.testing.assert_allclose(found.scores_K, mirrored.scores_K, atol=1e-4)
        np.testing.assert_allclose(found.boxes_K4[:, 1], 1 - mirrored.boxes_K4[:, 3], atol=1e-4)
        np.testing.assert_allclose(found.boxes_K4[:, [0, 2]], mirrored.boxes_K4[:, [0, 2]], atol=1e-4)


def test_what_only_the_mirror_shows_is_added_and_what_both_show_is_there_once() -> None:
    def objects(*rows: tuple[int, float, tuple[float, float, float, float]]) -> Detections:
        numbers, scores, boxes = zip(*rows, strict=True)
        return Detections(
            np.array(boxes, np.float32),
            np.array(numbers, np.int64),
            np.array(scores, np.float32),
            np.zeros((len(rows), 90), np.float32),
        )

    cat, dog = 17, 18
    found = objects((cat, 0.6, (0.1, 0.1, 0.5, 0.4)), (dog, 0.3, (0.5, 0.6, 0.9, 0.9)))
    mirrored = objects((cat, 0.9, (0.1, 0.58, 0.5, 0.9)), (cat, 0.2, (0.6, 0.0, 0.9, 0.3)))
    together = merge_flipped(found, mirrored)
    assert together.names == ["cat", "dog", "cat"]
    assert together.scores_K.tolist() == pytest.approx([0.9, 0.3, 0.2])
    assert together.boxes_K4[0].tolist() == pytest.approx([0.1, 0.1, 0.5, 0.42])
    assert together.boxes_K4[2].tolist() == pytest.approx([0.6, 0.7, 0.9, 1.0])


def test_no_picture_has_more_than_a_hundred_objects() -> None:
    offsets_A4, scores_AC = _nothing()
    scores_AC[0 : 19**2 * 3 : 3, 0] = 0.9
    found = detections_of(offsets_A4, scores_AC)
    assert len(found) == MAX_OBJECTS == 100


def test_another_graph_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pb"
    path.write_bytes(b"\x0a\x03\x0a\x01x")
    with pytest.raises(
        BundleError, match=r"is not SSD with MobileNetV2 for COCO: it has no '.*Conv/weights'"
    ):
        convert_graph(path, tmp_path / "detector.safetensors")
    assert [file.name for file in tmp_path.iterdir()] == ["other.pb"]


def test_a_damaged_detector_is_named(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "detector.safetensors"
    save_file({"stem.weight": torch.zeros(1)}, path)
    with pytest.raises(BundleError, match=r"detector's file .* is damaged"):
        load_detector(path)
    path.write_bytes(b"\0" * 100)
    with pytest.raises(BundleError, match="detector's file"):
        load_detector(path)


def test_coco_has_eighty_names_under_ninety_numbers() -> None:
    assert len(NAMES) == 80 == len(set(NAMES.values()))
    assert (NAMES[1], NAMES[44], NAMES[65], NAMES[90]) == ("person", "bottle", "bed", "toothbrush")


def test_the_network_has_the_parameters_of_the_original() -> None:
    with torch.device("meta"):
        network = SSDMobileNetV2()
    # The graph has 16,876,865: four to a channel of batch norm, where one bias is left, and its options.
    assert sum(parameter.numel() for parameter in network.parameters()) == 16_818_207


def _pixels(picture: Picture) -> torch.Tensor:
    return torch.from_numpy(to_pixels(picture.image, IMAGE_SIZE, (0, 0, 0), (1, 1, 1)))[None]


def _nothing() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((ANCHORS, 4), np.float32), np.zeros((ANCHORS, 90), np.float32)


def _compared(detector: Detector, pictures: Sequence[bytes]) -> int:
    golden = json.loads(GOLDEN.read_text())
    for data in pictures:
        picture = open_picture(data)
        (found,) = detector(_pixels(picture), min_score=0.3)
        _check_equal(list(_rows(found)), _clipped(row for row in golden[picture.digest] if row[1] > 0.3))
    return len(pictures)


def _clipped(rows: Iterable[Row]) -> list[Row]:
    """OpenCV's objects as the graph has them, which clips boxes to the picture before it compares them."""
    kept: list[Row] = []
    for number, score, *box in rows:
        row = [number, score, *np.clip(box, 0, 1).tolist()]
        better = np.array([other[2:] for other in kept if other[0] == number], np.float32).reshape(-1, 4)
        if not (overlaps(np.array(row[2:], np.float32), better) > MAX_OVERLAP).any():
            kept.append(row)
    return kept


def _rows(found: Detections) -> Iterator[Row]:
    for number, score, box in zip(found.classes_K, found.scores_K, found.boxes_K4, strict=True):
        yield [int(number), float(score), *map(float, box)]


def _check_equal(found: list[Row], wanted: list[Row]) -> None:
    """Each wanted object is found once, and nothing else is."""
    assert [row[0] for row in found] == [row[0] for row in wanted]
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours[1] == pytest.approx(theirs[1], abs=SCORE_TOLERANCE)
        np.testing.assert_allclose(ours[2:], theirs[2:], atol=BOX_TOLERANCE)
