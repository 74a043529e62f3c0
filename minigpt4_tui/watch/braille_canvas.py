"""A grid of cells that show Braille dots (eight a cell) or characters, one layer a cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import Generic, TypeVar

from minigpt4.tui.images.half_blocks import BRAILLE, DOTS

DOTS_X, DOTS_Y = 2, 4
"""Dots of a cell."""

_BIT = {(x, y): bit for x, y, bit in DOTS}


L = TypeVar("L", bound=tuple[int, ...])
"""The type of a layer; greater layers cover lesser ones."""


class Canvas(Generic[L]):
    """A cell shows only the highest layer that was drawn in it, as it can have only one color.

    This clears a margin around lines, which keeps them visible over what is below.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self._bits = [0] * (columns * rows)
        self._characters = [""] * (columns * rows)
        self._layers: list[L | None] = [None] * (columns * rows)

    def dot(self, x: int, y: int, layer: L) -> None:
        """Draw a dot, counted from the top left; dots outside the canvas are ignored."""
        column, row = x // DOTS_X, y // DOTS_Y
        if self._raise_to(column, row, layer):
            self._bits[row * self.columns + column] |= _BIT[x % DOTS_X, y % DOTS_Y]

    def vertical(self, x: int, top: int, bottom: int, layer: L) -> None:
        """Draw a vertical line, both ends included."""
        for y in range(max(top, 0), min(bottom, self.rows * DOTS_Y - 1) + 1):
            self.dot(x, y, layer)

    def path(self, points: Sequence[tuple[int, int]], layer: L) -> None:
        """Draw straight lines between consecutive points, which go from left to right."""
        for x, y in points[:1]:
            self.dot(x, y, layer)
        for (x, y), (next_x, next_y) in pairwise(points):
            steps = max(next_x - x, abs(next_y - y), 1)
            for step in range(1, steps + 1):
                fraction = step / steps
                self.dot(round(x + fraction * (next_x - x)), round(y + fraction * (next_y - y)), layer)

    def character(self, column: int, row: int, character: str, layer: L) -> None:
        """Put a character into a cell in place of its dots."""
        if self._raise_to(column, row, layer):
            self._characters[row * self.columns + column] = character

    def line(self, row: int) -> Iterator[tuple[str, L | None]]:
        """One row of cells from left to right, as texts of one layer each (None: empty)."""
        row_start = row * self.columns
        for layer, places in groupby(range(row_start, row_start + self.columns), self._layers.__getitem__):
            texts = [self._characters[place] or chr(BRAILLE + self._bits[place]) for place in places]
            yield " " * len(texts) if layer is None else "".join(texts), layer

    def _raise_to(self, column: int, row: int, layer: L) -> bool:
        """Whether the layer may draw in a cell; lower layers in it are erased."""
        if not (0 <= column < self.columns and 0 <= row < self.rows):
            return False
        place = row * self.columns + column
        drawn = self._layers[place]
        if drawn is None or layer > drawn:
            self._bits[place], self._characters[place], self._layers[place] = 0, "", layer
        return drawn is None or layer >= drawn
