"""Images on the screen: an area drawn as well as the terminal can, and the large photo of an empty
conversation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from minigpt4.core.errors import Minigpt4Error
from minigpt4.tui.history.records import StoredPicture
from minigpt4.tui.images.drawing import ROWS, Drawing, DrawRequest, View, draw
from minigpt4.tui.images.early_preview import EarlyPreview
from minigpt4.tui.images.half_blocks import fit
from minigpt4.tui.images.terminal_protocol import Protocol, cell_size, picture_protocol
from minigpt4.tui.settings.bindings import bindings_of
from minigpt4.tui.widgets.key_line import KeyHint

if TYPE_CHECKING:
    from minigpt4.tui.app.app import MiniGPT4App

TEXT_ROWS = 20
"""Rows of a tall screen that a picture in a message leaves to what is above and below it."""


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

        `keeps_drawing`: the previous drawing is of the same image, and stays until the new one is ready.
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
            # Not the container's size, which is not known yet if its width is automatic.
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

    @property
    def key_hints(self) -> list[KeyHint]:
        """What its keys do."""
        return [KeyHint(("zoom_picture",), "zoom", "focused.zoom_picture")]

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
        """Let the app open the picture itself."""
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
    """The maximum rows of a picture in a message on a screen of that height, with room left for text."""
    return min(ROWS, max(height // 3, height - TEXT_ROWS, 1))


def size_of(picture: StoredPicture) -> str:
    """Width and height as text."""
    return f"{picture.width} × {picture.height}"
