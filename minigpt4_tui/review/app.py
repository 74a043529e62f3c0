"""The base of both reviews: a picture, the texts beside it, the progress, and the keys."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from minigpt4.core.errors import Minigpt4Error
from minigpt4.tui.app.standalone import StandaloneApp
from minigpt4.tui.images.drawing import View
from minigpt4.tui.images.terminal_protocol import picture_protocol
from minigpt4.tui.settings.settings import Loaded
from minigpt4.tui.terminal.messages import sentence
from minigpt4.tui.terminal.sanitize import sanitize
from minigpt4.tui.widgets.key_line import KeyLine, action_link, flow
from minigpt4.tui.widgets.picture import PictureArea

UNREAD_S = 0.3
"""Seconds in which nobody can read a text: a key held down, or pressed twice, decides nothing."""


class ReviewApp(StandaloneApp, inherit_bindings=False):
    """The picture is beside the texts where there is room, else above them."""

    AUTO_FOCUS = None
    HORIZONTAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-narrow"), (64, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-flat"), (16, "-tall"), (30, "-high")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        *StandaloneApp.BINDINGS,
        Binding("backspace", "undo", show=False),
        Binding("z", "zoom", show=False),
        Binding("down,j", "scroll(1)", show=False),
        Binding("up,k", "scroll(-1)", show=False),
        Binding("pagedown,space", "page(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
    ]
    CSS = (
        StandaloneApp.CSS
        + """
    #place { height: 1; width: 100%; padding: 0 2; text-wrap: nowrap; text-overflow: ellipsis; }
    #bar { height: 1; width: 100%; padding: 0 2; margin-bottom: 1; }
    #middle { height: 1fr; width: 100%; padding: 0 2; }
    #photo { align: center top; width: 1fr; height: 1fr; }
    #missing { display: none; width: 100%; height: auto; padding: 1 2; background: $surface;
               color: $text-muted; }
    #texts { width: 1fr; height: 1fr; scrollbar-gutter: stable; }
    #keys { width: 100%; height: auto; padding: 0 2; margin-top: 1; color: $text-muted; }
    .-wide #middle { layout: horizontal; }
    .-wide #photo { height: 100%; margin-right: 2; }
    .-wide #texts { height: 100%; }
    .-narrow #photo { max-height: 50%; margin-bottom: 1; }
    .-zoomed #texts { display: none; }
    .-zoomed #photo, .-narrow.-zoomed #photo { max-height: 100%; margin: 0; }
    .-done #photo { display: none; }
    .-high #place { margin-top: 1; }
    .-high #keys { margin-bottom: 1; }
    .-flat #bar { display: none; }
    .-flat #keys { margin: 0; }
    """
    )

    def __init__(self, loaded: Loaded) -> None:
        super().__init__(loaded)
        self._shown_at = 0.0
        self._about: object = None
        """The item whose picture is shown or being read."""

    def compose(self) -> ComposeResult:
        yield Static(id="place", markup=False)
        yield Static(id="bar", markup=False)
        with Container(id="middle"):
            with Container(id="photo"):
                yield PictureArea()
                yield Static(id="missing", markup=False)
            with VerticalScroll(id="texts", can_focus=False):
                yield from self.texts()
        yield KeyLine(id="keys", is_plain=False)

    # Textual's metaclass is not ABCMeta, so only mypy rejects an app without these.

    @abstractmethod
    def texts(self) -> Iterable[Widget]:
        """The widgets of the texts to be read."""

    @abstractmethod
    def draw(self) -> None:
        """Show the item to decide about now."""

    @abstractmethod
    def action_undo(self) -> None:
        """Undo the last decision."""

    def on_mount(self) -> None:
        """Show the first item."""
        self.draw()

    def on_resize(self, _: events.Resize) -> None:
        """Fit the bar and the keys to the new width."""
        self.call_after_refresh(self.draw)

    # Drawing

    def show_place(self, text: str | Content, done: int, total: int) -> None:
        """Show the progress, as text and as a bar."""
        self.query_one("#place", Static).update(sanitize(text) if isinstance(text, str) else text)
        columns = max(self.size.width - 4, 0)
        full = columns * done // max(total, 1)
        bar = Content.assemble(("━" * full, "$primary"), ("─" * (columns - full), "$foreground 40%"))
        self.query_one("#bar", Static).update(bar)

    def show_keys(self, *keys: tuple[str, str, str]) -> None:
        """Show what keys do; each is a label, what it does, and the action of a click on it."""
        parts = [
            action_link(Content.assemble((label, "$foreground bold"), (f" {about}", "$text-muted")), action)
            for label, about, action in keys
        ]
        self.query_one(KeyLine).update(flow(parts, max(self.size.width - 4, 1)))

    def show_picture(self, about: object, read: Callable[[], bytes]) -> None:
        """Show the picture of `about`, unless it is shown already; `read` runs on a background thread."""
        if about is self._about:
            return
        self._about = about
        self._shown_at = time.monotonic()
        self.query_one("#texts", VerticalScroll).scroll_home(animate=False)
        if picture_protocol(self.settings.images) == "off":
            self._show_missing("Pictures are not drawn: the setting images is off.")
            return
        self.in_background(
            read,
            lambda found: self._picture_read(about, found),
            lambda error: self._read_failed(about, error),
        )

    def _picture_read(self, about: object, found: bytes) -> None:
        if about is self._about and self.query(PictureArea):
            self.query_one("#missing").display = False
            area = self.query_one(PictureArea)
            area.display = True
            area.show(View(found))

    def _read_failed(self, about: object, error: Exception) -> None:
        if about is self._about and self.query(PictureArea):
            self._show_missing(str(error) if isinstance(error, Minigpt4Error) else sentence(error))

    def _show_missing(self, why: str) -> None:
        self.query_one(PictureArea).display = False
        missing = self.query_one("#missing", Static)
        missing.update(sanitize(why))
        missing.display = True

    @on(PictureArea.Failed)
    def _drawing_failed(self, event: PictureArea.Failed) -> None:
        event.stop()
        self._show_missing(event.sentence)

    # Keys

    def is_read(self) -> bool:
        """Whether the user has had time to read what is shown."""
        return time.monotonic() - self._shown_at >= UNREAD_S

    def action_zoom(self) -> None:
        """Give the picture the whole screen, or the texts their part again."""
        self.screen.toggle_class("-zoomed")

    def action_scroll(self, by: int) -> None:
        """Scroll the texts by lines."""
        self.query_one("#texts").scroll_relative(y=by, animate=False)

    def action_page(self, by: int) -> None:
        """Scroll the texts by their height."""
        texts = self.query_one("#texts")
        texts.scroll_relative(y=by * max(texts.size.height - 2, 1), animate=False)

    @on(KeyLine.Clicked)
    async def _key_clicked(self, event: KeyLine.Clicked) -> None:
        event.stop()
        await self.run_action(event.action)
