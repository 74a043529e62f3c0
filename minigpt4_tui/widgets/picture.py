"""Images on the screen: an area drawn as well as the terminal can, and the thumbnail of a message."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Static

from minigpt4.core.errors import Minigpt4Error
from minigpt4.tui.history.records import StoredPicture
from minigpt4.tui.images.half_blocks import dots, fit, half_blocks
from minigpt4.tui.images.preview import model_input, preview
from minigpt4.tui.images.sixel_kitty import GraphicsError, kitty_picture, sixel_strips
from minigpt4.tui.images.terminal_protocol import CellSize, Protocol, cell_size, picture_protocol
from minigpt4.tui.terminal.sanitize import sanitize_line

if TYPE_CHECKING:
    from minigpt4.tui.app.app import MiniGPT4App

COLUMNS, ROWS = 24, 10
"""The largest size of a thumbnail in cells; its height is also at most a third of the screen's."""


@dataclass(frozen=True)
class View:
    """What is drawn: the image itself, or, with a `bundle`, the input of the bundle's vision tower."""

    source: Path | bytes
    bundle: str | None = None


@dataclass(frozen=True)
class DrawRequest:
    """Everything that a drawing depends on: its content, size and style."""

    view: View
    columns: int
    rows: int
    protocol: Protocol
    cell: CellSize
    no_color: bool
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
    """Open the image and draw it. Slow: use a background thread. Raises Minigpt4Error."""
    columns, rows, cell = request.columns, request.rows, request.cell
    source, bundle = request.view.source, request.view.bundle
    longest = max(columns * cell.width, rows * cell.height)
    opened = preview(source, longest) if bundle is None else model_input(source, bundle)
    if request.no_color:
        return Drawing(opened.pixels, dots(opened.image, columns, rows, dark=request.dark))
    drawing = Drawing(opened.pixels, half_blocks(opened.image, columns, rows))
    with suppress(GraphicsError):
        if request.protocol == "sixel":
            return replace(drawing, pixels=sixel_strips(opened.image, columns, rows, cell))
        if request.protocol == "kitty":
            kitty = kitty_picture(opened.image, columns, rows, cell)
            return replace(drawing, pixels=kitty.strips, send=kitty.send, forget=kitty.forget)
    return drawing


