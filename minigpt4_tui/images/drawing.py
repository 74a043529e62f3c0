"""One picture, drawn for the screen as well as the terminal can. Slow: use background threads."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import COLOR_SYSTEMS
from rich.segment import ControlType, Segment
from textual.strip import Strip

from minigpt4.tui.images.block_fit import HALVES, QUADRANTS, SEXTANTS
from minigpt4.tui.images.boxes import Label, draw_labels, labelled, with_boxes
from minigpt4.tui.images.early_preview import EarlyPreview
from minigpt4.tui.images.half_blocks import dots, half_blocks
from minigpt4.tui.images.mosaic import mosaic
from minigpt4.tui.images.preview import SMALL, model_input, preview
from minigpt4.tui.images.sixel_kitty import GraphicsError, kitty_picture, sixel_strips
from minigpt4.tui.images.terminal_protocol import CellSize, Protocol

if TYPE_CHECKING:
    from PIL.Image import Image

    from minigpt4.core.types import FoundObject

COLUMNS, ROWS = 60, 20
"""The largest size, in cells, of a picture that is shown among text."""


@dataclass(frozen=True)
class View:
    """What is drawn: the image itself, or, with a `bundle`, the input of the bundle's vision tower; over it
    the boxes of `objects`.
    """

    source: Path | bytes | EarlyPreview
    bundle: str | None = None
    objects: tuple[FoundObject, ...] = ()


@dataclass(frozen=True)
class DrawRequest:
    """Everything that a drawing depends on: its content, size and style.

    `colors` is the terminal's color system by its name in Rich; None means no color.
    """

    view: View
    columns: int
    rows: int
    protocol: Protocol
    cell: CellSize
    colors: str | None
    dark: bool


@dataclass(frozen=True)
class Drawing:
    """An image of `size` as strips of characters and, if the terminal can, of pixels.

    `send` and `forget` are escape sequences to be written before and after the pixels are shown.
    """

    size: tuple[int, int]
    cells: list[Strip]
    pixels: list[Strip] | None = None
    send: str = ""
    forget: str = ""


def draw(request: DrawRequest) -> Drawing:
    """Open the image and draw it. Raises Minigpt4Error."""
    columns, rows, cell = request.columns, request.rows, request.cell
    source, bundle = request.view.source, request.view.bundle
    if isinstance(source, EarlyPreview):
        return _early(source, request)
    opened = preview(source, _longest(request)) if bundle is None else model_input(source, bundle)
    if request.colors is None:
        image, labels = _with_boxes(opened.image, request, (2, 4))
        lines = dots(image, columns, rows, dark=request.dark)
        return Drawing(opened.pixels, labelled(lines, labels, in_color=False))
    drawing = Drawing(opened.pixels, _cells(opened.image, request))
    with suppress(GraphicsError):
        if request.protocol in ("sixel", "kitty"):
            image, labels = _with_boxes(opened.image, request, (cell.width, cell.height))
            draw_labels(image, labels, (cell.width, cell.height))
        if request.protocol == "sixel":
            return replace(drawing, pixels=sixel_strips(image, columns, rows, cell))
        if request.protocol == "kitty":
            kitty = kitty_picture(image, columns, rows, cell)
            return replace(drawing, pixels=kitty.strips, send=kitty.send, forget=kitty.forget)
    return drawing


def _with_boxes(image: Image, request: DrawRequest, cell: tuple[int, int]) -> tuple[Image, list[Label]]:
    """The image as it is if there are no objects; otherwise with their boxes, at `cell` pixels per cell."""
    if not request.view.objects:
        return image, []
    return with_boxes(image, request.view.objects, (request.columns, request.rows), cell)


def _early(source: EarlyPreview, request: DrawRequest) -> Drawing:
    columns, blocks = (
        request.columns,
        {"halfblock": HALVES, "sextant": SEXTANTS}.get(request.protocol, QUADRANTS),
    )
    lines = source.lines(columns, request.rows, blocks, is_true=request.colors == "truecolor")
    # Any control code keeps Rich from measuring the text, which has escape codes in it. A style object for
    # every cell would take another 50 ms.
    strips = [Strip([Segment(line, None, [(ControlType.CURSOR_FORWARD, 0)])], columns) for line in lines]
    return Drawing(source.wait(), [], strips)


def _longest(request: DrawRequest) -> int:
    """The visible pixels of the image's longer side."""
    columns, rows = request.columns, request.rows
    if request.colors is None or request.protocol not in ("kitty", "sixel"):
        # A character has at most 2 by 4 parts.
        return max(2 * columns, 4 * rows)
    longest = max(columns * request.cell.width, rows * request.cell.height)
    # Among text the copy made when the image was opened is enough, even where a cell has many pixels.
    return min(longest, SMALL) if columns <= COLUMNS and rows <= ROWS else longest


def _cells(image: Image, request: DrawRequest) -> list[Strip]:
    blocks = {"quadrant": QUADRANTS, "sextant": SEXTANTS}.get(request.protocol, HALVES)
    image, labels = _with_boxes(image, request, (blocks.across, blocks.down))
    if blocks is HALVES:
        strips = half_blocks(image, request.columns, request.rows)
    else:
        strips = mosaic(image, request.columns, request.rows, blocks)
    strips = labelled(strips, labels)
    _prepare(strips, request.colors or "")
    return strips


def _prepare(strips: Iterable[Strip], colors: str) -> None:
    """Compute the escape codes of all styles, and their hashes.

    Otherwise Textual does so when it paints them, which delays keys by 14 µs a cell.
    """
    system = COLOR_SYSTEMS.get(colors, COLOR_SYSTEMS["truecolor"])
    is_true = system is COLOR_SYSTEMS["truecolor"]
    for strip in strips:
        for _, style, _ in strip:
            if style is None or style._ansi is not None:
                continue
            hash(style)
            front, back = style.color, style.bgcolor
            if is_true and front and front.triplet and back and back.triplet:
                # Rich takes 14 µs to compute this.
                style._ansi = "38;2;{};{};{};48;2;{};{};{}".format(*front.triplet, *back.triplet)
            else:
                style.render(" ", color_system=system)
