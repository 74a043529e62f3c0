"""A grid of cells that show Braille dots (eight a cell) or characters, one layer a cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from minigpt4.tui.images.half_blocks import BRAILLE, DOTS

DOTS_X, DOTS_Y = 2, 4
"""Dots of a cell."""

_BIT = {(x, y): bit for x, y, bit in DOTS}


@dataclass(frozen=True)
class Span:
    """Consecutive characters of one layer; layer -1 is empty."""

    text: str
    layer: int


class Canvas:
    """A cell shows only the highest layer that was drawn in it, as it can have only one color.

    This clears a margin around lines, which keeps them visible over what is below.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self._bits = [0] * (columns * rows)
        self._characters = [""] * (columns * rows)
        self._layers = [-1] * (columns * rows)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in dots."""
        return self.columns * DOTS_X, self.rows * DOTS_Y

    def dot(self, x: int, y: int, layer: int) -> None:
        """Draw a dot, counted from the top left; dots outside the canvas are ignored."""
        column, row = x // DOTS_X, y // DOTS_Y
        if self._raise_to(column, row, layer):
            self._bits[row * self.columns + column] |= _BIT[x % DOTS_X, y % DOTS_Y]

    def vertical(self, x: int, top: int, bottom: int, layer: int) -> None:
        """Draw a vertical line, both ends included."""
        for y in range(max(top, 0), min(bottom, self.rows * DOTS_Y - 1) + 1):
            self.dot(x, y, layer)

    def path(self, points: Sequence[tuple[int, int]], layer: int) -> None:
        """Draw straight lines between consecutive points, which go from left to right."""
        for x, y in points[:1]:
            self.dot(x, y, layer)
        for (x, y), (next_x, next_y) in pairwise(points):
            steps = max(next_x - x, abs(next_y - y), 1)
            for step in range(1, steps + 1):
                fraction = step / steps
                self.dot(round(x + fraction * (next_x - x)), round(y + fraction * (next_y - y)), layer)

    def character(self, column: int, row: int, character: str, layer: int) -> None:
        """Put a character into a cell in place of its dots."""
        if self._raise_to(column, row, layer):
            self._characters[row * self.columns + column] = character

    def line(self, row: int) -> Iterator[Span]:
        """One row of cells from left to right."""
        text, layer = "", -1
        for place in range(row * self.columns, (row + 1) * self.columns):
            if self._layers[place] != layer and text:
                yield Span(text, layer)
                text = ""
            layer = self._layers[place]
            dots = " " if layer < 0 else chr(BRAILLE + self._bits[place])
            text += self._characters[place] or dots
        if text:
            yield Span(text, layer)

    def _raise_to(self, column: int, row: int, layer: int) -> bool:
        """Whether the layer may draw in a cell; lower layers in it are erased."""
        if not (0 <= column < self.columns and 0 <= row < self.rows):
            return False
        place = row * self.columns + column
        if layer > self._layers[place]:
            self._bits[place], self._characters[place], self._layers[place] = 0, "", layer
        return layer == self._layers[place]
