"""What an empty conversation shows: how to start, or the photo that can be asked about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from minigpt4.tui.conversation.draft import DraftPicture
from minigpt4.tui.terminal.sanitize import sanitize_line
from minigpt4.tui.widgets.key_line import KeyLine, action_link

if TYPE_CHECKING:
    from minigpt4.tui.widgets.picture import PictureArea

BELOW_PHOTO = 3
"""Rows under the photo: its name, an invitation to ask, and an empty one."""

NAME_COLUMNS = 40


class Welcome(Vertical):
    """A few centered lines; `ways` are keys (or commands), descriptions and actions.

    Once the next question has a picture, that is shown instead, as large as fits.
    """

    def __init__(self, ways: tuple[tuple[str, str, str], ...]) -> None:
        super().__init__(id="welcome")
        self.picture: DraftPicture | None = None
        self._ways = ways

    def compose(self) -> ComposeResult:
        yield Static("minigpt4", classes="name", markup=False)
        motto = "Talk about your own pictures. Nothing leaves this machine."
        yield Static(motto, classes="motto", markup=False)
        yield KeyLine(self._lines(), is_plain=False, classes="ways")

    def show_ways(self, ways: tuple[tuple[str, str, str], ...]) -> None:
        """Show other keys: they may be changed at any time. An empty row keeps its space."""
        if ways == self._ways:
            return
        self._ways = ways
        self.query_one(".ways", KeyLine).update(self._lines())

    def _lines(self) -> Content:
        width = max(len(key) for key, _, _ in self._ways)
        lines = [
            action_link(Content.assemble((key.rjust(width), "$text-accent"), f"   {about}"), action)
            for key, about, action in self._ways
        ]
        return Content("\n").join(lines)

    async def show_photo(self, picture: DraftPicture | None) -> None:
        """Show a picture, or its name until it is open; None shows the ways to start again."""
        if picture is None and self.picture is None:
            return
        # Imported when it is first needed: a start without a picture must not wait for it.
        from minigpt4.tui.widgets.picture import LargePhoto

        self.picture = picture
        self.set_class(picture is not None, "-photo")
        stored = picture.stored if picture is not None else None
        early = picture.source.early if picture is not None and picture.source is not None else None
        if not self.query(LargePhoto):
            await self.mount(
                LargePhoto(BELOW_PHOTO),
                Static(classes="photo-name", markup=False),
                Static("Ask about it", classes="ask", markup=False),
            )
        if self.picture is not picture:
            return  # another was given meanwhile
        self.query_one(LargePhoto).show_picture(stored, early)
        if picture is not None:
            self._describe(f"{stored.width} × {stored.height}" if stored is not None else "opening …")

    def on_picture_area_failed(self, event: PictureArea.Failed) -> None:
        """Say so under its name; the file may have been deleted since it was opened."""
        event.stop()
        self._describe("cannot be shown any more")

    def _describe(self, state: str) -> None:
        name = sanitize_line(self.picture.name, NAME_COLUMNS) if self.picture is not None else ""
        self.query_one(".photo-name", Static).update(
            Content.assemble((name, "bold"), "   ", (state, "$text-muted"))
        )
