"""The foot of the conversation: what waits to be said, and the status line."""

from __future__ import annotations

from collections.abc import Sequence

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static, TextArea

from minigpt4.tui.history.store import StoredMessage, StoredPicture
from minigpt4.tui.widgets.chips import ChipRow
from minigpt4.tui.widgets.composer import MOST_LETTERS, Choices, Composer
from minigpt4.tui.widgets.status import StatusLine

LETTERS_A_TOKEN = 4
"""Of English, about: only for the estimate of what is being typed."""

PICTURE_FRAME = 4
"""Positions that a template puts around a picture, about."""


class Foot(Vertical):
    """`pictures` go with the next question; `editing` is the message that the text is to replace."""

    def __init__(self, *, still: bool, leave_key: str) -> None:
        super().__init__(id="foot")
        self.pictures: list[StoredPicture] = []
        self.editing: str | None = None
        self._still = still
        self._leave_key = leave_key
        self._image_tokens = 0

    def compose(self) -> ComposeResult:
        yield Choices()
        yield Static("", id="editing", markup=False)
        yield ChipRow(id="chips")
        yield Composer(still=self._still)
        yield StatusLine(still=self._still)

    def on_mount(self) -> None:
        """Nothing waits yet."""
        self.query_one(Choices).display = False
        self.query_one("#editing").display = False

    @property
    def composer(self) -> Composer:
        """Where the person types."""
        return self.query_one(Composer)

    @property
    def status(self) -> StatusLine:
        """The line below."""
        return self.query_one(StatusLine)

    def add(self, pictures: Sequence[StoredPicture]) -> None:
        """More pictures for the next question; one that waits already is not added again."""
        self.pictures += [one for one in pictures if all(one.digest != had.digest for had in self.pictures)]
        self._draw()

    def asked(self, typed: str) -> None:
        """The question was asked: it and its pictures wait no longer."""
        self.pictures = []
        self.composer.take(typed)
        self._draw()

    def count_pictures(self, image_tokens: int) -> None:
        """How many positions the model gives a picture."""
        self._image_tokens = image_tokens
        self._estimate()

    def begin_editing(self, message: StoredMessage) -> None:
        """Take a message's text into the composer; one that it cannot hold is left alone."""
        if len(message.text) > MOST_LETTERS:
            sentence = (
                f"The message has {len(message.text):,} letters, more than can be edited here; copy it."
            )
            self.app.notify(sentence, severity="warning", markup=False)
            return
        self.editing = message.id
        self.composer.replace_text(message.text)
        self.composer.focus()
        what = "your question" if message.role == "user" else "the answer"
        note = self.query_one("#editing", Static)
        note.update(f"Editing {what}; what is there now stays reachable. {self._leave_key} leaves it.")
        note.display = True

    def leave_editing(self, typed: str | None = None) -> bool:
        """Back to a new question; whether anything was being edited. `typed` was taken for it."""
        was, self.editing = self.editing is not None, None
        self.query_one("#editing").display = False
        if was:
            self.composer.take(self.composer.text if typed is None else typed)
        return was

    @on(Choices.Taken)
    def _choose(self, event: Choices.Taken) -> None:
        event.stop()
        self.composer.choose(event.action)

    @on(ChipRow.Removed)
    def _removed(self, event: ChipRow.Removed) -> None:
        event.stop()
        del self.pictures[event.index : event.index + 1]
        self._draw()

    @on(TextArea.Changed)
    def _estimate(self) -> None:
        images = len(self.pictures) * (self._image_tokens + PICTURE_FRAME)
        self.status.took(pending=images + len(self.composer.text) // LETTERS_A_TOKEN)

    def _draw(self) -> None:
        self.query_one(ChipRow).show(self.pictures)
        self._estimate()
