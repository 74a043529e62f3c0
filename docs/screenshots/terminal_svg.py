"""Renders a terminal screen as an SVG that needs only the viewer's own fonts.

Textual's SVGs load a font from the network, which viewers such as GitHub's refuse, and draw blocks and
lines as text, which leaves gaps in pictures. Here blocks are rectangles, those of pictures are one small
PNG, and each word is as wide as its cells.
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

CELL_W, CELL_H = 8.4, 18.0
"""In pixels: nearly all monospaced fonts are 0.6 times as wide as their size."""

FONT_SIZE = 14
MARGIN = 10
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"
QUADRANTS = {letter: bits for bits, letter in enumerate(" ▘▝▀▖▌▞▛▗▚▐▜▄▙▟█") if bits}
"""The bits say which quarters are filled: upper left, upper right, lower left, lower right."""

BLOCKS = {
    **{letter: (0.0, 0.0, (8 - place) / 8, 1.0) for place, letter in enumerate("█▉▊▋▌▍▎▏")},
    **{letter: (0.0, 1 - place / 8, 1.0, place / 8) for place, letter in enumerate(" ▁▂▃▄▅▆▇") if place},
    "▔": (0.0, 0.0, 1.0, 0.125),
    "━": (0.0, 0.46, 1.0, 0.1),
    "─": (0.0, 0.49, 1.0, 0.05),
}
"""Left, top, width and height of the filled rectangle, as fractions of the cell."""

Rgb = tuple[int, int, int]


@dataclass(frozen=True)
class Cell:
    """One character and its style; a wide character is followed by an empty cell."""

    letter: str
    foreground: Rgb
    background: Rgb
    classes: str


def to_svg(lines: Iterable[Iterable[Segment]], background: Rgb, foreground: Rgb) -> str:
    """The lines of a screen; `background` and `foreground` are the default colors."""
    grid = [list(_cells(line, foreground, background)) for line in lines]
    width = max(map(len, grid)) * CELL_W + 2 * MARGIN
    height = len(grid) * CELL_H + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}">',
        f"<style>text {{ font: {FONT_SIZE}px {FONTS}; }} .b {{ font-weight: bold; }}"
        " .i { font-style: italic; } .u { text-decoration: underline; }"
        " .s { text-decoration: line-through; } image { image-rendering: pixelated; }"
        " rect { shape-rendering: crispEdges; } .frame { shape-rendering: auto; }</style>",
        f'<rect class="frame" width="{width:g}" height="{height:g}" rx="8" fill="{_hex(background)}"/>',
        f'<g transform="translate({MARGIN} {MARGIN})">',
        *(part for row, line in enumerate(grid) for part in _backgrounds(line, row, background)),
        *_pictures(grid),
        *(part for row, line in enumerate(grid) for part in _letters(line, row)),
        "</g>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _cells(line: Iterable[Segment], foreground: Rgb, background: Rgb) -> Iterator[Cell]:
    for text, style, _ in line:
        style = style or Style()
        fore, back = _rgb(style, "color", foreground), _rgb(style, "bgcolor", background)
        if style.reverse:
            fore, back = back, fore
        flags = (("b", style.bold), ("i", style.italic), ("u", style.underline), ("s", style.strike))
        classes = " ".join(name for name, is_set in flags if is_set)
        for letter in text:
            yield Cell(letter, fore, back, classes)
            for _more in range(Segment(letter).cell_length - 1):
                yield Cell("", fore, back, classes)


def _rgb(style: Style, which: str, otherwise: Rgb) -> Rgb:
    color = getattr(style, which)
    return otherwise if color is None or color.is_default else tuple(color.get_truecolor(SVG_EXPORT_THEME))


def _hex(color: Rgb) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


def _rect(x: float, y: float, width: float, height: float, color: Rgb) -> str:
    return f'<rect x="{x:.6g}" y="{y:.6g}" width="{width:.6g}" height="{height:.6g}" fill="{_hex(color)}"/>'


def _backgrounds(line: list[Cell], row: int, background: Rgb) -> Iterator[str]:
    column = 0
    for color, run in groupby(
        line, key=lambda cell: background if _kind(cell) == "picture" else cell.background
    ):
        count = len(list(run))
        if color != background:
            yield _rect(column * CELL_W, row * CELL_H, count * CELL_W, CELL_H, color)
        column += count


def _pictures(grid: list[list[Cell]]) -> Iterator[str]:
    """All half-blocks and quadrants as one image of four pixels a cell, transparent elsewhere."""
    places = [
        (x, y) for y, line in enumerate(grid) for x, cell in enumerate(line) if _kind(cell) == "picture"
    ]
    if not places:
        return
    left, top = min(x for x, _ in places), min(y for _, y in places)
    width, height = max(x for x, _ in places) - left + 1, max(y for _, y in places) - top + 1
    image = Image.new("RGBA", (2 * width, 2 * height))
    for x, y in places:
        cell = grid[y][x]
        for part in range(4):
            is_filled = QUADRANTS[cell.letter] >> part & 1
            color = cell.foreground if is_filled else cell.background
            image.putpixel((2 * (x - left) + part % 2, 2 * (y - top) + part // 2), (*color, 255))
    out = BytesIO()
    image.save(out, "PNG", optimize=True)
    data = base64.b64encode(out.getvalue()).decode()
    yield (
        f'<image x="{left * CELL_W:.6g}" y="{top * CELL_H:.6g}" width="{width * CELL_W:.6g}" '
        f'height="{height * CELL_H:.6g}" preserveAspectRatio="none" href="data:image/png;base64,{data}"/>'
    )


def _letters(line: list[Cell], row: int) -> Iterator[str]:
    numbered = list(enumerate(line))
    alike = groupby(numbered, key=lambda one: (_kind(one[1]), one[1].foreground, one[1].classes))
    for (kind, foreground, classes), run in alike:
        cells = list(run)
        if kind in BLOCKS:
            x, y, width, height = BLOCKS[kind]
            # Blocks of full width are merged into one rectangle; others are drawn one by one.
            count = len(cells) if width == 1 else 1
            size = (width * CELL_W * count, height * CELL_H)
            for place, _cell in cells[::count]:
                yield _rect((place + x) * CELL_W, (row + y) * CELL_H, *size, foreground)
        elif kind == "text":
            word = escape("".join(cell.letter for _, cell in cells))
            attribute = f' class="{classes}"' if classes else ""
            yield (
                f'<text{attribute} x="{cells[0][0] * CELL_W:.6g}" y="{row * CELL_H + 13.5:.6g}" '
                f'fill="{_hex(foreground)}" textLength="{len(cells) * CELL_W:.6g}" '
                f'lengthAdjust="spacingAndGlyphs">{word}</text>'
            )


def _kind(cell: Cell) -> str:
    """What a cell is drawn as; words are drawn one by one, so that each starts at its first cell."""
    if cell.letter in QUADRANTS:
        return "picture"
    if cell.letter in BLOCKS:
        return cell.letter
    return "space" if cell.letter == " " else "text"