class PictureArea(Widget):
    """One image, as large as its container allows. It is opened and drawn on a background thread."""

    DEFAULT_CSS = "PictureArea { width: auto; height: auto; }"

    @dataclass
    class Opened(Message):
        """The image is on the screen; `pixels` are its original width and height."""

        area: PictureArea
        pixels: tuple[int, int]

    @dataclass
    class Failed(Message):
        """The image cannot be opened."""

        area: PictureArea
        sentence: str

    def __init__(self, most: tuple[int, int] | None = None) -> None:
        """`most`: the largest size in columns and rows, however large the container is."""
        super().__init__()
        self._most = most
        self._view: View | None = None
        self._pixels: tuple[int, int] | None = None
        self._request: DrawRequest | None = None
        self._drawing: Drawing | None = None

    def show(self, view: View | None, pixels: tuple[int, int] | None = None) -> None:
        """Replace or clear the content; with `pixels` known in advance the layout does not change later."""
        self._view, self._pixels = view, pixels
        self._request = None
        self._replace(None)
        self.refresh(layout=True)
        self.call_after_refresh(self._request_drawing)

    def on_mount(self) -> None:
        """Redraw when the setting changes."""
        self._host.settings_changed.subscribe(self, self._setting_changed)

    def on_resize(self) -> None:
        """Draw it at its new size."""
        self._request_drawing()

    def on_unmount(self) -> None:
        """Delete it from the terminal."""
        self._replace(None)

    def get_content_width(self, container: Size, viewport: Size) -> int:
        """The width of the image in columns."""
        return self._fitting(container, viewport)[0]

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """The height of the image in rows."""
        return self._fitting(container, viewport)[1]

    def render_line(self, y: int) -> Strip:
        """A line of characters; blank while the image is being opened."""
        lines = self._drawing.cells if self._drawing is not None else []
        if y >= len(lines):
            return Strip.blank(self.size.width, self.rich_style)
        return lines[y].apply_style(self.rich_style) if self.app.no_color else lines[y]

    def render_lines(self, crop: Region) -> list[Strip]:
        """The image in pixels if its whole width is visible and no screen is over this one."""
        pixels = self._drawing.pixels if self._drawing is not None else None
        if (
            pixels is None
            or (crop.x, crop.width) != (0, self.size.width)
            or len(pixels) != self.size.height
            or not self.screen.is_active
        ):
            return super().render_lines(crop)
        return pixels[crop.y : crop.bottom]

    @property
    def _host(self) -> MiniGPT4App:
        return cast("MiniGPT4App", self.app)

    @property
    def _protocol(self) -> Protocol:
        return picture_protocol(self._host.settings.images)

    def _fitting(self, container: Size, viewport: Size) -> tuple[int, int]:
        columns, rows = container.width, container.height
        if self._most is not None:
            # Not the container's size: one of automatic width does not know it yet.
            columns = min(viewport.width, self._most[0])
            rows = min(viewport.height, self._most[1], max(1, viewport.height // 3))
        if self._view is None or self._protocol == "off":
            return 0, 0
        if self._pixels is None:
            return columns, rows
        # Sixels leave the last column empty.
        margin = 1 if self._protocol == "sixel" and not self.app.no_color else 0
        wide, high = fit(self._pixels, columns - margin, rows, cell_size())
        return (wide + margin, high) if wide else (0, 0)

    def _request_drawing(self) -> None:
        """Request a drawing, unless it is already drawn or in progress."""
        if self._view is None or not self.is_attached:
            return
        request = DrawRequest(
            self._view,
            self.size.width,
            self.size.height,
            self._protocol,
            cell_size(),
            bool(self.app.no_color),
            self.app.current_theme.dark,
        )
        if request == self._request or request.protocol == "off" or min(request.columns, request.rows) < 1:
            return
        self._request = request
        self._host.in_background(
            lambda: draw(request), lambda drawing: self._drawn(request, drawing), self._failing(request)
        )

    def _drawn(self, request: DrawRequest, drawing: Drawing) -> None:
        if request != self._request or not self.is_attached:
            return
        if self._pixels is None:
            # Drawn again once its aspect ratio is known.
            self._pixels = drawing.size
            self.refresh(layout=True)
        self._replace(drawing)
        self.post_message(self.Opened(self, drawing.size))

    def _failing(self, request: DrawRequest) -> Callable[[Exception], None]:
        def failed(error: Exception) -> None:
            if request == self._request and self.is_attached:
                known = isinstance(error, Minigpt4Error)
                self.post_message(self.Failed(self, str(error) if known else "The picture cannot be drawn."))

        return failed

    def _replace(self, drawing: Drawing | None) -> None:
        for text in (self._drawing.forget if self._drawing else "", drawing.send if drawing else ""):
            # Through Textual's driver, as otherwise the image could be written into the middle of a frame.
            if text and self.app._driver is not None:
                self.app._driver.write(text)
        self._drawing = drawing
        self.refresh()

    def _setting_changed(self, name: str) -> None:
        if name == "images":
            self.refresh(layout=True)
            self.call_after_refresh(self._request_drawing)


class Thumbnail(Vertical):
    """An image of a message, with its name and size under it; a click enlarges it."""

    DEFAULT_CSS = """
    Thumbnail {
        width: auto;
        height: auto;
        .name { width: auto; text-wrap: nowrap; text-overflow: ellipsis; }
        .size { width: auto; color: $foreground 70%; }
        .gone { width: auto; color: $text-error; }
    }
    """

    @dataclass
    class Zoomed(Message):
        """The image should be shown on the whole screen."""

        picture: StoredPicture

    def __init__(self, picture: StoredPicture) -> None:
        super().__init__()
        self.picture = picture

    def compose(self) -> ComposeResult:
        yield PictureArea((COLUMNS, ROWS))
        yield Static(classes="name", markup=False)
        yield Static(size_of(self.picture), classes="size", markup=False)

    def on_mount(self) -> None:
        """Request the drawing."""
        picture = self.picture
        self.query_one(PictureArea).show(View(picture.path), (picture.width, picture.height))
        self._write_name()
        self._host.settings_changed.subscribe(self, self._setting_changed)

    def on_click(self, event: events.Click) -> None:
        """Enlarge it."""
        event.stop()
        self.post_message(self.Zoomed(self.picture))

    @on(PictureArea.Failed)
    def _failed(self, event: PictureArea.Failed) -> None:
        """Show a note instead of the image; the message can still be read."""
        event.stop()
        event.area.display = False
        gone = not self.picture.path.exists()
        size = self.query_one(".size", Static)
        size.update("its file is gone" if gone else "cannot be opened")
        size.set_classes("gone")

    @property
    def _host(self) -> MiniGPT4App:
        return cast("MiniGPT4App", self.app)

    def _setting_changed(self, name: str) -> None:
        if name == "images":
            self._write_name()

    def _write_name(self) -> None:
        mark = "▣ " if self._host.settings.images == "off" else ""
        self.query_one(".name", Static).update(mark + sanitize_line(self.picture.name, COLUMNS - len(mark)))


def size_of(picture: StoredPicture) -> str:
    """Width and height as text."""
    return f"{picture.width} × {picture.height}"
