"""Dots and letters on a grid of cells: eight Braille dots a cell, one layer a cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from minigpt4.tui.images.half_blocks import BRAILLE, DOTS

ACROSS, DOWN = 2, 4
"""Dots of one cell."""

_BIT = {(x, y): bit for x, y, bit in DOTS}


@dataclass(frozen=True)
class Run:
    """Letters beside each other in one line that are drawn alike: `layer` says how, -1 is empty ground."""

    text: str
    layer: int


class Canvas:
    """A cell shows one layer alone, the highest that was drawn in it, as it has one colour only.

    What lies under a line is so cut out around it, and the line stays in sight.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self._bits = [0] * (columns * rows)
        self._letters = [""] * (columns * rows)
        self._layers = [-1] * (columns * rows)

    @property
    def size(self) -> tuple[int, int]:
        """Dots across and down."""
        return self.columns * ACROSS, self.rows * DOWN

    def dot(self, x: int, y: int, layer: int) -> None:
        """One dot, counted from the top left; outside of the canvas it is lost."""
        column, row = x // ACROSS, y // DOWN
        if self._claim(column, row, layer):
            self._bits[row * self.columns + column] |= _BIT[x % ACROSS, y % DOWN]

    def upright(self, x: int, top: int, bottom: int, layer: int) -> None:
        """A vertical line; its ends are in it."""
        for y in range(max(top, 0), min(bottom, self.rows * DOWN - 1) + 1):
            self.dot(x, y, layer)

    def path(self, points: Sequence[tuple[int, int]], layer: int) -> None:
        """Straight lines from each point to the next one, the points from left to right."""
        for x, y in points[:1]:
            self.dot(x, y, layer)
        for (x, y), (next_x, next_y) in pairwise(points):
            steps = max(next_x - x, abs(next_y - y), 1)
            for step in range(1, steps + 1):
                share = step / steps
                self.dot(round(x + share * (next_x - x)), round(y + share * (next_y - y)), layer)

    def letter(self, column: int, row: int, letter: str, layer: int) -> None:
        """A letter in a cell, in place of any dots."""
        if self._claim(column, row, layer):
            self._letters[row * self.columns + column] = letter

    def line(self, row: int) -> Iterator[Run]:
        """What one row of cells shows, from left to right."""
        text, layer = "", -1
        for place in range(row * self.columns, (row + 1) * self.columns):
            if self._layers[place] != layer and text:
                yield Run(text, layer)
                text = ""
            layer = self._layers[place]
            letter = " " if layer < 0 else chr(BRAILLE + self._bits[place])
            text += self._letters[place] or letter
        if text:
            yield Run(text, layer)

    def _claim(self, column: int, row: int, layer: int) -> bool:
        """Whether the layer may draw in a cell; what was below it is wiped off."""
        if not (0 <= column < self.columns and 0 <= row < self.rows):
            return False
        place = row * self.columns + column
        if layer > self._layers[place]:
            self._bits[place], self._letters[place], self._layers[place] = 0, "", layer
        return layer == self._layers[place]
