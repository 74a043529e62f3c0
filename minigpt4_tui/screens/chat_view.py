"""The conversation as it is drawn: what changes in it comes here, one thing after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Static

from minigpt4.tui.conversation.conversation import Talk
from minigpt4.tui.conversation.engine_status import EngineStatus
from minigpt4.tui.conversation.updates import Added, Change, Changed, Grew, Measured, Opened, Phased
from minigpt4.tui.history.store import StoredMessage
from minigpt4.tui.screens import plug
from minigpt4.tui.terminal.sanitize import sanitize_line
from minigpt4.tui.widgets.composer import Composer
from minigpt4.tui.widgets.footer import ChatFooter
from minigpt4.tui.widgets.message import MessageView
from minigpt4.tui.widgets.status import Room, Speed, StatusLine
from minigpt4.tui.widgets.transcript import Transcript
from minigpt4.tui.widgets.welcome import Welcome

if TYPE_CHECKING:
    from minigpt4.tui.app.app import MiniGPT4App
    from minigpt4.tui.widgets.engine_error import EngineErrorCard

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
        self._changes: asyncio.Queue[Change] = asyncio.Queue()
        self._advised: set[tuple[str, bool]] = set()

    @property
    def talk(self) -> Talk:
        """The conversation that is shown."""
        return self.host.talk

    def compose(self) -> ComposeResult:
        key = self.host.key
        ways = (
            (key("pick_picture"), "choose pictures, or drop them on this window", "pick_picture"),
            (key("paste"), "paste a picture from the clipboard", "paste"),
            ("/", "all commands, such as /image PATH", "offer_commands"),
            (key("help"), "all keys", "help"),
        )
        with Horizontal(id="body"), Vertical(id="conversation"):
            yield Static("", id="title", markup=False)
            yield Welcome(ways)
            yield Transcript(self._make)
            yield ChatFooter(still=self.host.settings.reduced_motion, leave_key=key("stop"))

    def on_mount(self) -> None:
        """An empty conversation, until another is opened."""
        self.transcript.display = False
        self._draw_title()
        self.host.conversations_changed.subscribe(self, self._retitle)
        self.beside(self._keep_drawing())

    # Drawing

    @property
    def transcript(self) -> Transcript:
        """The messages."""
        return self.query_one(Transcript)

    @property
    def composer(self) -> Composer:
        """Where the person types."""
        return self.footer.composer

    @property
    def status(self) -> StatusLine:
        """The line below."""
        return self.footer.status

    @property
    def footer(self) -> ChatFooter:
        """What waits to be said."""
        return self.query_one(ChatFooter)

    def show_engine(self, engine: EngineStatus) -> None:
        """What has become of the engine."""
        self.status.engine = engine
        self._show_engine_error(engine)
        self.footer.count_pictures(engine.image_tokens)
        if engine.context and self.status.room.context != engine.context:
            self.status.room = Room(self.status.room.positions, self.status.room.pending, engine.context)

    def _show_engine_error(self, engine: EngineStatus) -> None:
        """The card is made when something breaks for the first time."""
        for card in self.query("#engine-error"):
            cast("EngineErrorCard", card).show(engine)
            return
        if engine.state == "dead":
            from minigpt4.tui.widgets.engine_error import EngineErrorCard

            keys = [self.host.key(action) for action in ("restart_engine", "models", "settings")]
            self.query_one("#conversation").mount(EngineErrorCard(keys, engine), before="#footer")

    @on(Happened)
    def _happened(self, event: Happened) -> None:
        self._changes.put_nowait(event.change)

    async def _keep_drawing(self) -> None:
        while True:
            await self._draw(await self._changes.get())

    def beside(self, work: Coroutine[object, object, None]) -> None:
        """Do something beside the screen's own work: what is laid out waits for the screen.

        So the screen must not wait for it. An app that ends takes away the widgets it is about.
        """

        async def run() -> None:
            try:
                await work
            except Exception as error:
                # As for an error of the screen's own; a worker would wrap it up.
                if self.app.is_running:
                    self.app._handle_exception(error)

        self.run_worker(run())

    async def _draw(self, change: Change) -> None:
        match change:
            case Opened(landing):
                await self._draw_opened(landing)
            case Added():
                await self.transcript.add(tuple(self.talk.path))
                self._draw_emptiness()
            case Grew(message_id):
                view = self.transcript.view(message_id)
                if view is not None:
                    view.grow(self.talk.as_it_stands(view.message).text)
                self.status.tell_speed(Speed(change.first_token_s, change.tokens_per_s))
            case Changed(message):
                await self._draw_changed(message)
            case Phased(phase):
                self.status.phase = phase
                if phase is not None and phase != "writing":
                    self.status.speed = Speed()
                if self.talk.answering and (view := self.transcript.view(self.talk.answering.message)):
                    view.show_phase(phase)
            case Measured(positions, context, dropped):
                self._draw_room(Room(positions, self.status.room.pending, context, dropped))

    async def _draw_opened(self, landing: str | None) -> None:
        self.footer.leave_editing()
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

    def _draw_room(self, room: Room) -> None:
        """The bar; and once in a conversation what to do before it is full, and when it is."""
        self.status.room = room
        current = self.talk.conversation
        told = (current.id if current is not None else "", bool(room.dropped))
        if room.advice and told not in self._advised:
            self._advised |= {told, (told[0], False)}
            self.host.say(room.advice.format(key=self.host.key("new_conversation")), "warning")

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
        self.query_one("#title", Static).update(sanitize_line(title, 60) or "New conversation")

    def _retitle(self, conversation: str) -> None:
        """The conversation may have been given its title, or another, here or by another instance."""
        current = self.talk.conversation
        if current is not None and conversation in ("", current.id):
            self.host.guarded(self.talk.look_again, rarely=True)
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
