"""One message of the conversation: who says it, its pictures, its text, and what became of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Static

from minigpt4.tui.history.store import StoredMessage
from minigpt4.tui.screens import plug
from minigpt4.tui.settings.bindings import bindings_of
from minigpt4.tui.terminal.sanitize import sanitize, sanitize_line
from minigpt4.tui.widgets.key_line import KeyLine, action_link
from minigpt4.tui.widgets.status import PHASES, Speed

if TYPE_CHECKING:
    from textual.widgets import Markdown
    from textual.widgets.markdown import MarkdownStream

    from minigpt4.tui.app.base import PatientApp
    from minigpt4.tui.widgets.answer import AnswerText

MOST_LETTERS = 60_000
"""Of one message, on the screen; a pasted book is kept whole, and shown by its beginning."""

DRAW_S = 0.05
"""Least seconds between two paintings of an answer that grows: more often costs the model's own time."""

REST = 3
"""How many times as long as painting took it then rests, so that keys come in between in a long answer."""

PAUSE_S = 0.15
MOST_REST_S = 0.5
"""Seconds without a key after which it is painted while somebody types; most seconds that it waits for it."""

ECHO_S, NEXT_KEY_S = 0.015, 0.05
"""Seconds after a key between which it is on the screen, and the next one is not yet pressed."""


