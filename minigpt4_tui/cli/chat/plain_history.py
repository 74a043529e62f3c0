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
"""Seconds of an answer that a killed process may lose at most."""


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
        self._leaf: str | None = None
        self._question: StoredMessage | None = None
        """The last question that was answered, or asked before this process."""
        self._asked: StoredMessage | None = None
        self._answer: StoredMessage | None = None
        """The question and the answer in progress."""
        if store is not None and conversation is not None:
            self._leaf = store.leaf(conversation.id)
            asked = (one for one in reversed(store.path(conversation.id)) if one.role == "user")
            self._question = next(asked, None)
        self._stats = {"bundle": bundle} if bundle else {}
        self._on_error = on_error
        self._clock = clock
        self._flushed_at = 0.0

    @property
    def store(self) -> Store | None:
        """Where the conversation is saved; None if it is not."""
        return self._store

    def answered_by(self, bundle: str) -> None:
        """Note that another bundle answers from now on."""
        self._stats = {"bundle": bundle}

    def of(self, conversation: ConversationInfo) -> Record:
        """The record of another conversation in the same store."""
        bundle = self._stats.get("bundle", "")
        return Record(self._store, conversation, bundle=bundle, on_error=self._on_error, clock=self._clock)

    def keep(self, picture: Picture, name: str) -> StoredPicture | None:
        """Copy the picture's file into the store; None if nothing is saved."""
        with self._reporting_errors():
            if self._store is not None:
                return self._store.keep_picture(picture, name)
        return None

    def begin(self, question: str, pictures: Sequence[StoredPicture]) -> None:
        """Save a question and an empty answer in progress."""
        self._begin(self._leaf, question, pictures)

    def begin_edited(self, question: str, pictures: Sequence[StoredPicture] = ()) -> None:
        """Save an edited last question as a branch, with its own pictures followed by `pictures`."""
        if self._question is not None:
            self._begin(self._question.parent, question, [*self._question.pictures, *pictures])

    def begin_again(self) -> None:
        """Save another answer in progress to the last question."""
        if self._question is not None:
            with self._reporting_errors():
                self._begin_answer(self._question)

    def begin_more(self) -> None:
        """Prepare to save more of the last answer."""
        with self._reporting_errors():
            if self._store is not None and self._leaf is not None:
                self._asked, self._answer = self._question, self._store.message(self._leaf)
                self._flushed_at = self._clock()

    @property
    def answers(self) -> int:
        """How many answers the last question has; 1 if nothing is saved."""
        with self._reporting_errors():
            if self._store is not None and self._question is not None:
                return len(self._store.children(self._question.id))
        return 1

    def path(self) -> list[StoredMessage]:
        """The conversation as it was saved, without a question that failed; empty if nothing is saved."""
        if self._store is None or self.conversation is None:
            return []
        path = self._store.path(self.conversation.id)
        last = next((at for at, one in enumerate(path) if one.id == self._leaf), -1)
        return path[: last + 1]

    def variants(self) -> list[tuple[StoredMessage, StoredMessage]]:
        """All answers to the last question, each with the wording that it answers, in order."""
        if self._store is None or self._question is None:
            return []
        return [
            (question, answer)
            for question in self._store.variants(self._question.id)
            for answer in self._store.children(question.id)
            if answer.text
        ]

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
                self._leaf, self._question = answer.id, self._asked
            self._answer = None

    def new_conversation(self) -> None:
        """Begin another conversation."""
        self.conversation, self._leaf, self._question = None, None, None

    def _begin(self, parent: str | None, question: str, pictures: Sequence[StoredPicture]) -> None:
        with self._reporting_errors():
            if self._store is None:
                return
            if self.conversation is None:
                self.conversation = self._store.new_conversation()
            self._begin_answer(
                self._store.add_message(self.conversation.id, parent, "user", question, pictures)
            )

    def _begin_answer(self, asked: StoredMessage) -> None:
        if self._store is not None and self.conversation is not None:
            self._asked = asked
            self._answer = self._store.add_message(
                self.conversation.id, asked.id, "assistant", "", state="writing", stats=self._stats
            )
            self._flushed_at = self._clock()

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
