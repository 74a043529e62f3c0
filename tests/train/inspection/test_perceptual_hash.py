"""Perceptual hash: stable when a picture is saved again; groups up to NEAR bits apart, and no further."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from minigpt4.train.inspection.perceptual_hash import (
    BANDS,
    NEAR,
    equal_groups,
    perceptual_hash,
    similar_groups,
)


@pytest.fixture(scope="module")
def photos(examples: Path) -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in sorted(examples.glob("*.[jp][pn]g"))]


def saved_again(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=30)
    return Image.open(file)


@pytest.mark.parametrize(
    "change",
    [
        saved_again,
        lambda image: image.resize((image.width // 3, image.height // 3)),
        lambda image: image.resize((224, 224)),
        lambda image: image.convert("L"),
        lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    ],
    ids=["saved again", "smaller", "squashed", "grey", "brighter"],
)
def test_a_picture_is_recognised_in_another_form(
    photos: list[Image.Image], change: Callable[[Image.Image], Image.Image]
) -> None:
    for photo in photos:
        first, second = perceptual_hash(photo), perceptual_hash(change(photo))
        assert first is not None
        assert second is not None
        assert (first ^ second).bit_count() <= NEAR


def test_different_photographs_are_not_similar(photos: list[Image.Image]) -> None:
    hashes = [hashed for photo in photos if (hashed := perceptual_hash(photo)) is not None]
    assert len(hashes) > 3
    assert similar_groups(np.array(hashes, np.uint64)) == []


@pytest.mark.parametrize("colour", ["white", "black", "#123456"])
def test_a_picture_of_one_colour_has_no_hash(colour: str) -> None:
    assert perceptual_hash(Image.new("RGB", (40, 30), colour)) is None


def test_the_bands_cover_every_bit_once() -> None:
    assert [first for first, _ in BANDS] == [0, 22, 43]
    assert sum(width for _, width in BANDS) == 64
    assert 2 * len(BANDS) > NEAR


def brute_force_groups(hashes: list[int]) -> list[list[int]]:
    """Connected indices, by comparing all pairs."""
    group = list(range(len(hashes)))
    for one in range(len(hashes)):
        for other in range(one):
            if (hashes[one] ^ hashes[other]).bit_count() <= NEAR:
                low, high = sorted((group[one], group[other]))
                group = [low if place == high else place for place in group]
    members = [[place for place in range(len(hashes)) if group[place] == name] for name in sorted(set(group))]
    return [places for places in members if len(places) > 1]


@given(
    st.lists(st.integers(0, 2**64 - 1), max_size=6),
    st.lists(st.tuples(st.integers(0, 5), st.sets(st.integers(0, 63), max_size=8)), max_size=12),
)
def test_the_groups_are_those_of_brute_force(hashes: list[int], changes: list[tuple[int, set[int]]]) -> None:
    for origin, bits in changes:
        if origin < len(hashes):
            hashes.append(hashes[origin] ^ sum(1 << bit for bit in bits))
    found = [group.tolist() for group in similar_groups(np.array(hashes, np.uint64))]
    assert found == brute_force_groups(hashes)


@given(st.lists(st.integers(0, 5)))
def test_equal_values_are_grouped_in_order(values: list[int]) -> None:
    found = [group.tolist() for group in equal_groups(np.array(values, np.uint64))]
    wanted = [
        [place for place, other in enumerate(values) if other == value] for value in dict.fromkeys(values)
    ]
    assert found == [group for group in wanted if len(group) > 1]