class MessageView(Vertical, can_focus=True):
    """A message on the screen; what it is asked to do with itself it passes on as `Wanted`."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("message"), *bindings_of("picture")]

    @dataclass
    class Wanted(Message):
        """Somebody wants something done with the message; `what` is an action's id."""

        view: MessageView
        what: str

    def __init__(self, message: StoredMessage, *, variant: tuple[int, int] = (0, 1)) -> None:
        super().__init__(classes=f"-{message.role}")
        self.message = message
        self.variant = variant
        self.phase: str | None = None
        self._pending = ""
        self._taken = len(message.text)
        self._timer: Timer | None = None
        self._rest_s = DRAW_S
        self._worked_s = 0.0
        self._drawn_at = 0.0
        self._stream: MarkdownStream | None = None

    def compose(self) -> ComposeResult:
        yield KeyLine(self._head(), is_plain=False, classes="head")
        if self.message.pictures:
            with Horizontal(classes="pictures"):
                for picture in self.message.pictures:
                    yield plug("thumbnail")(picture)
        if self.message.role == "assistant":
            from minigpt4.tui.widgets.answer import AnswerText

            yield AnswerText(_bounded(self.message.text))
        elif self.message.text:
            yield Static(_bounded(self.message.text), classes="said", markup=False)
        yield Static(self._foot(), classes="foot", markup=False)

    def on_mount(self) -> None:
        """Hide the foot where it has nothing to say."""
        self._refresh_foot()

    def watch_has_focus(self, focus: bool) -> None:
        """Tell more of the message while it is looked at."""
        super().watch_has_focus(focus)
        for head in self.query(".head").results(Static):
            head.update(self._head())

    def grow(self, text: str) -> None:
        """The answer as it stands; painted together with what comes in the next moment."""
        self._pending += text[self._taken :]
        self._taken = len(text)
        self.phase = "writing"
        if self._timer is None:
            self._timer = self.set_timer(self._rest_s, self._draw_in_a_pause)

    async def settle(self, message: StoredMessage, variant: tuple[int, int]) -> None:
        """The message's state has changed; its text is complete where it is not being written."""
        self.message, self.variant = message, variant
        self.phase = "thinking" if message.state == "writing" else None
        await self._draw()
        if self._stream is not None and message.state != "writing":
            await self._stream.stop()
            self._stream = None
        if message.role == "assistant" and message.state != "writing":
            body = self._answer
            if body.source != _bounded(message.text):
                await body.update(_bounded(message.text))
        self.query_one(".head", Static).update(self._head())
        self._refresh_foot()

    def show_phase(self, phase: str | None) -> None:
        """Say under the answer what is being done for it, until its first word."""
        self.phase = phase
        self._refresh_foot()

    @property
    def code_blocks(self) -> list[str]:
        """The blocks of code in it."""
        return self._answer.code_blocks if self.message.role == "assistant" else []

    def action_next_message(self) -> None:
        self._want("next_message")

    def action_previous_message(self) -> None:
        self._want("previous_message")

    def action_next_variant(self) -> None:
        self._want("next_variant")

    def action_previous_variant(self) -> None:
        self._want("previous_variant")

    def action_edit_message(self) -> None:
        self._want("edit_message")

    def action_copy_message(self) -> None:
        self._want("copy_message")

    def action_copy_code(self) -> None:
        self._want("copy_code")

    def action_zoom_picture(self) -> None:
        self._want("zoom_picture")

    @on(KeyLine.Clicked)
    def _link_clicked(self, event: KeyLine.Clicked) -> None:
        event.stop()
        self._want(event.action)

    def on_markdown_link_clicked(self, event: Markdown.LinkClicked) -> None:
        """Copy the address: to open what a model made up is the person's own decision."""
        event.stop()
        self.app.copy_to_clipboard(event.href)
        self.app.notify(f"Copied {sanitize_line(event.href, 120)}", markup=False)

    def _want(self, what: str) -> None:
        self.post_message(self.Wanted(self, what))

    @property
    def _answer(self) -> AnswerText:
        from minigpt4.tui.widgets.answer import AnswerText

        return self.query_one(AnswerText)

    async def _draw_in_a_pause(self) -> None:
        """Between two keys: one that is pressed while this is painted would be seen late."""
        now = time.monotonic()
        since_key = now - cast("PatientApp", self.app).key_at
        late = (now - self._drawn_at) / MOST_REST_S
        if since_key >= PAUSE_S or (late >= 1 and ECHO_S <= since_key <= NEXT_KEY_S) or late >= 2:
            await self._draw()
        else:
            self._timer = self.set_timer(ECHO_S, self._draw_in_a_pause)

    async def _draw(self) -> None:
        self._timer = None
        self._drawn_at = time.monotonic()
        if not self._pending or not self.is_mounted:
            return
        body = self._answer
        room = max(MOST_LETTERS - len(body.source), 0)
        piece, self._pending = sanitize(self._pending[:room]), ""
        # The thread's own seconds: on a busy machine nothing is gained by painting less.
        worked_before, self._worked_s = self._worked_s, time.thread_time()
        if self._stream is None:
            self._stream = body.get_stream(body)
            self._refresh_foot()
        else:
            self._rest_s = min(max(DRAW_S, REST * (self._worked_s - worked_before)), MOST_REST_S)
        if piece:
            await self._stream.write(piece)

    def _head(self) -> Content:
        message = self.message
        if message.role == "user":
            name = "You"
        else:
            name = sanitize_line(str(message.stats.get("bundle", "")), 30) or "Answer"
        place, count = self.variant
        colour = "$text-primary" if message.role == "user" else "$text-accent"
        parts = [Content.styled(name, f"bold {colour}")]
        if count > 1:
            before, after = action_link(" ‹ ", "previous_variant"), action_link(" › ", "next_variant")
            variant = Content.assemble("  ", before, f"{place + 1} of {count}", after)
            parts.append(variant.stylize("$text-muted"))
        if self.has_focus and message.role == "assistant":
            parts.append(Content.styled(f"   {_measured(message.stats)}", "$text-muted"))
        return Content("").join(parts)

    def _foot(self) -> Content:
        message = self.message
        if message.state == "writing":
            phase = self.phase or "thinking"
            return Content("" if phase == "writing" else f"{PHASES.get(phase, phase).capitalize()} …")
        return Content(_afterwards(message.state, message.stats) if message.role == "assistant" else "")

    def _refresh_foot(self) -> None:
        foot = self.query_one(".foot", Static)
        content = self._foot()
        foot.update(content)
        foot.display = bool(content.plain)
        foot.set_class(self.message.state == "failed", "-failed")


def _afterwards(state: str, stats: Mapping[str, float | int | str]) -> str:
    """What is said under an answer that is over."""
    match state, stats.get("finish"):
        case "failed", _:
            return sanitize(str(stats.get("problem", "The answer came to nothing.")))
        case "stopped", _:
            note = "Stopped"
        case _, "length":
            note = "Cut off at the longest answer"
        case _:
            note = ""
    return note


def _measured(stats: Mapping[str, float | int | str]) -> str:
    """How long an answer is, and how quick it was."""
    tokens = stats.get("answer_tokens")
    count = f"{tokens} token{'' if tokens == 1 else 's'}" if tokens is not None else ""
    return " · ".join(filter(None, [count, str(Speed.of(stats))]))


def _bounded(text: str) -> str:
    if len(text) <= MOST_LETTERS:
        return sanitize(text)
    left = f"{len(text) - MOST_LETTERS:,}"
    return sanitize(text[:MOST_LETTERS]) + f"\n\n… {left} more letters are kept, and not shown here."
