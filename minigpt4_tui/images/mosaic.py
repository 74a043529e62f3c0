"""Pictures in block characters of two colors each, which divide a cell into four or six parts."""

from __future__ import annotations

from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from minigpt4.tui.images.block_fit import QUADRANTS, Blocks, fitted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image


def mosaic(image: Image, columns: int, rows: int, blocks: Blocks = QUADRANTS) -> list[Strip]:
    """The RGB image in block characters: `rows` strips of `columns` cells."""
    patterns, front, back = fitted(image, columns, rows, blocks)
    letters = [blocks.letters[number] for number in patterns.tolist()]
    cells = list(zip(_packed(front, back), letters, strict=True))
    return [_strip(cells[start : start + columns]) for start in range(0, len(cells), columns)]


def _packed(front: NDArray[np.uint8], back: NDArray[np.uint8]) -> list[int]:
    """Both colors of a cell as one number, 0xRRGGBBRRGGBB, which is fast to hash."""
    import numpy as np

    six = np.concatenate((front, back), axis=1).astype(np.int64)
    packed: list[int] = (six << np.arange(40, -8, -8)).sum(1).tolist()
    return packed


def _strip(cells: list[tuple[int, str]]) -> Strip:
    runs = groupby(cells, itemgetter(0))
    segments = [Segment("".join(letter for _, letter in run), _style(colors)) for colors, run in runs]
    return Strip(segments, len(cells))


@lru_cache(maxsize=8192)
def _style(colors: int) -> Style:
    return Style.from_color(_color(colors >> 24), _color(colors & 0xFFFFFF))


def _color(rgb: int) -> Color:
    return Color.from_rgb(rgb >> 16, rgb >> 8 & 0xFF, rgb & 0xFF)
