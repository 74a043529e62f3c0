"""Events of the engine's process, queued for the app and joined while the screen is busy."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from minigpt4.core.worker.messages import Event, TextDelta


class EngineEvents(Message):
    """The events that arrived since the last message of this kind was handled, in order.

    Until it is handled, later events are added to it, so that the app's queue holds at most one such
    message: text deltas of one answer are joined, and only the newest progress of a download is kept.
    A busy screen thus neither blocks the thread that reads the pipe nor lags by more than one message.
    """

    def __init__(self, event: Event) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._events = [event]
        self._text: list[str] = []  # of the earlier deltas that are joined into the last event
        self._is_taken = False

    def add(self, event: Event) -> bool:
        """Add an event; False if this message has been handled already and the event needs a new one."""
        from minigpt4.core.worker.messages import DownloadProgress, TextDelta

        with self._lock:
            if self._is_taken:
                return False
            match self._events[-1], event:
                case TextDelta() as last, TextDelta() as new if _are_one(last, new):
                    # Joined at the end: appending one by one would copy the whole text each time.
                    self._text.append(last.text)
                    self._events[-1] = event
                case DownloadProgress(file), DownloadProgress(same) if same == file:
                    self._events[-1] = event
                case _:
                    self._join()
                    self._events.append(event)
            return True

    def take(self) -> list[Event]:
        """The events; nothing is added from here on."""
        with self._lock:
            self._is_taken = True
            self._join()
            events, self._events = self._events, []
            return events

    def _join(self) -> None:
        from minigpt4.core.worker.messages import TextDelta

        if self._text and isinstance(last := self._events[-1], TextDelta):
            self._events[-1] = replace(last, text="".join([*self._text, last.text]))
            self._text = []


def _are_one(one: TextDelta, other: TextDelta) -> bool:
    """Whether both belong to the same answer, and both or neither to its reasoning."""
    return one.request == other.request and one.is_reasoning == other.is_reasoning
