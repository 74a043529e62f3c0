"""The images attached to the next question, each a chip that can be enlarged and removed.

A chip exists before its image is open, and stays if it cannot be opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.geometry import Region
from textual.message import Message
from textual.widgets import Static

from minigpt4.tui.conversation.draft import DraftPicture
from minigpt4.tui.settings.bindings import bindings_of
from minigpt4.tui.terminal.sanitize import sanitize_line
from minigpt4.tui.widgets.key_line import KeyHint

NAME_COLUMNS = 24
CROSS = " ✕"


class Chip(Static, can_focus=True):
    """An attached image. A click on its cross removes it, a click elsewhere enlarges it."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("chips"), *bindings_of("picture")]

    @dataclass
    class Removed(Message):
        """The image should be removed; the owner of the images shows the others."""

        picture: DraftPicture

    @dataclass
    class Zoomed(Message):
        """The image should be shown on the whole screen."""

        picture: DraftPicture

    def __init__(self, picture: DraftPicture) -> None:
        super().__init__(markup=False)
        self.picture = picture
        self.draw()

    @property
    def key_hints(self) -> list[KeyHint]:
        """What its keys do."""
        zoom = KeyHint(("zoom_picture",), "why" if self.picture.problem else "zoom", "focused.zoom_picture")
        return [zoom, KeyHint(("remove_picture",), "take out", "focused.remove_picture")]

    def draw(self) -> None:
        """Show whether the image is open."""
        picture, stored = self.picture, self.picture.stored
        mark, state, color = "▢ ", "opening …", "$foreground 70%"
        if stored is not None:
            mark, state = "▣ ", f"{stored.width} × {stored.height}"
        elif picture.problem:
            state, color = "cannot be opened", "$text-error"
        name = sanitize_line(picture.name, NAME_COLUMNS)
        self.set_class(bool(picture.problem), "-failed")
        self.update(Content.assemble(mark, name, ("  ", ""), (state, color), CROSS))

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


class MoreChips(Static):
    """The number of chips that do not fit beside it; a click goes to them."""

    def on_click(self, event: events.Click) -> None:
        """Go to the next ones."""
        event.stop()
        cast("ChipRow", self.parent).action_reveal()


class ChipRow(Horizontal):
    """The chips above the composer, hidden if there are none; those that do not fit are counted."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "step(-1)", show=False),
        Binding("right", "step(1)", show=False),
        Binding("home", "step(-1000)", show=False),
        Binding("end", "step(1000)", show=False),
        Binding("escape,down", "leave", show=False),
    ]
    DEFAULT_CSS = """
    ChipRow {
        height: 1;
        width: 100%;
        padding: 0 3;
        display: none;

        #chips-in-view {
            height: 1;
            width: 1fr;
            overflow-x: auto;
            overflow-y: hidden;
            scrollbar-size-horizontal: 0;
        }
        MoreChips { width: auto; height: 1; padding: 0 1; color: $text-accent; display: none; }
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
        self._pictures: tuple[DraftPicture, ...] = ()

    def compose(self) -> ComposeResult:
        with Horizontal(id="chips-in-view"):
            yield from map(Chip, self._pictures)
        yield MoreChips(markup=False)

    def on_mount(self) -> None:
        """Count the chips that do not fit whenever another part of the row is in view."""
        self.watch(self._view, "scroll_x", self._count, init=False)

    @property
    def chips(self) -> list[Chip]:
        """The chips from left to right."""
        return list(self.query(Chip))

    def show(self, pictures: Sequence[DraftPicture]) -> None:
        """Show these images; the chips of those that were shown before keep their focus."""
        self._pictures = tuple(pictures)
        self.display = bool(pictures)
        if self.is_attached:
            self.call_next(self._rebuild)

    def action_step(self, step: int) -> None:
        """Move the focus to a neighboring chip, at most to the first or last."""
        chips = self.chips
        place = next((place for place, chip in enumerate(chips) if chip.has_focus), 0) + step
        if chips:
            chips[min(max(place, 0), len(chips) - 1)].focus()

    def action_leave(self) -> None:
        """Move the focus back to the composer."""
        self.screen.query_one("#composer").focus()

    def action_reveal(self) -> None:
        """Focus the first chip that is out of view to the right; at the end, the first of all."""
        chips = self.chips
        right = self._view.scroll_x + self._view.size.width
        hidden = (chip for chip in chips if chip.virtual_region.right > right)
        if chips:
            next(hidden, chips[0]).focus()

    def on_resize(self) -> None:
        """Count again, as another number of chips may fit."""
        self.call_after_refresh(self._count)

    @property
    def _view(self) -> Horizontal:
        return self.query_one("#chips-in-view", Horizontal)

    def _count(self) -> None:
        """Show how many chips are not fully in view."""
        chips, view, line = self.chips, self._view, self.query_one(MoreChips)
        fits = not chips or chips[-1].virtual_region.right <= self.content_size.width
        if line.display == fits:
            # The line takes room from the chips.
            line.display = not fits
            self.call_after_refresh(self._count)
        if fits:
            return
        left, width = int(view.scroll_x), view.size.width
        line.update(f"+{sum(not _is_within(chip.virtual_region, left, width) for chip in chips)}")

    async def _rebuild(self) -> None:
        focused = next((chip for chip in self.chips if chip.has_focus), None)
        place = self.chips.index(focused) if focused is not None else 0
        wanted = list(self._pictures)
        for chip in self.chips:
            if wanted and wanted[0] is chip.picture:
                del wanted[0]
                chip.draw()
            else:
                await chip.remove()
        kept = len(self._pictures) - len(wanted)
        await self._view.mount_all(Chip(picture) for picture in self._pictures[kept:])
        self.call_after_refresh(self._count)
        if focused is None or focused in self.chips:
            # Not focused again: the composer may have been given the focus in the meantime.
            return
        if self.chips:
            self.chips[min(place, len(self.chips) - 1)].focus()
        else:
            self.action_leave()


def _is_within(chip: Region, left: int, width: int) -> bool:
    """Whether a chip is fully in view, or at least its beginning if it is wider than that."""
    return left <= chip.x < left + width and (chip.right <= left + width or chip.width >= width)
