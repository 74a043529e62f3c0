"""A cell of four or six parts has the two colors and the pattern with the least error."""

from __future__ import annotations

import itertools
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from minigpt4.tui.images.block_fit import QUADRANTS, SEXTANTS, Blocks, fitted
from minigpt4.tui.images.drawing import DrawRequest, View, draw
from minigpt4.tui.images.mosaic import mosaic
from minigpt4.tui.images.terminal_protocol import CellSize

COLOR = st.tuples(*[st.integers(0, 255)] * 3)


def cell(*colors: tuple[int, int, int]) -> Image.Image:
    """An image of one cell, its parts in the order of reading."""
    image = Image.new("RGB", (2, len(colors) // 2))
    image.putdata(colors)
    return image


def squared_error(parts: np.ndarray, pattern: int, front: np.ndarray, back: np.ndarray) -> float:
    is_filled = pattern >> np.arange(len(parts)) & 1
    return float(((parts - np.where(is_filled[:, None], front, back)) ** 2).sum())


@pytest.mark.parametrize("blocks", [QUADRANTS, SEXTANTS])
@given(st.data())
def test_no_other_pattern_of_a_cell_has_a_smaller_error(blocks: Blocks, data: st.DataObject) -> None:
    count = blocks.across * blocks.down
    colors = data.draw(st.lists(COLOR, min_size=count, max_size=count))
    (pattern,), (front,), (back,) = fitted(cell(*colors), 1, 1, blocks)
    parts = np.array(colors, float)
    error = squared_error(parts, int(pattern), front.astype(float), back.astype(float))
    for filled in itertools.product((False, True), repeat=count):
        mask = np.array(filled)
        best = sum(((one - one.mean(0)) ** 2).sum() for one in (parts[mask], parts[~mask]) if len(one))
        # A color is rounded to whole numbers, by at most a half for each part and channel.
        assert error <= best + count * 3 * 0.25 + 1e-2


@pytest.mark.parametrize(
    ("corners", "letter"),
    [("#...", "▘"), (".#..", "▝"), ("..#.", "▖"), ("...#", "▗"), ("##..", "▀"), ("#.#.", "▌"), ("#..#", "▚")],
)
def test_the_character_fills_the_parts_that_it_stands_for(corners: str, letter: str) -> None:
    red, blue = (255, 0, 0), (0, 0, 255)
    (strip,) = mosaic(cell(*(red if one == "#" else blue for one in corners)), 1, 1)
    inverse = QUADRANTS.letters[15 - QUADRANTS.letters.index(letter)]
    assert strip.text in (letter, inverse)
    (segment,) = strip
    assert segment.style is not None and segment.style.color is not None and segment.style.bgcolor is not None
    colors = (segment.style.color.triplet, segment.style.bgcolor.triplet)
    assert colors == ((red, blue) if strip.text == letter else (blue, red))


def test_sextants_are_those_of_unicode() -> None:
    assert len(set(SEXTANTS.letters)) == 64
    assert SEXTANTS.letters[0b000001] == "\N{BLOCK SEXTANT-1}"
    assert SEXTANTS.letters[0b010100] == "\N{BLOCK SEXTANT-35}"
    assert SEXTANTS.letters[0b010101] == "\N{LEFT HALF BLOCK}"
    assert SEXTANTS.letters[0b101010] == "\N{RIGHT HALF BLOCK}"
    assert SEXTANTS.letters[0b111110] == "\N{BLOCK SEXTANT-23456}"
    assert SEXTANTS.letters[0b111111] == "\N{FULL BLOCK}"


def test_a_flat_area_is_one_segment_a_line() -> None:
    for strip in mosaic(Image.new("RGB", (60, 40), (10, 20, 30)), 30, 10):
        assert strip.cell_length == 30
        assert len(list(strip)) == 1


@pytest.mark.parametrize(
    ("protocol", "letters"), [("quadrant", QUADRANTS.letters), ("sextant", SEXTANTS.letters)]
)
@pytest.mark.parametrize("colors", ["truecolor", "256"])
def test_what_a_paint_needs_is_computed_with_the_drawing(protocol: str, letters: str, colors: str) -> None:
    out = BytesIO()
    Image.effect_noise((300, 200), 80).convert("RGB").save(out, "PNG")
    drawing = draw(DrawRequest(View(out.getvalue()), 60, 20, protocol, CellSize(10, 20), colors, True))  # type: ignore[arg-type]
    styles = [style for strip in drawing.cells for _, style, _ in strip]
    assert all(style is not None and style._ansi for style in styles)
    assert set("".join(strip.text for strip in drawing.cells)) <= set(letters)
    is_true = all(style._ansi.startswith("38;2;") for style in styles if style is not None and style._ansi)
    assert is_true == (colors == "truecolor")
