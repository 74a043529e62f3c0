"""Saves answers while they are generated, and retries failed writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from minigpt4.core.errors import Minigpt4Error
from minigpt4.tui.history.records import State
from minigpt4.tui.history.store import Store

RETRY_S = 1.0
"""Seconds between two tries: each waits for the store's lock if another program holds it."""


class Autosave:
    """Keeps the newest version of each message that could not be saved, as long as the app runs."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._tried_at = 0.0
        self._unsaved: dict[str, tuple[str, State, Mapping[str, Any] | None]] = {}

    def save(self, message: str, text: str, state: State, stats: Mapping[str, Any] | None = None) -> None:
        """Save as the store's `update_text` does; if it raises, `retry` tries again later."""
        try:
            self._store.update_text(message, text, state, stats)
        except Minigpt4Error:
            self._unsaved[message] = (text, state, stats)
            self._tried_at = self._clock()
            raise
        self._unsaved.pop(message, None)

    def discard(self, message: str) -> None:
        """Drop the unsaved version of the message: its answer continues from the stored one."""
        self._unsaved.pop(message, None)

    def retry(self, *, now: bool = False) -> None:
        """Save what is unsaved, a second after the last try at the earliest; raises as the store does."""
        if self._unsaved and (now or self._clock() - self._tried_at >= RETRY_S):
            for message, unsaved in list(self._unsaved.items()):
                self.save(message, *unsaved)
