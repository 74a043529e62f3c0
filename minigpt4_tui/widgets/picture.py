"""Pictures on the screen: an area that draws one as well as the terminal can, and a message's thumbnail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Static

from minigpt4.core.errors import Minigpt4Error
from minigpt4.tui.history.records import StoredPicture
from minigpt4.tui.images.half_blocks import dots, fit, half_blocks
from minigpt4.tui.images.preview import preview, what_the_model_sees
from minigpt4.tui.images.sixel_kitty import GraphicsError, kitty_picture, sixel_strips
from minigpt4.tui.images.terminal_protocol import CellSize, Protocol, cell_size, picture_protocol
from minigpt4.tui.settings.bindings import bindings_of
from minigpt4.tui.terminal.sanitize import sanitize_line

if TYPE_CHECKING:
    from PIL.Image import Image

    from minigpt4.tui.app.app import MiniGPT4App

COLUMNS, ROWS = 24, 10
"""Most cells of a thumbnail; never more than a third of the screen's rows."""

CARD_COLUMNS = 16
"""Least width of a thumbnail, so that its name can be read."""


@dataclass(frozen=True)
class View:
    """What of a picture is shown: the picture, or (`bundle`) what that bundle's vision tower gets of it."""

    source: Path | bytes
    bundle: str | None = None


@dataclass(frozen=True)
class DrawRequest:
    """Everything that a drawing depends on: what is drawn, how large, and how."""

    view: View
    columns: int
    rows: int
    protocol: Protocol
    cell: CellSize
    no_color: bool
    dark: bool


@dataclass(frozen=True)
class Drawing:
    """A picture of `size` as strips; `pixels` are the terminal's own, used where nothing lies over them."""

    size: tuple[int, int]
    cells: list[Strip]
    pixels: list[Strip] | None = None
    send: str = ""
    forget: str = ""


def draw(request: DrawRequest) -> Drawing:
    """Open the picture and draw it: slow, for another thread. Raises Minigpt4Error."""
    wide, high = request.columns, request.rows
    longest = max(wide * request.cell.width, high * request.cell.height)
    view = request.view
    found = (
        preview(view.source, longest)
        if view.bundle is None
        else what_the_model_sees(view.source, view.bundle)
    )
    if request.no_color:
        return Drawing(found.pixels, dots(found.image, wide, high, dark=request.dark))
    drawing = Drawing(found.pixels, half_blocks(found.image, wide, high))
    try:
        return _in_pixels(found.image, request, drawing)
    except GraphicsError:
        return drawing


def _in_pixels(image: Image, request: DrawRequest, drawing: Drawing) -> Drawing:
    match request.protocol:
        case "sixel":
            return replace(drawing, pixels=sixel_strips(image, request.columns, request.rows, request.cell))
        case "kitty":
            sent = kitty_picture(image, request.columns, request.rows, request.cell)
            return replace(drawing, pixels=sent.strips, send=sent.send, forget=sent.forget)
        case _:
            return drawing


