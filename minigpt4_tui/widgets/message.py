"""One message of the conversation: its role, pictures, text and state."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static
from textual.worker import Worker

from minigpt4.tui.conversation.answering import REASONING
from minigpt4.tui.history.store import StoredMessage
from minigpt4.tui.settings.bindings import bindings_of
from minigpt4.tui.terminal.sanitize import sanitize, sanitize_line
from minigpt4.tui.widgets.key_line import KeyHint, KeyLine, action_link
from minigpt4.tui.widgets.status import PHASES, Speed

if TYPE_CHECKING:
    from textual.widgets import Markdown

    from minigpt4.tui.app.base import BaseApp
    from minigpt4.tui.widgets.answer import AnswerText, ReasoningText

MAX_CHARACTERS = 60_000
"""Limit of one message on the screen; a pasted book is stored whole, but only its beginning is shown."""

PAINT_S = 0.05
"""Minimum seconds between two paints of a growing answer: more paints would slow the model down."""

REST = 3
"""Pause after a paint, in multiples of the time it took, so that keys get through in a long answer."""

TYPING_PAUSE_S = 0.15
MAX_REST_S = 0.5
"""Seconds without a key that count as a pause in typing; longest wait for one, in seconds."""

ECHO_S, NEXT_KEY_S = 0.015, 0.05
"""Seconds after a key: it is echoed by the first, and the next key rarely comes before the second."""


class MessageView(Vertical, can_focus=True):
    """A message on the screen; posts `ActionRequested` for everything that concerns more than itself."""

    BINDINGS: ClassVar[list[BindingType]] = [
        replace(binding, action=f"request('{binding.action}')")
        for binding in (*bindings_of("message"), *bindings_of("picture"))
    ]

    @dataclass
    class ActionRequested(Message):
        """An action for the message was requested, by its id."""

        view: MessageView
        action: str

    def __init__(self, message: StoredMessage, *, variant: tuple[int, int] = (0, 1)) -> None:
        super().__init__(classes=f"-{message.role}")
        self.message = message
        self.variant = variant
        self.phase: str | None = None
        self._pending = ""
        self._reasoning = str(message.stats.get(REASONING, ""))
        self._painter: Worker[None] | None = None
        self._painting = asyncio.Lock()
        self._rest_s = PAINT_S
        self._worked_s = 0.0
        self._painted_at = 0.0

    def compose(self) -> ComposeResult:
        yield KeyLine(self._head(), is_plain=False, classes="head")
        if self.message.pictures:
            from minigpt4.tui.widgets.picture_row import PictureRow

            yield PictureRow(self.message.pictures)
        if self.message.role == "assistant":
            from minigpt4.tui.widgets.answer import AnswerText, ReasoningText

            if self._reasoning:
                yield ReasoningText(self._reasoning, is_growing=self._is_thinking)
            yield AnswerText(_bounded(self.message.text))
        elif self.message.text:
            yield Static(_bounded(self.message.text), classes="said", markup=False)
        yield Static(self._footer(), classes="foot", markup=False)

    def on_mount(self) -> None:
        """Hide the footer if it is empty; show what the model thought meanwhile."""
        self._refresh_footer()
        self._show_reasoning()

    def watch_has_focus(self, focus: bool) -> None:
        """Show the statistics while the message has the focus."""
        super().watch_has_focus(focus)
        for head in self.query(".head").results(Static):
            head.update(self._head())

    def think(self, text: str) -> None:
        """Append more of the reasoning before the answer."""
        self._reasoning += text
        self.phase = "decode"
        self._show_reasoning()

    def grow(self, text: str) -> None:
        """Append more of the answer; painted together with what arrives in the next moment."""
        self._pending += text
        self.phase = "decode"
        if self._painter is None:
            self._painter = self.run_worker(self._paint_pending())

    async def settle(self, message: StoredMessage, variant: tuple[int, int]) -> None:
        """Show the message's new state; its text is complete unless it is being generated."""
        self.message, self.variant = message, variant
        is_complete = message.state != "writing"
        if is_complete:
            self.phase = None
        self._reasoning = str(message.stats.get(REASONING, ""))
        self._show_reasoning()
        await self._paint()
        if message.role == "assistant" and is_complete:
            body = self._answer
            if body.source != _bounded(message.text):
                await body.update(_bounded(message.text))
        self.query_one(".head", Static).update(self._head())
        self._refresh_footer()

    def show_phase(self, phase: str | None) -> None:
        """Show under the answer what is being computed, until its first token."""
        self.phase = phase
        if self.is_mounted:
            self._refresh_footer()

    @property
    def code_blocks(self) -> list[str]:
        """The blocks of code in it."""
        return self._answer.code_blocks if self.message.role == "assistant" else []

    @property
    def key_hints(self) -> list[KeyHint]:
        """What its keys do, apart from the arrows that go to other messages."""
        wanted = [
            (("copy_message",), "copy", True),
            (("edit_message",), "edit", True),
            (("zoom_picture",), "zoom", bool(self.message.pictures)),
            (("previous_variant", "next_variant"), "variants", self.variant[1] > 1),
            (("copy_code",), "copy code", bool(self.code_blocks)),
            (("toggle_reasoning",), "thinking", bool(self._reasoning)),
        ]
        return [
            KeyHint(actions, about, f"focused.request('{actions[-1]}')")
            for actions, about, works in wanted
            if works
        ]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether the message has what an action is about: pictures, other variants or reasoning."""
        match parameters:
            case ("zoom_picture",):
                return bool(self.message.pictures)
            case ("next_variant" | "previous_variant",):
                return self.variant[1] > 1
            case ("toggle_reasoning",):
                return bool(self._reasoning)
        return super().check_action(action, parameters)

    def action_request(self, action: str) -> None:
        """Ask the screen for an action on this message, unless it concerns nothing else."""
        if action == "toggle_reasoning":
            for thought in self._thoughts:
                thought.toggle()
            return
        self.post_message(self.ActionRequested(self, action))

    @on(KeyLine.Clicked)
    def _link_clicked(self, event: KeyLine.Clicked) -> None:
        event.stop()
        self.action_request(event.action)

    def on_markdown_link_clicked(self, event: Markdown.LinkClicked) -> None:
        """Copy the URL: whether to open one that a model invented is up to the user."""
        event.stop()
        self.app.copy_to_clipboard(event.href)
        self.app.notify(f"Copied {sanitize_line(event.href, 120)}", markup=False)

    @property
    def _answer(self) -> AnswerText:
        from minigpt4.tui.widgets.answer import AnswerText

        return self.query_one(AnswerText)

    @property
    def _is_thinking(self) -> bool:
        """Whether the answer is being generated and has no text yet."""
        return self.message.state == "writing" and not self._pending and not self.message.text

    @property
    def _thoughts(self) -> Iterator[ReasoningText]:
        """The reasoning, if there is any."""
        from minigpt4.tui.widgets.answer import ReasoningText

        return self.query(ReasoningText).results()

    def _show_reasoning(self) -> None:
        if not self._reasoning or not self.is_mounted:
            return
        from minigpt4.tui.widgets.answer import ReasoningText

        is_growing = self._is_thinking and not self._answer.source
        for thought in self._thoughts:
            thought.show(self._reasoning, is_growing=is_growing)
            return
        self.mount(ReasoningText(self._reasoning, is_growing=is_growing), before=self._answer)
        self._refresh_footer()

    async def _paint_pending(self) -> None:
        """Paint what arrives, with pauses, until nothing is pending."""
        while self._pending:
            await asyncio.sleep(self._rest_s)
            while not self._may_paint():
                await asyncio.sleep(ECHO_S)
            await self._paint()
        self._painter = None

    def _may_paint(self) -> bool:
        """Whether now is between two keys: a key pressed during a paint would be shown late."""
        now = time.monotonic()
        since_key = now - cast("BaseApp", self.app).key_at
        waited = (now - self._painted_at) / MAX_REST_S
        return (
            since_key >= TYPING_PAUSE_S or (waited >= 1 and ECHO_S <= since_key <= NEXT_KEY_S) or waited >= 2
        )

    async def _paint(self) -> None:
        # One at a time: Markdown.append parses from the block where the previous append ends.
        async with self._painting:
            self._painted_at = time.monotonic()
            if not self._pending or not self.is_mounted:
                return
            body = self._answer
            space = max(MAX_CHARACTERS - len(body.source), 0)
            text, self._pending = sanitize(self._pending[:space]), ""
            # CPU time: on a busy machine painting less often would gain nothing.
            worked_before, self._worked_s = self._worked_s, time.thread_time()
            if worked_before:
                self._rest_s = min(max(PAINT_S, REST * (self._worked_s - worked_before)), MAX_REST_S)
            else:
                self._refresh_footer()
            if text:
                await body.append(text)
                self._show_reasoning()

    def _head(self) -> Content:
        message = self.message
        if message.role == "user":
            name = "You"
        else:
            name = sanitize_line(str(message.stats.get("bundle", "")), 30) or "Answer"
        place, count = self.variant
        color = "$text-primary" if message.role == "user" else "$text-accent"
        parts = [Content.styled(name, f"bold {color}")]
        if count > 1:
            before, after = action_link(" ‹ ", "previous_variant"), action_link(" › ", "next_variant")
            variant = Content.assemble("  ", before, f"{place + 1} of {count}", after)
            parts.append(variant.stylize("$text-muted"))
        if self.has_focus and message.role == "assistant":
            parts.append(Content.styled(f"   {_statistics(message.stats)}", "$text-muted"))
        return Content("").join(parts)

    def _footer(self) -> Content:
        message = self.message
        if message.state == "writing":
            phase = self.phase or "prefill"
            return Content("" if phase == "decode" else f"{PHASES.get(phase, phase).capitalize()} …")
        return Content(_ending(message.state, message.stats) if message.role == "assistant" else "")

    def _refresh_footer(self) -> None:
        footer = self.query_one(".foot", Static)
        content = self._footer()
        footer.update(content)
        footer.display = bool(content.plain)
        footer.set_class(self.message.state == "failed", "-failed")


def _ending(state: str, stats: Mapping[str, float | int | str]) -> str:
    """The note under an answer that has ended."""
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


def _statistics(stats: Mapping[str, float | int | str]) -> str:
    """An answer's length and speed."""
    tokens = stats.get("answer_tokens")
    count = f"{tokens} token{'' if tokens == 1 else 's'}" if tokens is not None else ""
    return " · ".join(filter(None, [count, str(Speed.of(stats))]))


def _bounded(text: str) -> str:
    if len(text) <= MAX_CHARACTERS:
        return sanitize(text)
    left = f"{len(text) - MAX_CHARACTERS:,}"
    return sanitize(text[:MAX_CHARACTERS]) + f"\n\n… {left} more letters are kept, and not shown here."
