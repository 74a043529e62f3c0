"""The pictures of a message, each with its name and size under it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.geometry import Offset, Size, Spacing
from textual.layout import ArrangeResult, Layout
from textual.layouts.horizontal import HorizontalLayout
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from minigpt4.tui.history.records import StoredPicture
from minigpt4.tui.images.drawing import COLUMNS, ROWS, View
from minigpt4.tui.images.half_blocks import fit
from minigpt4.tui.images.terminal_protocol import cell_size
from minigpt4.tui.terminal.sanitize import sanitize_line
from minigpt4.tui.widgets.picture import PictureArea, rows_in_message, size_of

if TYPE_CHECKING:
    from minigpt4.tui.app.app import MiniGPT4App

NAME_COLUMNS, NAME_LEAST = 24, 12
"""Maximum columns of a picture's name in a message, and the minimum, under a narrow picture."""

ROWS_LEAST = 6
"""Minimum height of pictures that share a line: lower ones are hard to recognise, so they take more lines."""

GAP, LINE_GAP = 3, 1
"""Columns between the pictures of a message, and lines between its rows of pictures."""


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


class FlowLayout(HorizontalLayout):
    """Places widgets side by side, and those that do not fit in further lines."""

    name = "flow"

    def arrange(
        self, parent: Widget, children: list[Widget], size: Size, greedy: bool = True
    ) -> ArrangeResult:
        """Place the children; a line is as high as its highest child."""
        x = y = below = 0
        placed = []
        for placement in super().arrange(parent, children, size, greedy):
            width, height = placement.region.size
            if x and x + width > size.width:
                x, y = 0, below + LINE_GAP
            region = placement.region.at_offset(Offset(x, y))
            placed.append(placement._replace(region=region, margin=Spacing()))
            x, below = x + width + GAP, max(below, y + height)
        return placed


class PictureRow(Widget):
    """The pictures of a message: of one height, as large as they fit in one line, or in a few."""

    DEFAULT_CSS = "PictureRow { height: auto; overflow-x: auto; overflow-y: hidden; }"

    def __init__(self, pictures: Sequence[StoredPicture]) -> None:
        super().__init__(classes="pictures")
        self._pictures = tuple(pictures)
        self._flow = FlowLayout()

    @property
    def layout(self) -> Layout:
        """Our own layout, which a style could not name."""
        return self._flow

    def compose(self) -> ComposeResult:
        yield from map(Thumbnail, self._pictures)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Limit the pictures' size to what fits into `width`, before they are laid out."""
        most = rows_in_message(viewport.height)
        rows = next((rows for rows in range(most, ROWS_LEAST, -1) if self._lines(rows, width) == 1), 0)
        if not rows:
            # In several lines they are together at most as high as one picture.
            rows = min(most, ROWS_LEAST)
            lines = self._lines(rows, width)
            while lines * (rows + 1) <= most and self._lines(rows + 1, width) == lines:
                rows += 1
        for thumbnail, columns in zip(self.query(Thumbnail), self._columns(rows), strict=False):
            thumbnail.limit(rows, columns)
        return super().get_content_height(container, viewport, width)

    def _lines(self, rows: int, width: int) -> int:
        """How many lines pictures of that height take."""
        lines, x = 1, 0
        for columns in self._columns(rows):
            if x and x + columns > width:
                lines, x = lines + 1, 0
            x += columns + GAP
        return lines

    def _columns(self, rows: int) -> Iterator[int]:
        """The width of each picture at that height, with its name and size."""
        cell = cell_size()
        for one in self._pictures:
            yield max(fit((one.width, one.height), COLUMNS, rows, cell)[0], NAME_LEAST)
