"""The history of a line-by-line chat, saved as it goes so that it can be found and resumed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from minigpt4.core.errors import Minigpt4Error

if TYPE_CHECKING:
    from minigpt4.core.pixels import Picture
    from minigpt4.tui.history.records import State
    from minigpt4.tui.history.store import ConversationInfo, Store, StoredMessage, StoredPicture

FLUSH_S = 1.0
"""Most seconds of an answer that a killed process may lose."""


class Record:
    """One conversation of a store; without a store nothing is saved.

    A failure to save must not end a chat: it is reported once, and nothing more is saved.
    """

    def __init__(
        self,
        store: Store | None = None,
        conversation: ConversationInfo | None = None,
        *,
        bundle: str = "",
        on_error: Callable[[str], None] = lambda sentence: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`conversation` is continued; None begins a new one with the first question."""
        self.conversation = conversation
        self._store = store
        self._leaf = store.leaf(conversation.id) if store is not None and conversation is not None else None
        self._answer: StoredMessage | None = None
        self._stats = {"bundle": bundle} if bundle else {}
        self._on_error = on_error
        self._clock = clock
        self._flushed_at = 0.0

    def keep(self, picture: Picture, name: str) -> StoredPicture | None:
        """Copy the picture's file into the store; None if nothing is saved."""
        with self._reporting_errors():
            if self._store is not None:
                return self._store.keep_picture(picture, name)
        return None

    def begin(self, question: str, pictures: Sequence[StoredPicture]) -> None:
        """Save a question and an empty answer in progress."""
        with self._reporting_errors():
            if self._store is None:
                return
            if self.conversation is None:
                self.conversation = self._store.new_conversation()
            here = self.conversation.id
            asked = self._store.add_message(here, self._leaf, "user", question, pictures)
            self._answer = self._store.add_message(
                here, asked.id, "assistant", "", state="writing", stats=self._stats
            )
            self._flushed_at = self._clock()

    def grow(self, text: str) -> None:
        """Save the answer so far, about once a second."""
        if self._answer is not None and self._clock() - self._flushed_at >= FLUSH_S:
            self._flushed_at = self._clock()
            self._write(text, "writing", None)

    def end(self, text: str, state: State, stats: Mapping[str, float | int | str | None]) -> None:
        """Save the whole answer. The next question replaces one that failed."""
        answer = self._answer
        if answer is not None:
            known = {name: value for name, value in stats.items() if value is not None}
            self._write(text, state, {**self._stats, **known})
            if state != "failed":
                self._leaf = answer.id
            self._answer = None

    def new_conversation(self) -> None:
        """Begin another conversation."""
        self.conversation, self._leaf = None, None

    def _write(self, text: str, state: State, stats: Mapping[str, float | int | str] | None) -> None:
        with self._reporting_errors():
            if self._store is not None and self._answer is not None:
                self._store.update_text(self._answer.id, text, state, stats)

    @contextmanager
    def _reporting_errors(self) -> Iterator[None]:
        try:
            yield
        except (Minigpt4Error, OSError) as error:
            self._store = None
            self._on_error(f"{error} What is said from now on is not kept.")
