"""The bottom of the chat screen: attached pictures, composer and status line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static, TextArea
from textual.widgets._toast import ToastRack

from minigpt4.tui.conversation.draft import Draft, HeldQuestion, opened
from minigpt4.tui.conversation.question_history import QuestionHistory
from minigpt4.tui.history.store import StoredMessage, StoredPicture
from minigpt4.tui.terminal.sanitize import sanitize_line
from minigpt4.tui.widgets.chips import ChipRow
from minigpt4.tui.widgets.composer import MAX_CHARACTERS, Composer
from minigpt4.tui.widgets.key_line import KeyLine, action_link
from minigpt4.tui.widgets.message import MessageView
from minigpt4.tui.widgets.status import StatusLine

if TYPE_CHECKING:
    from minigpt4.tui.widgets.completions import Completions

CHARACTERS_PER_TOKEN = 4
"""Roughly, for English; used only to estimate the draft's length."""

HELD_COLUMNS = 32
"""Columns of the name and of the text in the line about a question that waits."""

MAX_HELD = 3
"""Maximum lines about questions that wait."""

TEMPLATE_TOKENS = 4
"""Tokens that a prompt template adds around a picture, roughly."""


class ChatFooter(Vertical):
    """Shows the `draft` of the next question; `editing` is the id of the message being edited."""

    @dataclass
    class DraftShown(Message):
        """The draft may have changed."""

    def __init__(
        self, draft: Draft, history: QuestionHistory, *, still: bool, key: Callable[[str], str]
    ) -> None:
        """`key` returns the label of an action's key."""
        super().__init__(id="footer")
        self.draft = draft
        self.editing: str | None = None
        self._history = history
        self._typed_before = ""
        self._unedited = ""
        self._still = still
        self._key = key
        self._edited = ""
        self._image_tokens = 0

    def compose(self) -> ComposeResult:
        yield Static("", id="editing", markup=False)
        yield KeyLine(id="held")
        yield ChipRow(id="chips")
        yield Composer(self._history, self.take_back, still=self._still)
        yield StatusLine(still=self._still)

    def on_mount(self) -> None:
        """Start with nothing attached and nothing being edited."""
        self.query_one("#editing").display = False
        self.query_one("#held").display = False

    def on_resize(self, event: events.Resize) -> None:
        """Keep notifications above the composer and the chips, whatever their height."""
        for rack in self.screen.query(ToastRack):
            rack.styles.margin = (0, 0, event.size.height, 0)

    @property
    def composer(self) -> Composer:
        """The text area."""
        return self.query_one(Composer)

    @property
    def status(self) -> StatusLine:
        """The line at the bottom."""
        return self.query_one(StatusLine)

    @property
    def typed(self) -> tuple[str, str]:
        """The text of the next question, and that of a message being edited if it was changed."""
        text = self.composer.text
        if self.editing is None:
            return text, ""
        return self._typed_before, text if text != self._unedited else ""

    @property
    def pictures(self) -> list[StoredPicture]:
        """The pictures that are open, in the order given."""
        return opened(self.draft.all_pictures)

    def show_draft(self) -> None:
        """Draw the pictures, and the questions that wait."""
        self.query_one(ChipRow).show(self.draft.all_pictures)
        self.draw_hints()
        self._estimate()
        self.post_message(self.DraftShown())

    @property
    def is_typing(self) -> bool:
        """Whether keys go to the composer; without any focus another window has them for now."""
        return self.screen.focused in (None, self.composer)

    def draw_hints(self) -> None:
        """Draw the lines about questions that wait and about what is edited, with the keys that work now."""
        held = self.query_one("#held", KeyLine)
        held.display = bool(self.draft.held)
        if self.draft.held:
            held.update(self._held())
        note = self.query_one("#editing", Static)
        note.display = self.editing is not None
        if self.editing is not None:
            # Escape first takes back what waits, and stops the answer.
            is_escape_next = self.is_typing and not self.draft.held and self.status.phase is None
            cancel = f" {self._key('stop')} cancels." if is_escape_next else ""
            note.update(f"Editing {self._edited}; the version before is kept.{cancel}")

    def _held(self) -> Content:
        """The first question that waits and for what, those that follow, and the way back."""
        first, *others = self.draft.held
        names = [sanitize_line(one.name, HELD_COLUMNS) for one in first.opening]
        if self.draft.is_paused:
            when = "Not sent"
        elif names:
            when = f"Sent once {names[0] if len(names) == 1 else f'{len(names)} pictures'} "
            when += "is open" if len(names) == 1 else "are open"
        else:
            when = "Sent after this answer"
        lines = [
            Content.assemble((f"{when}:", "$text-warning"), " ", sanitize_line(first.text, HELD_COLUMNS))
        ]
        shown = others if len(others) < MAX_HELD else others[: MAX_HELD - 2]
        lines += [Content(f"then: {sanitize_line(one.text, HELD_COLUMNS)}") for one in shown]
        if len(shown) < len(others):
            lines.append(Content(f"then {len(others) - len(shown)} more"))
        which = "the last" if others else "it"
        is_escape_ours = self.is_typing or isinstance(self.screen.focused, MessageView)
        back = f"{self._key('stop')} takes {which} back" if is_escape_ours else f"take {which} back"
        send = "Enter sends it" if self.is_typing else "send it"
        ways = [action_link(send, "send_held")] if self.draft.is_paused else []
        ways.append(action_link(back, "take_back"))
        lines[-1] = Content.assemble(lines[-1], " · ", Content(" · ").join(ways))
        return Content("\n").join(lines)

    def take_back(self, question: HeldQuestion | None = None) -> bool:
        """Return a held question, the last by default, to the composer, before what was typed since.

        False if none is held.
        """
        if not self.draft.held:
            return False
        editing = (question or self.draft.held[-1]).editing
        text = self.draft.take_back(question)
        self.leave_editing()
        if editing is None:
            self.composer.replace_text("\n".join(filter(None, (text, self.composer.text))))
        else:
            self._typed_before, self._unedited = self.composer.lift(), ""
            self._show_editing(editing, "your question")
            self.composer.replace_text(text)
        self.show_draft()
        return True

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
        if self.take_back():
            # It is the latest question, and not sent yet.
            return
        self.leave_editing()
        self._typed_before, self._unedited = self.composer.lift(), message.text
        self._show_editing(message.id, "your question" if message.role == "user" else "the answer")
        self.composer.replace_text(message.text)
        self.composer.focus()

    def _show_editing(self, message_id: str, what: str) -> None:
        self.editing, self._edited = message_id, what
        self.draw_hints()

    def leave_editing(self, typed: str | None = None) -> bool:
        """Stop editing; returns whether a message was being edited.

        `typed`, which was sent, is removed from the composer; with None everything is, and kept for Up if
        it was changed. The text typed before the editing comes back.
        """
        was, self.editing = self.editing is not None, None
        self.draw_hints()
        if was:
            if typed is not None:
                self.composer.take(typed)
            elif self.composer.text == self._unedited:
                self.composer.take(self._unedited)
            else:
                self.composer.put_aside()
            before, self._typed_before = self._typed_before, ""
            self.composer.replace_text("\n".join(filter(None, (before, self.composer.text))))
        return was

    def on_completions_chosen(self, event: Completions.Chosen) -> None:
        """Take the row that was clicked."""
        event.stop()
        self.composer.choose(event.choice, is_final=True)

    @on(TextArea.Changed)
    def _estimate(self) -> None:
        waiting = [one for one in self.draft.all_pictures if not one.problem]
        images = len(waiting) * (self._image_tokens + TEMPLATE_TOKENS)
        pending = images + len(self.composer.text) // CHARACTERS_PER_TOKEN
        self.status.usage = replace(self.status.usage, pending=pending)
