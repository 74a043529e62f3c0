"""Inspection: every photo is opened and counted, faults are named, duplicates are found."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import pytest
from PIL import Image

from minigpt4.train.data.dataset import PhotoError
from minigpt4.train.events import PhotoSkipped
from minigpt4.train.inspection.caption_lengths import CaptionLengths
from minigpt4.train.inspection.inspection import Group, Inspection, inspect_photos

WORDS = CaptionLengths("raw", "words", 3, lambda text: len(text.split()))


@dataclass(frozen=True)
class FakeSet:
    """Photos in memory: key, content (None: it cannot be read) and captions."""

    name: str
    photos: tuple[tuple[str, bytes | None, tuple[str, ...]], ...]
    fingerprint: str = ""

    def __len__(self) -> int:
        return len(self.photos)

    def key(self, place: int) -> str:
        return self.photos[place][0]

    def meta(self, place: int) -> Mapping[str, Any]:
        if not self.photos[place][2]:
            raise PhotoError(self.name, self.key(place), "no caption")
        return {"captions": list(self.photos[place][2])}

    def read(self, place: int) -> bytes:
        content = self.photos[place][1]
        if content is None:
            raise PhotoError(self.name, self.key(place), "it was deleted")
        return content


def noise(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Soft blotches, other ones for every seed."""
    values = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(values).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, format_: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def sets() -> list[FakeSet]:
    one = encoded(noise(1))
    mine = (
        ("a", one, ("a dog", "a brown dog runs")),
        ("broken", one[:60], ("a cat",)),
        ("a copy", one, ("a dog",)),
        ("text", b"no picture", ("a cat",)),
        ("white", encoded(Image.new("L", (20, 90), "white")), ("nothing to see",)),
        ("gone", None, ("a cat",)),
        ("mute", encoded(noise(7)), ()),
        ("black", encoded(Image.new("L", (20, 20))), ("nothing to see",)),
    )
    yours = (
        ("smaller", encoded(noise(1).resize((80, 60)), "JPEG", quality=60), ("a dog that runs far",)),
        ("other", encoded(noise(2), "GIF", save_all=True, append_images=[noise(3)]), ("a horse",)),
        ("a again", one, ("a dog",)),
    )
    return [FakeSet("mine", mine), FakeSet("yours", yours)]


@pytest.fixture(scope="module")
def found(sets: list[FakeSet]) -> Inspection:
    return inspect_photos(sets, WORDS, skipped=[PhotoSkipped("mine", "x", "no photo")])


def keys(group: Group, sets: list[FakeSet]) -> list[str]:
    return [sets[place.set].key(place.photo) for place in group]


def test_unusable_photos_are_named_with_the_reason(found: Inspection) -> None:
    reasons = {one.key: one.reason for one in found.skipped}
    assert set(reasons) == {"x", "broken", "text", "gone", "mute"}
    assert reasons["gone"] == "it was deleted"
    assert reasons["mute"] == "no caption"
    assert "damaged or cut off" in reasons["broken"]
    assert "not a picture" in reasons["text"]
    assert found.skipped_fraction == pytest.approx(5 / 12)


def test_usable_photos_are_counted_by_set(found: Inspection) -> None:
    assert [(one.name, one.photos, one.captions) for one in found.sets] == [("mine", 4, 5), ("yours", 3, 3)]
    assert found.photos == 7
    assert found.captions == 8


def test_lengths_are_counted(found: Inspection) -> None:
    assert found.lengths == {2: 4, 3: 2, 4: 1, 5: 1}
    assert found.captions_per_photo == {1: 6, 2: 1}


def test_sizes_formats_and_modes_are_those_of_the_files(found: Inspection) -> None:
    assert found.sizes.tolist()[:3] == [[160, 120], [160, 120], [20, 90]]
    assert found.formats == {"PNG": 5, "JPEG": 1, "GIF": 1}
    assert found.modes == {"RGB": 5, "L": 2} or found.modes == {"RGB": 4, "L": 2, "P": 1}
    assert found.animated == 1
    assert found.smaller_than(61) == 3
    assert found.long_shapes == 1


def test_duplicates_are_found_within_and_across_sets(found: Inspection, sets: list[FakeSet]) -> None:
    assert [keys(group, sets) for group in found.same_file] == [["a", "a copy", "a again"]]
    assert [keys(group, sets) for group in found.look_alike] == [["a", "a copy", "smaller", "a again"]]
    assert len(found.in_several_sets) == 2


def test_pictures_of_one_colour_are_no_duplicates_of_each_other(
    found: Inspection, sets: list[FakeSet]
) -> None:
    assert keys(found.flat, sets) == ["white", "black"]


def test_a_photo_without_a_caption_in_the_recipes_form_is_unlearnt(sets: list[FakeSet]) -> None:
    strict = CaptionLengths("written", "words", 0, lambda text: len(text.split()))
    assert inspect_photos(sets[:1], strict).unlearnt == 1


def test_the_result_does_not_depend_on_the_number_of_workers(sets: list[FakeSet]) -> None:
    counted = count()
    results = [
        inspect_photos(sets, WORDS, workers=workers, advance=lambda: next(counted)) for workers in (1, 3)
    ]
    assert results[0].skipped == results[1].skipped
    assert results[0].table.tobytes() == results[1].table.tobytes()
    assert results[0].look_alike == results[1].look_alike
    assert next(counted) == 2 * 11


def test_a_set_without_usable_photos_gives_zeros() -> None:
    found = inspect_photos([FakeSet("none", (("a", None, ("b",)),))], WORDS)
    assert (found.photos, found.captions, found.long_shapes, found.smaller_than(9)) == (0, 0, 0, 0)
    assert (found.same_file, found.look_alike) == ((), ())
