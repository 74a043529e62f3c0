"""Boxes and names of objects over a picture, whatever the picture is and however many there are."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from minigpt4.core.types import FoundObject
from minigpt4.tui.images.boxes import DISTINCT, labelled, object_list, with_boxes
from minigpt4.tui.images.drawing import DrawRequest, View, draw
from minigpt4.tui.images.half_blocks import half_blocks
from minigpt4.tui.images.terminal_protocol import CellSize, Protocol
from minigpt4.tui.textual_theme import contrast

DOG = FoundObject("dog", 0.931, (0.25, 0.25, 0.75, 0.75))
PERSON = FoundObject("person", 0.81, (0.0, 0.0, 1.0, 1.0))


def crowd(count: int) -> list[FoundObject]:
    boxes = np.random.default_rng(0).random((count, 2)) * 0.9
    return [FoundObject("person", 0.5, (x, y, x + 0.1, y + 0.1)) for x, y in boxes.tolist()]


@given(st.tuples(*[st.integers(0, 255)] * 3), st.integers(1, 12))
def test_every_box_stands_out_from_a_picture_of_one_color(color: tuple[int, int, int], count: int) -> None:
    boxes = [FoundObject("cat", 0.5, (0.1 * at, 0.0, 0.1 * at + 0.05, 0.9)) for at in range(min(count, 9))]
    drawn, _ = with_boxes(Image.new("RGB", (30, 30), color), boxes, (60, 30), (1, 2))
    colors = {one for _, one in drawn.getcolors() or []} - {color}
    assert colors
    for one in colors:
        assert contrast(one, color) >= DISTINCT - 0.01


def test_boxes_have_colors_of_their_own_as_long_as_there_are_enough() -> None:
    boxes = [FoundObject("cat", 0.5, (0.2 * at, 0.2, 0.2 * at + 0.1, 0.8)) for at in range(5)]
    _, labels = with_boxes(Image.new("RGB", (30, 30), (20, 20, 20)), boxes, (60, 30), (1, 2))
    assert len({label.color for label in labels}) == 5


def test_a_box_is_where_its_object_is() -> None:
    drawn, _ = with_boxes(Image.new("RGB", (300, 300)), [DOG], (40, 20), (1, 2))
    across, down = np.nonzero(np.asarray(drawn).any(2))[::-1]
    assert (across.min(), across.max(), down.min(), down.max()) == (10, 30, 10, 30)
    assert not np.asarray(drawn)[11:30, 11:30].any(), "only the line is drawn"


def test_the_names_are_text_above_their_boxes() -> None:
    image = Image.new("RGB", (300, 300), (9, 9, 9))
    drawn, labels = with_boxes(image, [DOG, PERSON], (40, 20), (1, 2))
    lines = [strip.text for strip in labelled(half_blocks(drawn, 40, 20), labels)]
    assert lines[4][10:15] == " dog " and lines[0][:8] == " person "
    assert {len(line) for line in lines} == {40}


def test_a_name_at_the_right_edge_stays_inside_the_picture() -> None:
    corner = FoundObject("traffic light", 0.5, (0.95, 0.5, 1.0, 0.6))
    for columns, name in ((40, " traffic light "), (6, " traff")):
        drawn, labels = with_boxes(Image.new("RGB", (9, 9)), [corner], (columns, 20), (1, 2))
        lines = [strip.text for strip in labelled(half_blocks(drawn, columns, 20), labels)]
        assert sum(line.endswith(name) for line in lines) == 1


def test_of_200_objects_no_two_names_overlap() -> None:
    _, labels = with_boxes(Image.new("RGB", (300, 300)), crowd(200), (40, 20), (1, 2))
    cells = [(one.row, one.column + step) for one in labels for step in range(len(one.text))]
    assert len(labels) > 20
    assert len(cells) == len(set(cells))
    assert all(0 <= row < 20 and 0 <= column < 40 for row, column in cells)


@pytest.mark.parametrize("protocol", ["halfblock", "quadrant", "sextant", "kitty", "sixel"])
@pytest.mark.parametrize("colors", ["truecolor", None])
@pytest.mark.parametrize("size", [(1, 1), (640, 480)])
def test_all_terminals_draw_them(protocol: Protocol, colors: str | None, size: tuple[int, int]) -> None:
    out = BytesIO()
    Image.new("RGB", size, (200, 200, 200)).save(out, "PNG")

    def drawn(*objects: FoundObject) -> tuple[list[str], object]:
        view = View(out.getvalue(), "mini", objects)
        drawing = draw(DrawRequest(view, 40, 20, protocol, CellSize(10, 20), colors, True))
        pixels = [strip.text for strip in drawing.pixels or []] if protocol == "sixel" else drawing.send
        return [strip.text for strip in drawing.cells], pixels

    without, with_dog = drawn(), drawn(DOG)
    assert any(" dog " in line for line in with_dog[0])
    assert with_dog[0] != without[0]
    if protocol in ("kitty", "sixel") and colors is not None:
        assert with_dog[1] != without[1]
    assert [len(line) for line in drawn(*crowd(200))[0]] == [40] * 20


def test_the_list_says_how_many_do_not_fit() -> None:
    assert object_list([DOG, PERSON], 76) == "dog 0.93 · person 0.81"
    text = object_list(crowd(200), 76)
    lines = text.splitlines()
    assert len(lines) == 2 and max(map(len, lines)) <= 76
    shown = text.count("person")
    assert shown > 5 and text.endswith(f" · and {200 - shown} more")
    assert object_list([], 76) == ""
