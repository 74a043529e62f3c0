"""Pictures keep their shape in any room, and are drawn in cells with colour or without."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from minigpt4.tui.images.half_blocks import dots, fit, half_blocks
from minigpt4.tui.images.terminal_protocol import CellSize

CELL = CellSize(10, 20)
SIDE = st.integers(0, 10_000)
ROOM = st.integers(-1, 300)


@given(SIDE, SIDE, ROOM, ROOM)
def test_a_picture_never_leaves_its_room(width: int, height: int, columns: int, rows: int) -> None:
    wide, high = fit((width, height), columns, rows, CELL)
    assert 0 <= wide <= max(columns, 0)
    assert 0 <= high <= max(rows, 0)
    assert (wide, high) == (0, 0) or min(wide, high) >= 1


def test_a_picture_keeps_its_shape() -> None:
    assert fit((100, 100), 24, 10, CELL) == (20, 10)
    assert fit((640, 320), 24, 10, CELL) == (24, 6)
    assert fit((100, 100), 24, 10, CellSize(10, 10)) == (10, 10)


def test_half_blocks_hold_two_pixels_a_cell() -> None:
    image = Image.new("RGB", (4, 4), (255, 0, 0))
    image.paste((0, 0, 255), (0, 2, 4, 4))
    lines = half_blocks(image, 4, 2)
    assert [line.text for line in lines] == ["▀▀▀▀", "▀▀▀▀"]
    first, last = (next(iter(line)).style for line in lines)
    assert first is not None and first.color is not None and first.bgcolor is not None
    assert last is not None and last.color is not None and last.bgcolor is not None
    assert first.color.triplet and first.color.triplet.red > 200
    assert last.bgcolor.triplet and last.bgcolor.triplet.blue > 200


def test_dots_hold_no_colour_and_follow_the_ground() -> None:
    image = Image.new("RGB", (8, 8), "black")
    image.paste((255, 255, 255), (0, 0, 4, 8))
    on_dark = [line.text for line in dots(image, 4, 2, dark=True)]
    on_light = [line.text for line in dots(image, 4, 2, dark=False)]
    assert on_dark == ["⣿⣿⠀⠀"] * 2
    assert on_light == ["⠀⠀⣿⣿"] * 2
    assert all(segment.style is None for line in dots(image, 4, 2, dark=True) for segment in line)
