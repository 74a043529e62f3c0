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
"""The foreground color fills the cell's upper half, the background color the lower one."""

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
"""Column, row and bit of each dot of a Braille character in Unicode."""

Rgb = tuple[int, int, int]


def fit(pixels: tuple[int, int], columns: int, rows: int, cell: CellSize) -> tuple[int, int]:
    """Columns and rows of an image of that many pixels, scaled to fit and with its aspect ratio kept.

    (0, 0) if there is no space or no image; otherwise at least one of each.
    """
    width, height = pixels
    if min(width, height, columns, rows) < 1:
        return 0, 0
    scale = min(columns * cell.width / width, rows * cell.height / height)
    across, down = round(width * scale / cell.width), round(height * scale / cell.height)
    return min(max(across, 1), columns), min(max(down, 1), rows)


def half_blocks(image: Image, columns: int, rows: int) -> list[Strip]:
    """The image in two colored pixels per cell: `rows` strips of `columns` cells."""
    from PIL.Image import Resampling

    data = image.resize((columns, 2 * rows), Resampling.LANCZOS, reducing_gap=2).tobytes()
    pixels: list[Rgb] = list(zip(data[::3], data[1::3], data[2::3], strict=True))
    strips = []
    for start in range(0, len(pixels), 2 * columns):
        upper, lower = pixels[start : start + columns], pixels[start + columns : start + 2 * columns]
        runs = groupby(zip(upper, lower, strict=True))
        segments = [Segment(UPPER_HALF * len(list(run)), _style(*pair)) for pair, run in runs]
        strips.append(Strip(segments, columns))
    return strips


def dots(image: Image, columns: int, rows: int, *, dark: bool) -> list[Strip]:
    """The image in eight Braille dots per cell, without color; dots are light on a dark background."""
    from PIL import ImageOps
    from PIL.Image import Resampling

    grey = image.convert("L").resize((2 * columns, 4 * rows), Resampling.LANCZOS)
    grey = ImageOps.autocontrast(grey, cutoff=1)
    data = (grey if dark else ImageOps.invert(grey)).convert("1").convert("L").tobytes()

    def letter(column: int, row: int) -> str:
        corner = 8 * columns * row + 2 * column
        return chr(BRAILLE + sum(bit for x, y, bit in DOTS if data[corner + 2 * columns * y + x]))

    lines = ("".join(letter(column, row) for column in range(columns)) for row in range(rows))
    return [Strip([Segment(line)], columns) for line in lines]


@lru_cache(maxsize=8192)
def _style(upper: Rgb, lower: Rgb) -> Style:
    return Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower))
