"""The images attached to the next question, each a chip that can be enlarged and removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from minigpt4.tui.history.records import StoredPicture
from minigpt4.tui.settings.bindings import bindings_of
from minigpt4.tui.terminal.sanitize import sanitize_line

NAME_COLUMNS = 24
CROSS = " ✕"


class Chip(Static, can_focus=True):
    """An attached image. A click on its cross removes it, a click elsewhere enlarges it."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("chips"), *bindings_of("picture")]

    @dataclass
    class Removed(Message):
        """The image should be removed; the owner of the images shows the others."""

        picture: StoredPicture

    @dataclass
    class Zoomed(Message):
        """The image should be shown on the whole screen."""

        picture: StoredPicture

    def __init__(self, picture: StoredPicture) -> None:
        name = sanitize_line(picture.name, NAME_COLUMNS)
        super().__init__(
            Content.assemble(
                "▣ ", name, ("  ", ""), (f"{picture.width} × {picture.height}", "$foreground 70%"), CROSS
            ),
            markup=False,
        )
        self.picture = picture

    def on_click(self, event: events.Click) -> None:
        """Remove or enlarge it."""
        event.stop()
        if event.x >= self.outer_size.width - self.styles.padding.right - cell_len(CROSS):
            self.action_remove_picture()
        else:
            self.action_zoom_picture()

    def action_remove_picture(self) -> None:
        """Remove the image."""
        self.post_message(self.Removed(self.picture))

    def action_zoom_picture(self) -> None:
        """Enlarge the image."""
        self.post_message(self.Zoomed(self.picture))


class ChipRow(Horizontal):
    """The chips above the composer; hidden if there are none."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "step(-1)", show=False),
        Binding("right", "step(1)", show=False),
        Binding("escape,down", "leave", show=False),
    ]
    DEFAULT_CSS = """
    ChipRow {
        height: 1;
        width: 100%;
        padding: 0 3;
        display: none;
        overflow-x: auto;
        overflow-y: hidden;
        scrollbar-size-horizontal: 0;

        Chip {
            width: auto;
            height: 1;
            padding: 0 1;
            margin-right: 1;
            background: $panel;
            color: $foreground;
            &:hover { background: $primary 25%; }
            &:focus { background: $primary; color: $block-cursor-foreground; text-style: bold; }
        }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 (Textual's own name)
        super().__init__(id=id)
        self._pictures: tuple[StoredPicture, ...] = ()

    def compose(self) -> ComposeResult:
        yield from map(Chip, self._pictures)

    @property
    def chips(self) -> list[Chip]:
        """From left to right."""
        return list(self.query(Chip))

    def show(self, pictures: Sequence[StoredPicture]) -> None:
        """Show these images; the chips of those that were shown before keep their focus."""
        had, self._pictures = self._pictures, tuple(pictures)
        self.display = bool(pictures)
        if self._pictures != had and self.is_attached:
            self.call_next(self._rebuild)

    def action_step(self, step: int) -> None:
        """Move the focus to a neighboring chip."""
        chips = self.chips
        place = next((place for place, chip in enumerate(chips) if chip.has_focus), 0) + step
        if 0 <= place < len(chips):
            chips[place].focus()

    def action_leave(self) -> None:
        """Move the focus back to the composer."""
        self.screen.query_one("#composer").focus()

    async def _rebuild(self) -> None:
        focused = next((place for place, chip in enumerate(self.chips) if chip.has_focus), None)
        wanted = list(self._pictures)
        for chip in self.chips:
            if wanted and wanted[0] == chip.picture:
                del wanted[0]
            else:
                await chip.remove()
        kept = len(self._pictures) - len(wanted)
        await self.mount_all(Chip(picture) for picture in self._pictures[kept:])
        if focused is None:
            return
        if self.chips:
            self.chips[min(focused, len(self.chips) - 1)].focus()
        else:
            self.action_leave()
