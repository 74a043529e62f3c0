"""The way between the app and the engine's process: commands go straight, events wait to be fetched."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from minigpt4.tui.conversation.engine_status import Dice

if TYPE_CHECKING:
    from minigpt4.core.worker.messages import EngineChoice, Event, SamplingFields, WireMessage


class Process(Protocol):
    """The part of a Worker that the app needs."""

    def load(self, choice: EngineChoice) -> None: ...
    def reply(
        self, request: str, messages: Sequence[WireMessage], sampling: SamplingFields | None = None
    ) -> None: ...
    def count(self, request: str, messages: Sequence[WireMessage]) -> None: ...
    def cancel(self, request: str) -> None: ...
    def stop(self, timeout: float = 0.3) -> None: ...


MakeProcess = Callable[[Callable[["Event"], None]], Process]


class EngineLink:
    """`wake` is called on the process's reader thread, once until the events have been fetched."""

    def __init__(self, make_process: MakeProcess, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._events: deque[Event] = deque()
        self._awake = False
        self._make_process = make_process

    @cached_property
    def process(self) -> Process:
        """Made when it is first needed, which is after the first frame of the screen."""
        return self._make_process(self._heard)

    def fetch(self) -> list[Event]:
        """The events since the last time, in order."""
        self._awake = False
        found = []
        while self._events:
            found.append(self._events.popleft())
        return found

    def load(self, choice: EngineChoice) -> None:
        """Load a model, in place of any other."""
        self.process.load(choice)

    def reply(self, request: str, messages: Sequence[WireMessage], dice: Dice) -> None:
        """Begin an answer."""
        self.process.reply(request, messages, asdict(dice))

    def count(self, request: str, messages: Sequence[WireMessage]) -> None:
        """Ask how much room the messages take."""
        self.process.count(request, messages)

    def cancel(self, request: str) -> None:
        """End an answer."""
        self.process.cancel(request)

    def stop(self) -> None:
        """End the process, within the third of a second."""
        self.process.stop(0.3)

    def _heard(self, event: Event) -> None:
        self._events.append(event)
        if not self._awake:
            self._awake = True
            self._wake()
