"""The layout of the chat screen, and how updates of the conversation are drawn."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Static

from minigpt4.tui.conversation.conversation import Conversation
from minigpt4.tui.conversation.draft import Draft
from minigpt4.tui.conversation.engine_status import EngineStatus
from minigpt4.tui.conversation.question_history import MAX_LISTED, QuestionHistory
from minigpt4.tui.conversation.updates import (
    MessageAdded,
    MessageChanged,
    PathOpened,
    PhaseChanged,
    TextAdded,
    Update,
    UsageChanged,
)
from minigpt4.tui.history.store import StoredMessage
from minigpt4.tui.terminal.sanitize import sanitize_line
from minigpt4.tui.widgets.chips import Chip
from minigpt4.tui.widgets.composer import Composer
from minigpt4.tui.widgets.footer import ChatFooter
from minigpt4.tui.widgets.key_line import HasKeys, KeyHint, action_link
from minigpt4.tui.widgets.message import MessageView
from minigpt4.tui.widgets.status import ContextUsage, Speed, StatusLine
from minigpt4.tui.widgets.transcript import Transcript
from minigpt4.tui.widgets.welcome import Welcome

if TYPE_CHECKING:
    from minigpt4.tui.app.app import MiniGPT4App
    from minigpt4.tui.sidebar.sidebar import Sidebar
    from minigpt4.tui.widgets.engine_error import EngineErrorCard

SIDEBAR_COLUMNS = 100
"""Columns from which the list of conversations is shown automatically."""

COVERING_COLUMNS = 60
"""Columns below which the list covers the conversation, and is shown only while it has the focus."""


class ChatView(Screen[None]):
    """Transcript, composer and status line, and the list of conversations beside them."""

    # Not ClassVar: Screen declares both as instance fields.
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (40, "-narrow"), (100, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (14, "-tall")]  # noqa: RUF012
    AUTO_FOCUS = "#composer"

    def __init__(self, host: MiniGPT4App) -> None:
        super().__init__()
        self.host = host
        self.draft = Draft()
        self.history = QuestionHistory(lambda: host.guarded(lambda: host.store.questions(MAX_LISTED)) or [])
        self._sidebar_wanted: bool | None = None
        self._sidebar_covers = False
        self._drawing = asyncio.Lock()
        self._advised: set[tuple[str, bool]] = set()
        self._notified: set[str] = set()

    @property
    def conversation(self) -> Conversation:
        """The conversation that is shown."""
        return self.host.conversation

    def compose(self) -> ComposeResult:
        # Textual sets these at the first Resize, which comes after a first frame without them.
        breakpoints = self.HORIZONTAL_BREAKPOINTS, self.VERTICAL_BREAKPOINTS
        for points, size in zip(breakpoints, self.app.size, strict=True):
            # They style only the widgets in the screen, which are mounted later: an update would take 5 ms.
            self.add_class(max(point for point in points if point[0] <= size)[1], update=False)
        still = self.host.settings.reduced_motion
        with Horizontal(id="body"):
            if self.shows_sidebar:
                # The list is mounted after the first frame, and then moves nothing.
                yield Widget(id="sidebar-room")
            with Vertical(id="conversation"):
                yield Static("", id="title", markup=False)
                yield Welcome(self._ways(is_typing=True))
                yield Transcript(self._make)
                yield ChatFooter(self.draft, self.history, still=still, key=self.host.key)

    def on_screen_resume(self, event: events.ScreenResume) -> None:
        """At the start keep the styles, which are up to date: computing them again takes 8 ms."""
        if not self.host.is_begun:
            event.refresh_styles = False

    def on_mount(self) -> None:
        """Show an empty conversation until another is opened."""
        self.transcript.display = False
        self._draw_title()
        self.host.conversations_changed.subscribe(self, self._retitle)
        self.host.settings_changed.subscribe(self, self._show_changed_key)
        self.watch(self, "focused", self.draw_hints, init=False)

    def _ways(self, *, is_typing: bool) -> tuple[tuple[str, str, str], ...]:
        """How to begin, with the current keys. A slash begins a command only `is_typing`."""
        key = self.host.key
        commands = ("/", "all commands, such as /image PATH", "offer_commands")
        return (
            (key("pick_picture"), "choose pictures, or drop them here", "pick_picture"),
            (key("paste"), "paste a picture from the clipboard", "paste"),
            (key("help"), "all keys", "help"),
            commands if is_typing else ("", "", ""),
        )

    def _show_changed_key(self, setting: str) -> None:
        if setting.startswith("keys."):
            self.draw_hints()

    def draw_hints(self) -> None:
        """Show the keys that work where the focus is, and no others."""
        self.query_one(Welcome).show_ways(self._ways(is_typing=self.footer.is_typing))
        self.footer.draw_hints()
        self.status.keys = tuple(self._focus_keys())

    def _focus_keys(self) -> Iterator[Content]:
        """What keys do with the message or the picture that has the focus; the way back is last."""
        focused = self.focused
        if not isinstance(focused, HasKeys):
            return
        hints = focused.key_hints
        is_idle = self.conversation.answering is None
        if isinstance(focused, MessageView):
            if is_idle:
                hints.insert(2, KeyHint(("regenerate",), "again", "regenerate"))
            if is_idle and self.conversation.path and focused.message.id == self.conversation.path[-1].id:
                hints.append(KeyHint(("continue_answer",), "go on", "continue_answer"))
        for hint in hints:
            keys = "/".join(self.host.key(action) for action in hint.actions if self.host.keys_of(action))
            if keys:
                yield action_link(f"{keys} {hint.about}", hint.link)
        if not isinstance(focused, MessageView):
            yield action_link("Esc back", "stop")
        elif not self.draft.held and self.host.keys_of("stop"):
            yield action_link(f"{self.host.key('stop')} {'back' if is_idle else 'stops'}", "stop")

    # Drawing

    @property
    def transcript(self) -> Transcript:
        """The messages."""
        return self.query_one(Transcript)

    @property
    def composer(self) -> Composer:
        """The text area."""
        return self.footer.composer

    @property
    def status(self) -> StatusLine:
        """The line below."""
        return self.footer.status

    @property
    def footer(self) -> ChatFooter:
        """The bottom of the screen."""
        return self.query_one(ChatFooter)

    def show_engine(self, engine: EngineStatus) -> None:
        """Show the engine's state."""
        self.status.engine = engine
        self._show_engine_error(engine)
        self.footer.count_pictures(engine.image_tokens)
        if engine.context and self.status.usage.context != engine.context:
            self.status.usage = replace(self.status.usage, context=engine.context, dropped=0)

    def _show_engine_error(self, engine: EngineStatus) -> None:
        """Update the error card, which is mounted on the first error."""
        for card in self.query("#engine-error"):
            cast("EngineErrorCard", card).show(engine)
            return
        if engine.state == "dead":
            from minigpt4.tui.widgets.engine_error import EngineErrorCard

            keys = [self.host.key(action) for action in ("restart_engine", "models", "settings")]
            self.query_one("#conversation").mount(EngineErrorCard(keys, engine), before="#footer")

    def beside(self, work: Coroutine[object, object, None]) -> None:
        """Run work as a task: this screen lays out the widgets it mounts, and so must not wait for it.

        Errors are ignored once the app exits, which removes the widgets.
        """

        async def run() -> None:
            try:
                await work
            except Exception as error:
                # Handled like an error of the screen itself; a worker would wrap the exception.
                if self.app.is_running:
                    self.app._handle_exception(error)

        self.run_worker(run())

    def show_update(self, update: Update) -> None:
        """Draw an update of the conversation: messages one after another, everything else at once.

        Text must not wait: a view gets each delta exactly once, either by `grow` or, if it is created
        later, in the message's text.
        """
        if not self.is_running or self.host.is_leaving:
            return
        match update:
            case TextAdded(message, text, first_token_s, tokens_per_s, is_reasoning):
                if view := self.transcript.view(message):
                    (view.think if is_reasoning else view.grow)(text)
                self.status.update_speed(Speed(first_token_s, tokens_per_s))
            case PhaseChanged(phase):
                self.status.phase = phase
                self.draw_hints()
                if phase is not None and phase != "decode":
                    self.status.speed = Speed()
                answering = self.conversation.answering
                if answering and (view := self.transcript.view(answering.message)):
                    view.show_phase(phase)
            case UsageChanged(positions, context, dropped):
                self._draw_usage(ContextUsage(positions, self.status.usage.pending, context, dropped))
            case PathOpened() | MessageAdded() | MessageChanged():
                self.beside(self._draw(update))

    async def _draw(self, update: PathOpened | MessageAdded | MessageChanged) -> None:
        async with self._drawing:
            match update:
                case PathOpened(landing):
                    await self._draw_opened(landing)
                case MessageAdded():
                    await self.transcript.add(tuple(self.conversation.path))
                    self._draw_emptiness()
                    self._notify_by_itself()
                case MessageChanged(message):
                    await self._draw_changed(message)
            self.draw_hints()

    async def _draw_opened(self, landing: str | None) -> None:
        self.footer.leave_editing()
        self._draw_emptiness()
        await self.transcript.show(tuple(self.conversation.path), landing)
        if landing and (view := self.transcript.view(landing)):
            view.focus(scroll_visible=False)
        if not self.conversation.path:
            self.status.usage = replace(self.status.usage, positions=0, dropped=0)
            self.status.speed = Speed()

    async def _draw_changed(self, message: StoredMessage) -> None:
        view = self.transcript.view(message.id)
        if view is not None:
            # Newer than the message in the update, if more has happened since.
            now = self.conversation.message(message.id) or message
            await view.settle(self.conversation.with_current_text(now), self._variant(now))
        speed = Speed.of(message.stats)
        if str(speed):
            self.status.speed = speed

    def _draw_usage(self, usage: ContextUsage) -> None:
        """Draw the bar; advise once per conversation before the context is full and once when it is."""
        self.status.usage = usage
        current = self.conversation.info
        case = (current.id if current is not None else "", bool(usage.dropped))
        if usage.advice and case not in self._advised:
            self._advised |= {case, (case[0], False)}
            self.host.say(usage.advice.format(key=self.host.key("new_conversation")), "warning")

    def _notify_by_itself(self) -> None:
        """Say once per conversation that the model does not know the earlier questions."""
        info = self.conversation.info
        questions = [one for one in self.conversation.path if one.role == "user"]
        is_second = len(questions) > 1 and any(one.pictures for one in questions)
        if self.host.engine.by_itself and is_second and info and info.id not in self._notified:
            from minigpt4.tui.images.question import BY_ITSELF

            self._notified.add(info.id)
            self.host.say(BY_ITSELF)

    def _draw_emptiness(self) -> None:
        empty = not self.conversation.path
        self.query_one(Welcome).display = empty
        self.transcript.display = not empty
        self._draw_title()
        self.call_later(self.draw_photo)

    @on(ChatFooter.DraftShown)
    @on(events.DescendantFocus)
    async def draw_photo(self) -> None:
        """Show a picture of the draft in an empty conversation: the focused, the current or the first one."""
        welcome, given = self.query_one(Welcome), self.draft.all_pictures
        focused = self.focused.picture if isinstance(self.focused, Chip) else None
        shown = (one for one in (focused, welcome.picture, *given) if one in given)
        first = next((one for one in shown if one is not None and not one.problem), None)
        await welcome.show_photo(None if self.conversation.path else first)

    def _draw_title(self) -> None:
        info = self.conversation.info
        title = info.title if info is not None else ""
        if not title and self.conversation.path:
            title = self.conversation.path[0].text
        self.query_one("#title", Static).update(sanitize_line(title, 60) or "New conversation")

    def _retitle(self, conversation: str) -> None:
        """Draw the title anew, which this app or another instance may have changed."""
        current = self.conversation.info
        if current is not None and conversation in ("", current.id):
            self.host.guarded(self.conversation.reload_info, rarely=True)
            self._draw_title()

    def _make(self, message: StoredMessage) -> MessageView:
        return MessageView(self.conversation.with_current_text(message), variant=self._variant(message))

    def _variant(self, message: StoredMessage) -> tuple[int, int]:
        return self.host.guarded(lambda: self.conversation.variants(message.id)) or (0, 1)

    # The list of conversations

    @property
    def shows_sidebar(self) -> bool:
        """Whether the list is shown now."""
        width = self.app.size.width  # this screen's own is known only after layout
        if width < COVERING_COLUMNS:
            return self._sidebar_covers
        if self._sidebar_wanted is not None:
            return self._sidebar_wanted
        wanted = self.host.settings.sidebar
        return wanted == "open" or (wanted == "auto" and width >= SIDEBAR_COLUMNS)

    async def action_toggle_sidebar(self) -> None:
        """Show the list and focus it, or hide it."""
        if self.shows_sidebar:
            self._want_sidebar(False)
            await self.draw_sidebar()
            self.composer.focus()
        else:
            await self.action_focus_sidebar()

    async def action_focus_sidebar(self) -> None:
        """Focus the list; show it if it is hidden."""
        if not self.shows_sidebar:
            self._want_sidebar(True)
            await self.draw_sidebar()
        for sidebar in self._sidebars:
            sidebar.focus_list()

    def _want_sidebar(self, wanted: bool) -> None:
        if self.size.width < COVERING_COLUMNS:
            self._sidebar_covers = wanted
        else:
            self._sidebar_wanted = wanted

    @property
    def _sidebars(self) -> Iterator[Sidebar]:
        """The list, once it has been shown."""
        return (cast("Sidebar", sidebar) for sidebar in self.query("#sidebar"))

    async def draw_sidebar(self) -> None:
        """Show or hide the list; it is created when it is first shown."""
        self.query("#sidebar-room").remove()
        if not self.query("#sidebar") and self.shows_sidebar:
            from minigpt4.tui.sidebar.sidebar import Sidebar

            await self.query_one("#body").mount(Sidebar(id="sidebar"), before="#conversation")
        for sidebar in self._sidebars:
            had_focus = sidebar.has_focus_within
            sidebar.set_class(self.size.width < COVERING_COLUMNS, "-covering")
            sidebar.display = self.shows_sidebar
            if had_focus and not sidebar.display:
                self.composer.focus()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """Hide a list that covers the window as soon as the focus is elsewhere."""
        if self._sidebar_covers and not any(one.has_focus_within for one in self._sidebars):
            self._sidebar_covers = False
            self.call_later(self.draw_sidebar)

    async def on_resize(self, _event: events.Resize) -> None:
        """Show or hide the list, which depends on the width; one that has the focus stays.

        Pictures are laid out anew, as they depend on the height.
        """
        for row in self.query(".pictures"):
            row.refresh(layout=True)
        if not self.is_mounted or not self.host.is_begun:
            return
        is_used = any(sidebar.display and sidebar.has_focus_within for sidebar in self._sidebars)
        if self.size.width < COVERING_COLUMNS:
            self._sidebar_covers = is_used
        elif self._sidebar_covers:
            self._sidebar_covers, self._sidebar_wanted = False, True
        await self.draw_sidebar()
