"""A screen of cells as an SVG that needs no font but the reader's own.

Textual can export SVGs, too. Those name a font that is fetched from the network, which viewers such as
GitHub's refuse, and draw blocks and lines as letters, which leaves gaps in pictures. Here blocks are
rectangles, half-block pictures are one small PNG, and each word is as wide as its cells.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from io import BytesIO
from itertools import groupby

from PIL import Image
from rich.segment import Segment
from rich.style import Style
from rich.terminal_theme import SVG_EXPORT_THEME

WIDE, HIGH = 8.4, 18.0
"""Of a cell, in pixels: six tenths of a letter's size wide, as nearly all monospaced fonts are."""

LETTER = 14
MARGIN = 10
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"
HALF = "▀"
BLOCKS = {
    **{letter: (0.0, 0.0, (8 - place) / 8, 1.0) for place, letter in enumerate("█▉▊▋▌▍▎▏")},
    **{letter: (0.0, 1 - place / 8, 1.0, place / 8) for place, letter in enumerate(" ▁▂▃▄▅▆▇") if place},
    "▐": (0.5, 0.0, 0.5, 1.0),
    "▔": (0.0, 0.0, 1.0, 0.125),
    "━": (0.0, 0.46, 1.0, 0.1),
    "─": (0.0, 0.49, 1.0, 0.05),
}
"""Left, top, width and height of what a letter fills, as shares of its cell."""

Rgb = tuple[int, int, int]


@dataclass(frozen=True)
class Cell:
    """One letter and its looks; a wide letter has an empty cell after it."""

    letter: str
    ink: Rgb
    ground: Rgb
    looks: str


def to_svg(lines: Iterable[Iterable[Segment]], ground: Rgb, ink: Rgb) -> str:
    """The lines of a screen; `ground` and `ink` are the colours of what has none."""
    grid = [list(_cells(line, ink, ground)) for line in lines]
    wide = max(map(len, grid)) * WIDE + 2 * MARGIN
    high = len(grid) * HIGH + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:g} {high:g}" width="{wide:g}">',
        f"<style>text {{ font: {LETTER}px {FONTS}; }} .b {{ font-weight: bold; }}"
        " .i { font-style: italic; } .u { text-decoration: underline; }"
        " .s { text-decoration: line-through; } image { image-rendering: pixelated; }"
        " rect { shape-rendering: crispEdges; } .frame { shape-rendering: auto; }</style>",
        f'<rect class="frame" width="{wide:g}" height="{high:g}" rx="8" fill="{_hex(ground)}"/>',
        f'<g transform="translate({MARGIN} {MARGIN})">',
        *(part for row, line in enumerate(grid) for part in _grounds(line, row, ground)),
        *_pictures(grid),
        *(part for row, line in enumerate(grid) for part in _letters(line, row)),
        "</g>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _cells(line: Iterable[Segment], ink: Rgb, ground: Rgb) -> Iterator[Cell]:
    for text, style, _ in line:
        style = style or Style()
        fore, back = _rgb(style, "color", ink), _rgb(style, "bgcolor", ground)
        if style.reverse:
            fore, back = back, fore
        flags = (("b", style.bold), ("i", style.italic), ("u", style.underline), ("s", style.strike))
        looks = " ".join(name for name, is_set in flags if is_set)
        for letter in text:
            yield Cell(letter, fore, back, looks)
            for _more in range(Segment(letter).cell_length - 1):
                yield Cell("", fore, back, looks)


def _rgb(style: Style, which: str, otherwise: Rgb) -> Rgb:
    color = getattr(style, which)
    return otherwise if color is None or color.is_default else tuple(color.get_truecolor(SVG_EXPORT_THEME))


def _hex(color: Rgb) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


def _rect(x: float, y: float, wide: float, high: float, color: Rgb) -> str:
    return f'<rect x="{x:.6g}" y="{y:.6g}" width="{wide:.6g}" height="{high:.6g}" fill="{_hex(color)}"/>'


def _grounds(line: list[Cell], row: int, ground: Rgb) -> Iterator[str]:
    column = 0
    for color, run in groupby(line, key=lambda cell: ground if cell.letter == HALF else cell.ground):
        count = len(list(run))
        if color != ground:
            yield _rect(column * WIDE, row * HIGH, count * WIDE, HIGH, color)
        column += count


def _pictures(grid: list[list[Cell]]) -> Iterator[str]:
    """All half-blocks as one picture of two pixels a cell, clear where there are none."""
    places = [(x, y) for y, line in enumerate(grid) for x, cell in enumerate(line) if cell.letter == HALF]
    if not places:
        return
    left, top = min(x for x, _ in places), min(y for _, y in places)
    wide, high = max(x for x, _ in places) - left + 1, max(y for _, y in places) - top + 1
    image = Image.new("RGBA", (wide, 2 * high))
    for x, y in places:
        cell = grid[y][x]
        image.putpixel((x - left, 2 * (y - top)), (*cell.ink, 255))
        image.putpixel((x - left, 2 * (y - top) + 1), (*cell.ground, 255))
    out = BytesIO()
    image.save(out, "PNG", optimize=True)
    data = base64.b64encode(out.getvalue()).decode()
    yield (
        f'<image x="{left * WIDE:.6g}" y="{top * HIGH:.6g}" width="{wide * WIDE:.6g}" '
        f'height="{high * HIGH:.6g}" preserveAspectRatio="none" href="data:image/png;base64,{data}"/>'
    )


def _letters(line: list[Cell], row: int) -> Iterator[str]:
    numbered = list(enumerate(line))
    alike = groupby(numbered, key=lambda one: (_kind(one[1]), one[1].ink, one[1].looks))
    for (kind, ink, looks), run in alike:
        cells = list(run)
        if kind in BLOCKS:
            x, y, wide, high = BLOCKS[kind]
            # Those as wide as their cell are one shape; of the others each stands for itself.
            count = len(cells) if wide == 1 else 1
            for place, _cell in cells[::count]:
                yield _rect((place + x) * WIDE, (row + y) * HIGH, wide * WIDE * count, high * HIGH, ink)
        elif kind == "text":
            word = "".join(cell.letter for _, cell in cells)
            of = f' class="{looks}"' if looks else ""
            yield (
                f'<text{of} x="{cells[0][0] * WIDE:.6g}" y="{row * HIGH + 13.5:.6g}" fill="{_hex(ink)}" '
                f'textLength="{len(cells) * WIDE:.6g}" lengthAdjust="spacingAndGlyphs">{escape(word)}</text>'
            )


def _kind(cell: Cell) -> str:
    """What a cell is drawn as; words are drawn one by one, so that each stands where its first cell is."""
    if cell.letter in BLOCKS:
        return cell.letter
    return {HALF: "picture", " ": "space"}.get(cell.letter, "text")