class PictureArea(Widget):
    """One picture, as large as its room lets it be, its shape kept. It is opened and drawn elsewhere."""

    DEFAULT_CSS = "PictureArea { width: auto; height: auto; }"

    @dataclass
    class Opened(Message):
        """The picture is on the screen; `pixels` are its own width and height."""

        area: PictureArea
        pixels: tuple[int, int]

    @dataclass
    class Failed(Message):
        """It cannot be opened."""

        area: PictureArea
        sentence: str

    def __init__(self, most: tuple[int, int] | None = None) -> None:
        """`most`: columns and rows that it takes at most, whatever room there is."""
        super().__init__()
        self._most = most
        self._view: View | None = None
        self._pixels: tuple[int, int] | None = None
        self._request: DrawRequest | None = None
        self._drawing: Drawing | None = None

    def show(self, view: View | None, pixels: tuple[int, int] | None = None) -> None:
        """Show something else, or nothing. With its `pixels` known beforehand nothing moves when it comes."""
        self._view, self._pixels = view, pixels
        self._request = None
        self._replace(None)
        self.refresh(layout=True)
        self.call_after_refresh(self._request_drawing)

    def on_mount(self) -> None:
        """Draw anew when the setting changes."""
        self._host.settings_changed.subscribe(self, self._setting_changed)

    def on_resize(self) -> None:
        """Draw it in its new size."""
        self._request_drawing()

    def on_unmount(self) -> None:
        """Let the terminal forget it."""
        self._replace(None)

    def get_content_width(self, container: Size, viewport: Size) -> int:
        """As many columns as the picture takes in the room."""
        return self._fitting(container, viewport)[0]

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many rows."""
        return self._fitting(container, viewport)[1]

    def render_line(self, y: int) -> Strip:
        """A line in cells; empty while the picture is being opened."""
        lines = self._drawing.cells if self._drawing is not None else []
        if y >= len(lines):
            return Strip.blank(self.size.width, self.rich_style)
        line = lines[y]
        return (
            line.apply_style(self.rich_style)
            if self._request is not None and self._request.no_color
            else line
        )

    def render_lines(self, crop: Region) -> list[Strip]:
        """The terminal's own pixels, where the whole width is seen and no screen lies over this one."""
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
            # Not the container's: one that is as wide as what it holds knows no width yet.
            columns = min(viewport.width, self._most[0])
            rows = min(viewport.height, self._most[1], max(1, viewport.height // 3))
        if self._view is None or self._protocol == "off":
            return 0, 0
        if self._pixels is None:
            return columns, rows
        # Sixels keep clear of the last column.
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
            # Drawn again as soon as it has its own shape.
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
            # Textual's own way out: past it, the picture could land in the middle of a frame.
            if text and self.app._driver is not None:
                self.app._driver.write(text)
        self._drawing = drawing
        self.refresh()

    def _setting_changed(self, name: str) -> None:
        if name == "images":
            self.refresh(layout=True)
            self.call_after_refresh(self._request_drawing)


class Thumbnail(Vertical):
    """A message's picture, with its name and size under it."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("picture")]
    DEFAULT_CSS = """
    Thumbnail {
        width: auto;
        height: auto;
        .name { width: auto; text-wrap: nowrap; text-overflow: ellipsis; }
        .size { width: auto; color: $foreground 70%; }
        .gone { width: auto; color: $text-error; }
        &:focus .name { text-style: reverse; }
    }
    """

    @dataclass
    class Zoomed(Message):
        """The picture is to be seen on the whole screen."""

        picture: StoredPicture

    def __init__(self, picture: StoredPicture, *, can_focus: bool = False) -> None:
        """`can_focus`: in a message it is the message that has the focus."""
        super().__init__()
        self.picture = picture
        self.can_focus = can_focus

    def compose(self) -> ComposeResult:
        yield PictureArea((COLUMNS, ROWS))
        yield Static(classes="name", markup=False)
        yield Static(size_of(self.picture), classes="size", markup=False)

    def on_mount(self) -> None:
        """Have it drawn."""
        picture = self.picture
        self.query_one(PictureArea).show(View(picture.path), (picture.width, picture.height))
        self._write_name()
        host: Any = self.app
        host.settings_changed.subscribe(self, lambda name: self._write_name() if name == "images" else None)

    def on_click(self, event: events.Click) -> None:
        """Show it large."""
        event.stop()
        self.action_zoom_picture()

    def action_zoom_picture(self) -> None:
        """Show it large."""
        self.post_message(self.Zoomed(self.picture))

    @on(PictureArea.Failed)
    def _failed(self, event: PictureArea.Failed) -> None:
        """A card in the picture's place: its message is still there to be read."""
        event.stop()
        event.area.display = False
        gone = not self.picture.path.exists()
        size = self.query_one(".size", Static)
        size.update("its file is gone" if gone else "cannot be opened")
        size.set_classes("gone")

    def _write_name(self) -> None:
        images: str = cast("MiniGPT4App", self.app).settings.images
        mark = "▣ " if images == "off" else ""
        self.query_one(".name", Static).update(mark + sanitize_line(self.picture.name, COLUMNS - len(mark)))


def size_of(picture: StoredPicture) -> str:
    """Width and height, as people write them."""
    return f"{picture.width} × {picture.height}"
