"""Cells show the dots or characters of the highest layer drawn in them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from minigpt4.tui.watch.braille_canvas import Canvas


def text(canvas: Canvas[tuple[int]]) -> list[str]:
    return ["".join(part for part, _ in canvas.line(row)) for row in range(canvas.rows)]


def test_dots_become_braille_letters() -> None:
    canvas = Canvas[tuple[int]](2, 1)
    canvas.dot(0, 0, (0,))
    canvas.dot(1, 3, (0,))
    canvas.dot(2, 2, (0,))
    assert text(canvas) == ["⢁⠄"]


def test_a_higher_layer_erases_lower_ones_in_its_cells_only() -> None:
    canvas = Canvas[tuple[int]](2, 1)
    for x in range(4):
        canvas.vertical(x, 0, 3, (1,))
    canvas.dot(0, 0, (2,))
    canvas.dot(1, 1, (1,))
    assert list(canvas.line(0)) == [("⠁", (2,)), ("⣿", (1,))]


def test_a_character_replaces_the_dots_of_its_cell() -> None:
    canvas = Canvas[tuple[int]](3, 1)
    canvas.dot(2, 0, (0,))
    canvas.character(1, 0, "◆", (1,))
    canvas.character(1, 0, "x", (0,))
    assert list(canvas.line(0)) == [(" ", None), ("◆", (1,)), (" ", None)]


points = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), min_size=1, max_size=8)


@given(points)
def test_a_path_has_no_gaps(corners: list[tuple[int, int]]) -> None:
    canvas, drawn = Canvas[tuple[int]](10, 5), set[tuple[int, int]]()
    canvas.dot = lambda x, y, layer: drawn.add((x, y))  # type: ignore[method-assign]
    corners.sort(key=lambda point: point[0])
    canvas.path(corners, (0,))
    assert set(corners) <= drawn
    left = {min(drawn)}
    reached = set[tuple[int, int]]()
    while left:
        x, y = left.pop()
        reached.add((x, y))
        left |= {(x + a, y + b) for a in (-1, 0, 1) for b in (-1, 0, 1)} & drawn - reached
    assert reached == drawn


@given(st.integers(-50, 50), st.integers(-50, 50))
def test_drawing_outside_is_ignored(x: int, y: int) -> None:
    canvas = Canvas[tuple[int]](3, 2)
    canvas.dot(x, y, (0,))
    canvas.character(x, y, "x", (0,))
    assert [len(line) for line in text(canvas)] == [3, 3]
