"""Answers are written down as they become; what the store could not take is tried again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from minigpt4.core.errors import Minigpt4Error
from minigpt4.tui.history.store import Store

RETRY_S = 1.0
"""Seconds between two tries: where another program holds the store's lock, each waits for it."""

State = Literal["done", "writing", "stopped", "failed"]


class Keeper:
    """Remembers the newest of each message that could not be kept, as long as the app runs."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._tried_at = 0.0
        self._owed: dict[str, tuple[str, State, Mapping[str, Any] | None]] = {}

    def keep(self, message: str, text: str, state: State, stats: Mapping[str, Any] | None = None) -> None:
        """As the store's `update_text`; where that raises, `retry` does it later."""
        try:
            self._store.update_text(message, text, state, stats)
        except Minigpt4Error:
            self._owed[message] = (text, state, stats)
            self._tried_at = self._clock()
            raise
        self._owed.pop(message, None)

    def forget(self, message: str) -> None:
        """Nothing of the message is owed any more: it goes on with what is kept."""
        self._owed.pop(message, None)

    def retry(self, *, now: bool = False) -> None:
        """Try again what is owed, a second after the last try at the earliest; raises as the store does."""
        if self._owed and (now or self._clock() - self._tried_at >= RETRY_S):
            for message, owed in list(self._owed.items()):
                self.keep(message, *owed)
