"""What every screen asks of the app: to say something, to guard a step, to work beside the screen."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from textual import events, on
from textual.filter import LineFilter
from textual.message import Message
from textual.widgets import Input, TextArea

from minigpt4.core.errors import Minigpt4Error
from minigpt4.tui.app.shutdown import LeavableApp
from minigpt4.tui.terminal.sanitize import sanitize
from minigpt4.tui.terminal.sanitize_filter import SanitizeFilter

T = TypeVar("T")
Severity = Literal["information", "warning", "error"]

MOST_LETTERS = 10_000
"""Of a paste into a line or a text area; the composer has room for more."""

GUARD = SanitizeFilter()

AGAIN_S = 30.0
"""Seconds for which an error that comes again and again is not said again."""


class PatientApp(LeavableApp, inherit_bindings=False):
    """An app whose errors are sentences, and whose long work delays neither the screen nor leaving."""

    @dataclass
    class Later(Message):
        """Something that another thread wants done on the screen's."""

        work: Callable[[], object]

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}
        self.key_at = 0.0
        """When a key was pressed last, by `time.monotonic`."""

    async def on_event(self, event: events.Event) -> None:
        """A book that is pasted into a line would hold up the screen."""
        if isinstance(event, events.Key):
            self.key_at = time.monotonic()
        if isinstance(event, events.Paste) and self._pastes_into_line:
            event = events.Paste(event.text[:MOST_LETTERS])
        await super().on_event(event)

    @property
    def _pastes_into_line(self) -> bool:
        return isinstance(self.focused, Input | TextArea) and self.focused.id != "composer"

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's own, and the guard."""
        return [*super().get_line_filters(), GUARD]

    def say(self, sentence: str, severity: Severity = "information") -> None:
        """A sentence at the edge of the screen, for some seconds."""
        seconds = 4 if severity == "information" else 8
        self.notify(sanitize(sentence), severity=severity, markup=False, timeout=seconds)

    def guarded(self, work: Callable[[], T], otherwise: T | None = None, *, rarely: bool = False) -> T | None:
        """What the work gives; an error of ours is said, and `otherwise` is given.

        With `rarely` an error that comes again and again is said once in a while.
        """
        try:
            return work()
        except Minigpt4Error as error:
            now = time.monotonic()
            if not rarely or now - self._said.get(str(error), -AGAIN_S) >= AGAIN_S:
                self._said[str(error)] = now
                self.say(str(error), "error")
            return otherwise

    def in_background(
        self,
        work: Callable[[], T],
        then: Callable[[T], object],
        failed: Callable[[Exception], object] | None = None,
    ) -> None:
        """Do the work on a thread that nothing waits for, then `then` (or `failed`; else it is said) here."""

        def run() -> None:
            try:
                result = work()
            except Exception as error:
                fault = error
                self.post_message(self.Later(lambda: (failed or self._failed)(fault)))
            else:
                self.post_message(self.Later(lambda: then(result)))

        threading.Thread(target=run, daemon=True, name="minigpt4-background").start()

    @on(Later)
    def _later(self, event: Later) -> None:
        """Do on this thread what another one asks for."""
        event.work()

    def _failed(self, error: Exception) -> None:
        from minigpt4.tui.terminal.messages import sentence

        self.say(sentence(error), "error")
