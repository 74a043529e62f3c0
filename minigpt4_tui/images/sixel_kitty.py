"""Pictures in the terminal's own pixels: sixels and kitty's protocol, by way of textual-image.

Only its encoders are used. Its widgets query the terminal at import, when the app already reads the
keyboard, bypass the app's output, and raise in a terminal of zero columns. Every failure in here is a
`GraphicsError`, and the caller draws with characters instead.
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
"""The protocol's largest payload of one message, in characters."""

FIRST_ID, LAST_ID = 16, 255
"""Image ids, each also the color that encodes it in the placeholder cells: of the 256-color palette without
its themed part, as terminals over SSH seldom announce that they support more."""

SIXEL_COLORS = 256

_ids = itertools.cycle(range(FIRST_ID, LAST_ID + 1))


class GraphicsError(Exception):
    """The image cannot be drawn in pixels."""


@dataclass(frozen=True)
class KittyPicture:
    """`send` is written to the terminal once, before `strips` are shown; `forget` once they are not."""

    send: str
    strips: list[Strip]
    forget: str


def sixel_strips(image: Image, columns: int, rows: int, cell: CellSize) -> list[Strip]:
    """The image as one sixel image per line, so that each line can be drawn by itself.

    The last column stays empty: the cursor moves back to where the sixels begin, and in a terminal's last
    column its position is ambiguous; and Textual loses a control segment at the very end of a cut strip.
    """
    width = (columns - 1) * cell.width
    if width < 1:
        raise GraphicsError("too narrow")
    encode = _imported("textual_image._sixel").image_to_sixels
    try:
        whole = image.resize((width, rows * cell.height), reducing_gap=2).quantize(SIXEL_COLORS)
        return [
            _sixel_strip(encode(whole.crop((0, top, width, top + cell.height))), columns)
            for top in range(0, rows * cell.height, cell.height)
        ]
    except Exception as error:
        raise GraphicsError(str(error)) from error


def kitty_picture(image: Image, columns: int, rows: int, cell: CellSize) -> KittyPicture:
    """The data to transmit, and the placeholder characters that the terminal replaces by the image.

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
    keys = f"i={number},f=100,"
    sent = ""
    for start in range(0, len(payload), CHUNK):
        more = int(start + CHUNK < len(payload))
        sent += _message(f"{keys}q=2,m={more}", payload[start : start + CHUNK])
        keys = ""
    forget = _message(f"a=d,d=I,i={number},q=2")
    placed = _message(f"a=p,U=1,i={number},c={columns},r={rows},q=2")
    # An earlier image with the same id is deleted first, as there are few ids.
    return KittyPicture(
        forget + sent + placed, [Strip([Segment(line, style)], columns) for line in lines], forget
    )


def _sixel_strip(sixels: str, columns: int) -> Strip:
    back = f"\x1b7\x1b[{columns - 1}D{sixels}\x1b8"
    return Strip(
        [
            Segment(" " * (columns - 1)),
            # Any control code marks the text as having no width.
            Segment(back, None, [(ControlType.CURSOR_FORWARD, 0)]),
            Segment(" "),
        ],
        columns,
    )


def _message(keys: str, payload: str = "") -> str:
    return f"\x1b_G{keys};{payload}\x1b\\" if payload else f"\x1b_G{keys}\x1b\\"


def _imported(name: str) -> Any:
    """Import a module without its package's `__init__`, which queries the terminal and waits for it."""
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
