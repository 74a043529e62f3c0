"""Pictures in the terminal's own pixels: sixels and kitty's protocol, by way of textual-image.

Only its encoders are used. Its widgets ask the terminal at import, when the screen already reads the
keyboard; write past the screen's own output; and stop the app where there are no columns. Whatever goes
wrong in here is a `GraphicsError`, and the caller draws cells of text instead.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rich.color import Color
from rich.segment import ControlType, Segment
from rich.style import Style
from textual.strip import Strip

from minigpt4.tui.images.terminal_protocol import CellSize

if TYPE_CHECKING:
    from PIL.Image import Image

CHUNK = 4096
"""Most letters of a picture that one of kitty's messages may hold."""

FIRST_ID, LAST_ID = 16, 255
"""Numbers of pictures, each also the colour that its cells are written in: of 256, without the themed ones,
so that terminals over SSH, which seldom say that they know more colours, are served as well."""

COLOURS = 256
"""Of a sixel picture."""

_ids = itertools.cycle(range(FIRST_ID, LAST_ID + 1))


class GraphicsError(Exception):
    """The terminal's own pixels cannot be used."""


@dataclass(frozen=True)
class KittyPicture:
    """`send` is to be written once, before `strips` are shown; `forget` when they are no more."""

    send: str
    strips: list[Strip]
    forget: str


def sixel_strips(image: Image, columns: int, rows: int, cell: CellSize) -> list[Strip]:
    """The picture as one row of sixels a line, so that any lines of it can be drawn alone.

    The last column stays empty: sixels go back from where the cursor is, which in a terminal's last
    column is not where it seems; and a piece at a strip's very end is lost when Textual cuts it.
    """
    width = (columns - 1) * cell.width
    if width < 1:
        raise GraphicsError("no room")
    encode = _imported("textual_image._sixel").image_to_sixels
    try:
        whole = image.resize((width, rows * cell.height), reducing_gap=2).quantize(COLOURS)
        return [
            _sixel_strip(encode(whole.crop((0, top, width, top + cell.height))), columns)
            for top in range(0, rows * cell.height, cell.height)
        ]
    except Exception as error:
        raise GraphicsError(str(error)) from error


def kitty_picture(image: Image, columns: int, rows: int, cell: CellSize) -> KittyPicture:
    """The picture to be sent, and the letters in whose place the terminal shows it.

    Source: kitty's graphics protocol, Unicode placeholders.
    """
    tgp = _imported("textual_image.renderable.tgp")
    number = next(_ids)
    try:
        drawn = tgp.Image(image)
        drawn.terminal_image_id = number
        style = Style(color=Color.from_ansi(number))
        lines = [segment.text.rstrip("\n") for segment in drawn._render_diacritics(columns, rows)]
        payload = drawn._image_data.scaled(columns * cell.width, rows * cell.height).to_base64()
    except Exception as error:
        raise GraphicsError(str(error)) from error
    pieces = [payload[start : start + CHUNK] for start in range(0, len(payload), CHUNK)]
    sent = [
        _message(
            f"i={number},f=100,q=2,m={int(piece is not pieces[-1])}"
            if not place
            else f"q=2,m={int(piece is not pieces[-1])}",
            piece,
        )
        for place, piece in enumerate(pieces)
    ]
    forget = _message(f"a=d,d=I,i={number},q=2")
    placed = _message(f"a=p,U=1,i={number},c={columns},r={rows},q=2")
    # What had the number before is forgotten first: there are few of them.
    return KittyPicture(
        forget + "".join(sent) + placed, [Strip([Segment(line, style)], columns) for line in lines], forget
    )


def _sixel_strip(sixels: str, columns: int) -> Strip:
    back = f"\x1b7\x1b[{columns - 1}D{sixels}\x1b8"
    return Strip(
        [
            Segment(" " * (columns - 1)),
            # Any code serves: it says that the text takes no room.
            Segment(back, None, [(ControlType.CURSOR_FORWARD, 0)]),
            Segment(" "),
        ],
        columns,
    )


def _message(keys: str, payload: str = "") -> str:
    return f"\x1b_G{keys};{payload}\x1b\\" if payload else f"\x1b_G{keys}\x1b\\"


def _imported(name: str) -> Any:
    """The module, without what its package does at import: ask the terminal, and wait for the answer."""
    package = name.rpartition(".")[0]
    try:
        if package not in sys.modules and package.count("."):
            found = importlib.util.find_spec("textual_image")
            if found is None or not found.submodule_search_locations:
                raise GraphicsError("textual-image is not installed")
            bare = ModuleType(package)
            bare.__path__ = [str(Path(found.submodule_search_locations[0]) / package.rpartition(".")[2])]
            sys.modules[package] = bare
        return importlib.import_module(name)
    except Exception as error:
        raise GraphicsError(str(error)) from error
