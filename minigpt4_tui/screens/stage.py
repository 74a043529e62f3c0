"""The conversation as it is drawn: what changes in it comes here, one thing after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Static

from minigpt4.tui.changes import Added, Change, Changed, Grew, Measured, Opened, Phased
from minigpt4.tui.engine_status import EngineStatus
from minigpt4.tui.screens import plug
from minigpt4.tui.store import StoredMessage
from minigpt4.tui.talk import Talk
from minigpt4.tui.text import shown_line
from minigpt4.tui.widgets.composer import Composer
from minigpt4.tui.widgets.foot import Foot
from minigpt4.tui.widgets.message import MessageView
from minigpt4.tui.widgets.status import Room, Speed, StatusLine
from minigpt4.tui.widgets.transcript import Transcript
from minigpt4.tui.widgets.trouble import TroubleCard
from minigpt4.tui.widgets.welcome import Welcome

if TYPE_CHECKING:
    from minigpt4.tui.app import MiniGPT4App

ROOM_FOR_SIDEBAR = 100
"""Columns from which on the list of conversations is shown by itself."""


class Stage(Screen[None]):
    """Transcript, composer and status line, and the list of conversations beside them."""

    # Not ClassVar: Screen declares both as a field of each screen.
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (40, "-narrow"), (100, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (14, "-tall")]  # noqa: RUF012
    AUTO_FOCUS = "#composer"

    @dataclass
    class Happened(Message):
        """Something in the conversation is to be drawn."""

        change: Change

    def __init__(self, host: MiniGPT4App) -> None:
        super().__init__()
        self.host = host
        self._sidebar_wanted: bool | None = None

    @property
    def talk(self) -> Talk:
        """The conversation that is shown."""
        return self.host.talk

    def compose(self) -> ComposeResult:
        key = self.host.key
        ways = (
            (key("pick_picture"), "choose pictures, or drop them on this window"),
            (key("paste"), "paste a picture from the clipboard"),
            ("/", "all commands, such as /image PATH"),
            (key("help"), "all keys"),
        )
        with Horizontal(id="body"), Vertical(id="conversation"):
            yield Static("", id="title", markup=False)
            yield Welcome(ways)
            yield Transcript(self._make)
            yield TroubleCard((key("restart_engine"), key("models"), key("settings")))
            yield Foot(still=self.host.settings.reduced_motion, leave_key=key("stop"))

    def on_mount(self) -> None:
        """An empty conversation, until another is opened."""
        for name in ("#trouble", "#transcript"):
            self.query_one(name).display = False
        self._draw_title()

    # Drawing

    @property
    def transcript(self) -> Transcript:
        """The messages."""
        return self.query_one(Transcript)

    @property
    def composer(self) -> Composer:
        """Where the person types."""
        return self.foot.composer

    @property
    def status(self) -> StatusLine:
        """The line below."""
        return self.foot.status

    @property
    def foot(self) -> Foot:
        """What waits to be said."""
        return self.query_one(Foot)

    def show_engine(self, engine: EngineStatus) -> None:
        """What has become of the engine."""
        self.status.engine = engine
        self.query_one(TroubleCard).show(engine)
        self.foot.count_pictures(engine.image_tokens)
        if engine.context and self.status.room.context != engine.context:
            self.status.room = Room(self.status.room.positions, self.status.room.pending, engine.context)

    @on(Happened)
    async def _draw(self, event: Happened) -> None:
        match event.change:
            case Opened(landing):
                await self._draw_opened(landing)
            case Added():
                await self.transcript.add(tuple(self.talk.path))
                self._draw_emptiness()
            case Grew(message_id, _):
                view = self.transcript.view(message_id)
                if view is not None:
                    view.grow(self.talk.as_it_stands(view.message).text)
            case Changed(message):
                await self._draw_changed(message)
            case Phased(phase):
                self.status.phase = phase
                if self.talk.answering and (view := self.transcript.view(self.talk.answering.message)):
                    view.show_phase(phase)
            case Measured(positions, context, dropped):
                self.status.room = Room(positions, self.status.room.pending, context, dropped)

    async def _draw_opened(self, landing: str | None) -> None:
        self.foot.leave_editing()
        self._draw_emptiness()
        await self.transcript.show(tuple(self.talk.path), landing)
        if landing and (view := self.transcript.view(landing)):
            view.focus(scroll_visible=False)
        if not self.talk.path:
            self.status.room = Room(0, self.status.room.pending, self.status.room.context)
            self.status.speed = Speed()

    async def _draw_changed(self, message: StoredMessage) -> None:
        view = self.transcript.view(message.id)
        if view is not None:
            # Newer than the message that was told, where more has happened since.
            now = self.talk.message(message.id) or message
            await view.settle(self.talk.as_it_stands(now), self._variant(now))
        speed = Speed.of(message.stats)
        if str(speed):
            self.status.speed = speed

    def _draw_emptiness(self) -> None:
        empty = not self.talk.path
        self.query_one(Welcome).display = empty
        self.transcript.display = not empty
        self._draw_title()

    def _draw_title(self) -> None:
        info = self.host.talk.conversation if self.host.talk else None
        title = info.title if info is not None else ""
        if not title and self.talk.path:
            title = self.talk.path[0].text
        self.query_one("#title", Static).update(shown_line(title, 60) or "New conversation")

    def retitle(self) -> None:
        """The conversation may have been renamed."""
        self._draw_title()

    def _make(self, message: StoredMessage) -> MessageView:
        return MessageView(self.talk.as_it_stands(message), variant=self._variant(message))

    def _variant(self, message: StoredMessage) -> tuple[int, int]:
        return self.host.guarded(lambda: self.talk.variants(message.id)) or (0, 1)

    # The list of conversations

    @property
    def shows_sidebar(self) -> bool:
        """Whether the list is to be seen now."""
        if self._sidebar_wanted is not None:
            return self._sidebar_wanted
        wanted = self.host.settings.sidebar
        return wanted == "open" or (wanted == "auto" and self.size.width >= ROOM_FOR_SIDEBAR)

    async def action_toggle_sidebar(self) -> None:
        """Show the list and go to it, or hide it."""
        self._sidebar_wanted = not self.shows_sidebar
        await self.draw_sidebar()
        if self._sidebar_wanted:
            for sidebar in self.query("#sidebar"):
                sidebar.focus() if sidebar.can_focus else sidebar.query("*").focus()
        else:
            self.composer.focus()

    async def draw_sidebar(self) -> None:
        """Show or hide the list; it is made when it is first seen."""
        found = self.query("#sidebar")
        if not found and self.shows_sidebar:
            await self.query_one("#body").mount(plug("sidebar")(id="sidebar"), before="#conversation")
        for sidebar in found:
            sidebar.display = self.shows_sidebar

    async def on_resize(self, _event: events.Resize) -> None:
        """Where the width decides over the list, it may have changed."""
        if self.is_mounted and self.host.is_begun:
            await self.draw_sidebar()
