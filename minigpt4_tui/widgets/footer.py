"""The bottom of the chat screen: attached pictures, composer and status line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static, TextArea

from minigpt4.tui.history.store import StoredMessage, StoredPicture
from minigpt4.tui.widgets.chips import Chip, ChipRow
from minigpt4.tui.widgets.composer import MAX_CHARACTERS, CompletionList, Composer
from minigpt4.tui.widgets.status import StatusLine

CHARACTERS_PER_TOKEN = 4
"""Roughly, for English; used only to estimate the draft's length."""

TEMPLATE_TOKENS = 4
"""Tokens that a prompt template adds around a picture, roughly."""


class ChatFooter(Vertical):
    """`pictures` go with the next question; `editing` is the id of the message being edited."""

    def __init__(self, *, still: bool, leave_key: str) -> None:
        super().__init__(id="footer")
        self.pictures: list[StoredPicture] = []
        self.editing: str | None = None
        self._still = still
        self._leave_key = leave_key
        self._image_tokens = 0

    def compose(self) -> ComposeResult:
        yield CompletionList()
        yield Static("", id="editing", markup=False)
        yield ChipRow(id="chips")
        yield Composer(still=self._still)
        yield StatusLine(still=self._still)

    def on_mount(self) -> None:
        """Start with nothing attached and nothing being edited."""
        self.query_one(CompletionList).display = False
        self.query_one("#editing").display = False

    @property
    def composer(self) -> Composer:
        """The text area."""
        return self.query_one(Composer)

    @property
    def status(self) -> StatusLine:
        """The line at the bottom."""
        return self.query_one(StatusLine)

    def add(self, pictures: Sequence[StoredPicture]) -> None:
        """Attach pictures to the next question; one that is attached already is skipped."""
        self.pictures += [
            one for one in pictures if all(one.digest != other.digest for other in self.pictures)
        ]
        self._draw()

    def asked(self, typed: str) -> None:
        """Clear the question that was sent, and its pictures."""
        self.pictures = []
        self.composer.take(typed)
        self._draw()

    def count_pictures(self, image_tokens: int) -> None:
        """Set the number of tokens per picture, from the model."""
        self._image_tokens = image_tokens
        self._estimate()

    def begin_editing(self, message: StoredMessage) -> None:
        """Edit a message's text in the composer, unless it is too long for it."""
        if len(message.text) > MAX_CHARACTERS:
            sentence = (
                f"The message has {len(message.text):,} characters, too many to edit here; copy it instead."
            )
            self.app.notify(sentence, severity="warning", markup=False)
            return
        self.editing = message.id
        self.composer.replace_text(message.text)
        self.composer.focus()
        what = "your question" if message.role == "user" else "the answer"
        note = self.query_one("#editing", Static)
        note.update(f"Editing {what}; the version before is kept. {self._leave_key} cancels.")
        note.display = True

    def leave_editing(self, typed: str | None = None) -> bool:
        """Stop editing and remove `typed` (None: all) from the composer; returns whether it was editing."""
        was, self.editing = self.editing is not None, None
        self.query_one("#editing").display = False
        if was:
            self.composer.take(self.composer.text if typed is None else typed)
        return was

    @on(CompletionList.Clicked)
    def _choose(self, event: CompletionList.Clicked) -> None:
        event.stop()
        self.composer.choose(event.action)

    @on(Chip.Removed)
    def _removed(self, event: Chip.Removed) -> None:
        event.stop()
        self.pictures = [picture for picture in self.pictures if picture != event.picture]
        self._draw()

    @on(TextArea.Changed)
    def _estimate(self) -> None:
        images = len(self.pictures) * (self._image_tokens + TEMPLATE_TOKENS)
        pending = images + len(self.composer.text) // CHARACTERS_PER_TOKEN
        self.status.usage = replace(self.status.usage, pending=pending)

    def _draw(self) -> None:
        self.query_one(ChipRow).show(self.pictures)
        self._estimate()
