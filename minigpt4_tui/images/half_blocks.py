"""Pictures as cells of text: two pixels a cell in colour, eight dots a cell without."""

from __future__ import annotations

from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from minigpt4.tui.images.terminal_protocol import CellSize

if TYPE_CHECKING:
    from PIL.Image import Image

UPPER_HALF = "▀"
"""Its colour fills the cell's upper half, the background's the lower."""

BRAILLE = 0x2800
DOTS = (
    (0, 0, 0x01),
    (0, 1, 0x02),
    (0, 2, 0x04),
    (1, 0, 0x08),
    (1, 1, 0x10),
    (1, 2, 0x20),
    (0, 3, 0x40),
    (1, 3, 0x80),
)
"""Column, row and bit of each dot of a Braille letter, as Unicode numbers them."""

Rgb = tuple[int, int, int]


def fit(pixels: tuple[int, int], columns: int, rows: int, cell: CellSize) -> tuple[int, int]:
    """Columns and rows that a picture of that many pixels takes, its shape kept, in a room of cells.

    (0, 0) where there is no room, or no picture; otherwise at least one of each.
    """
    width, height = pixels
    if min(width, height, columns, rows) < 1:
        return 0, 0
    scale = min(columns * cell.width / width, rows * cell.height / height)
    across, down = round(width * scale / cell.width), round(height * scale / cell.height)
    return min(max(across, 1), columns), min(max(down, 1), rows)


def half_blocks(image: Image, columns: int, rows: int) -> list[Strip]:
    """The picture in two coloured pixels a cell: `rows` strips of `columns` cells."""
    from PIL.Image import Resampling

    data = image.resize((columns, 2 * rows), Resampling.LANCZOS, reducing_gap=2).tobytes()
    lines = [_triples(data[start : start + 3 * columns]) for start in range(0, len(data), 3 * columns)]
    return [_line(zip(lines[row], lines[row + 1], strict=True), columns) for row in range(0, len(lines), 2)]


def dots(image: Image, columns: int, rows: int, *, dark: bool) -> list[Strip]:
    """The picture in eight dots a cell, without any colour; dots are light on a dark ground."""
    from PIL import ImageOps
    from PIL.Image import Resampling

    grey = image.convert("L").resize((2 * columns, 4 * rows), Resampling.LANCZOS)
    grey = ImageOps.autocontrast(grey, cutoff=1)
    data = (grey if dark else ImageOps.invert(grey)).convert("1").convert("L").tobytes()
    width = 2 * columns
    return [
        Strip(
            [
                Segment(
                    "".join(
                        chr(
                            BRAILLE
                            + sum(bit for x, y, bit in DOTS if data[(4 * row + y) * width + 2 * column + x])
                        )
                        for column in range(columns)
                    )
                )
            ],
            columns,
        )
        for row in range(rows)
    ]


def _triples(data: bytes) -> list[Rgb]:
    return list(zip(data[::3], data[1::3], data[2::3], strict=True))


def _line(pairs: zip[tuple[Rgb, Rgb]], columns: int) -> Strip:
    return Strip(
        [Segment(UPPER_HALF * len(list(alike)), _style(*pair)) for pair, alike in groupby(pairs)], columns
    )


@lru_cache(maxsize=8192)
def _style(upper: Rgb, lower: Rgb) -> Style:
    return Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower))
