"""Images on the screen: an area drawn as well as the terminal can, the pictures of a message, and the large
photo of an empty conversation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Static

from minigpt4.core.errors import Minigpt4Error
from minigpt4.tui.history.records import StoredPicture
from minigpt4.tui.images.drawing import COLUMNS, ROWS, Drawing, DrawRequest, View, draw
from minigpt4.tui.images.early_preview import EarlyPreview
from minigpt4.tui.images.half_blocks import fit
from minigpt4.tui.images.terminal_protocol import Protocol, cell_size, picture_protocol
from minigpt4.tui.settings.bindings import bindings_of
from minigpt4.tui.terminal.sanitize import sanitize_line

if TYPE_CHECKING:
    from minigpt4.tui.app.app import MiniGPT4App

NAME_COLUMNS, NAME_LEAST = 24, 12
"""Most columns of a picture's name in a message, and those it has under a narrow picture."""

ROWS_LEAST = 4
"""Pictures that share a row do not become lower, but are scrolled."""

TEXT_ROWS = 20
"""Rows of a tall screen that a picture in a message leaves to what is above and below it."""

GAP = 3
"""Columns between the pictures of a message."""


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

    def __init__(self, most: tuple[int, int] | None = None, *, below: int = 0) -> None:
        """`most`: the largest size in columns and rows, however large the container is; `below`: rows of the
        container that are left free.
        """
        super().__init__()
        self._most = most
        self._below = below
        self._view: View | None = None
        self._pixels: tuple[int, int] | None = None
        self._request: DrawRequest | None = None
        self._drawing: Drawing | None = None

    def show(
        self, view: View | None, pixels: tuple[int, int] | None = None, *, keeps_drawing: bool = False
    ) -> None:
        """Replace or clear the content; with `pixels` known in advance the layout does not change later.

        `keeps_drawing`: the drawing before is of the same image, and stays until the new one is there.
        """
        self._view, self._pixels = view, pixels
        self._request = None
        if not keeps_drawing:
            self._replace(None)
        self.refresh(layout=True)
        self.call_after_refresh(self._request_drawing)

    def limit(self, most: tuple[int, int]) -> None:
        """Change the largest size."""
        if most != self._most:
            self._most = most
            self.refresh(layout=True)

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
        columns, rows = container.width, max(container.height - self._below, 1)
        if self._most is not None:
            # Not the container's size: one of automatic width does not know it yet.
            columns = min(viewport.width, self._most[0])
            rows = min(viewport.height, self._most[1], rows_in_message(viewport.height))
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
            None if self.app.no_color else self.app.console.color_system,
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
        self._name_columns = NAME_COLUMNS

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

    def limit(self, rows: int, columns: int) -> None:
        """Change the largest height, and the number of columns for the name."""
        for area in self.query(PictureArea):
            area.limit((COLUMNS, rows))
        wanted = min(max(columns, NAME_LEAST), NAME_COLUMNS)
        if wanted != self._name_columns:
            self._name_columns = wanted
            if self.is_mounted:
                self._write_name()

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
        name = sanitize_line(self.picture.name, self._name_columns - len(mark))
        self.query_one(".name", Static).update(mark + name)


class PictureRow(Horizontal):
    """The pictures of a message: of one height, and as large as all of them fit beside each other."""

    DEFAULT_CSS = f"PictureRow {{ height: auto; overflow-x: auto; & > * {{ margin-right: {GAP}; }} }}"

    def __init__(self, pictures: Sequence[StoredPicture]) -> None:
        super().__init__(classes="pictures")
        self._pictures = tuple(pictures)

    def compose(self) -> ComposeResult:
        yield from map(Thumbnail, self._pictures)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Limit the pictures' size to what fits into `width`, before they are laid out."""
        rows = rows_in_message(viewport.height)
        while rows > ROWS_LEAST and sum(self._columns(rows)) + GAP * (len(self._pictures) - 1) > width:
            rows -= 1
        for thumbnail, columns in zip(self.query(Thumbnail), self._columns(rows), strict=False):
            thumbnail.limit(rows, columns)
        return super().get_content_height(container, viewport, width)

    def _columns(self, rows: int) -> list[int]:
        """The width of each picture at that height, with its name and size."""
        cell = cell_size()
        sizes = (fit((one.width, one.height), COLUMNS, rows, cell)[0] for one in self._pictures)
        return [max(columns, NAME_LEAST) for columns in sizes]


class LargePhoto(PictureArea, can_focus=True):
    """A picture of the next question, as large as its container allows; a click or a key enlarges it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings_of("picture"),
        Binding("escape,down", "leave", show=False),
    ]

    @dataclass
    class Zoomed(Message):
        """The image should be shown on the whole screen."""

        picture: StoredPicture

    def __init__(self, below: int) -> None:
        """`below`: rows of the container that are left free."""
        super().__init__(below=below)
        self.picture: StoredPicture | None = None
        self._content: StoredPicture | EarlyPreview | None = None

    def show_picture(self, picture: StoredPicture | None, early: EarlyPreview | None = None) -> None:
        """Replace the content, unless it is the same; `early` shows the picture until it is open."""
        before, self._content = self._content, picture or early
        if self._content == before:
            return
        self.picture = picture
        if isinstance(before, EarlyPreview):
            before.close()
        if picture is not None:
            self.show(
                View(picture.path), (picture.width, picture.height), keeps_drawing=before is early is not None
            )
        elif early is not None:
            self._show_early(early)
        else:
            self.show(None)

    def _show_early(self, early: EarlyPreview) -> None:
        colors = None if self.app.no_color else self.app.console.color_system
        if colors not in ("truecolor", "256") or self._protocol == "off":
            early.close()
            return

        def show(pixels: tuple[int, int]) -> None:
            if self._content is early and self.is_attached:
                self.show(View(early), pixels)

        if early.pixels is not None:
            show(early.pixels)
        else:
            self._host.in_background(early.wait, show, lambda _: early.close())

    def on_picture_area_opened(self) -> None:
        """Let the app open the picture by itself."""
        if isinstance(early := self._content, EarlyPreview):
            self.call_after_refresh(early.was_shown.set)

    def on_picture_area_failed(self, event: PictureArea.Failed) -> None:
        """Leave it to the app to open the picture and to say what is wrong with it."""
        if isinstance(self._content, EarlyPreview):
            event.stop()
            self._content.close()

    def on_click(self, event: events.Click) -> None:
        """Enlarge it."""
        event.stop()
        self.action_zoom_picture()

    def action_zoom_picture(self) -> None:
        """Enlarge it."""
        if self.picture is not None:
            self.post_message(self.Zoomed(self.picture))

    def action_leave(self) -> None:
        """Move the focus back to the composer."""
        self.screen.query_one("#composer").focus()


def rows_in_message(height: int) -> int:
    """The most rows of a picture in a message on a screen of that height: the text has room as well."""
    return min(ROWS, max(height // 3, height - TEXT_ROWS, 1))


def size_of(picture: StoredPicture) -> str:
    """Width and height as text."""
    return f"{picture.width} × {picture.height}"
