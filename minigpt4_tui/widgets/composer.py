"""The text area for questions: Enter sends, a dropped or pasted file is attached as a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widgets import TextArea

from minigpt4.tui.conversation.question_history import QuestionHistory
from minigpt4.tui.images.attachments import WINDOWS, complete_path, names_folder
from minigpt4.tui.settings.keys import ACTIONS
from minigpt4.tui.terminal.sanitize import sanitize

if TYPE_CHECKING:
    from minigpt4.tui.app.app import MiniGPT4App
    from minigpt4.tui.conversation.slash_commands import Choice
    from minigpt4.tui.widgets.completions import Completions

MAX_CHARACTERS = 32_000
"""The composer's limit: several times the bundles' context, yet short enough to type in.

In a single line of 100,000 characters a key took a quarter of a second: the text area rewraps all of it.
"""
LIST_KEYS = {"up": -1, "down": 1, "shift+tab": -1}
"""Move in the list above the composer while it is open; Tab, which is bound, moves down, too."""


class Composer(TextArea):
    """A text area that grows with its text."""

    @dataclass
    class Submitted(Message):
        """A question was sent; `text` is not empty."""

        text: str
        typed: str
        """The composer's whole text, with the white space around `text`."""

    @dataclass
    class FilesDropped(Message):
        """Text was pasted that may be paths of files."""

        text: str

    @dataclass
    class MovedUp(Message):
        """The focus should move to the messages."""

    def __init__(
        self, questions: QuestionHistory, take_back: Callable[[], bool], *, still: bool = False
    ) -> None:
        """`take_back` returns the last question that waits to the composer, if one does."""
        super().__init__(
            id="composer",
            soft_wrap=True,
            show_line_numbers=False,
            highlight_cursor_line=False,
            placeholder="Ask about a picture, or drop one here",
        )
        self.cursor_blink = not still
        self.questions = questions
        self._take_back = take_back
        self._completed = ""
        self._offered_for = ""

    def render_line(self, y: int) -> Strip:
        """A line; blank without a column to wrap the placeholder in, which Textual cannot handle."""
        if self.content_size.width < 1:
            return Strip.blank(self.size.width)
        return super().render_line(y)

    def action_send(self) -> None:
        """Take the row of the list, or submit the text; the screen then clears the composer."""
        choice = self._choices.choice
        if choice is not None and not (looks_dropped(self.text) and names_folder(self.text)):
            self.choose(choice, is_final=True)
        elif self.text.strip():
            self.post_message(self.Submitted(self.text.strip(), self.text))
        else:
            self.call_later(self.run_action, "screen.send_held")

    def submit(self, line: str) -> None:
        """Submit a line as if it were typed; what is typed stays."""
        self.post_message(self.Submitted(line, ""))

    def action_newline(self) -> None:
        """Insert a line break."""
        self.insert("\n")

    async def action_edit_last(self) -> None:
        """Edit the last question."""
        await self.run_action("screen.edit_last")

    async def action_paste(self) -> None:  # type: ignore[override]
        """Paste a picture or text from the clipboard."""
        await self.run_action("screen.paste")

    def action_complete_path(self) -> None:
        """Complete a command, or a path and then walk through the list; otherwise move the focus on."""
        if not self.text.startswith("/") or "\n" in self.text:
            self.screen.focus_next()
            return
        from minigpt4.tui.conversation.slash_commands import complete

        choice = self._choices.choice
        if choice is not None and " " not in self.text:
            self.choose(choice)
            return
        if self._completed == self.text and self._choices.is_open:
            self._choices.move(1)
            return
        done = complete(self.text, complete_path)
        self._completed = done.line
        if done.line != self.text:
            self.replace_text(done.line)
        self._choices.show(done.choices, is_first_chosen=False)

    def choose(self, choice: Choice, *, is_final: bool = False) -> None:
        """Take a row of the list; if it `is_final`, a command that needs no path is sent at once."""
        self.replace_text(choice.text)
        self.focus()
        if choice.text.endswith("/"):
            # A folder: go on with what is in it.
            self.action_complete_path()
        elif is_final and choice.text == choice.label:
            self._choices.show((), is_first_chosen=False)
            # Called later, so that the composer sends it, also after a click on the list.
            self.call_later(self.action_send)

    def action_earlier_question(self) -> None:
        """Move the cursor up; from the first line, bring back the question before, or one that waits."""
        if not self.text and self._take_back():
            return
        is_first = self.navigator.is_first_wrapped_line(self.cursor_location)
        found = self.questions.earlier(self.text) if is_first else None
        if found is None:
            self.action_cursor_up()
        else:
            self.replace_text(found)

    def action_later_question(self) -> None:
        """Move the cursor down; from the last line, go on to the question after, at last to the draft."""
        is_last = self.navigator.is_last_wrapped_line(self.cursor_location)
        found = self.questions.later(self.text) if is_last else None
        if found is None:
            self.action_cursor_down()
        else:
            self.replace_text(found)

    def action_focus_messages(self) -> None:
        """Move the focus to the messages."""
        self.post_message(self.MovedUp())

    async def action_copy(self) -> None:  # type: ignore[override]
        """Copy the selection; without one, Ctrl+C interrupts as in any terminal."""
        if self.selected_text:
            self.app.copy_to_clipboard(self.selected_text)
        else:
            await self.run_action("screen.interrupt")

    def take(self, typed: str) -> None:
        """Remove the sent text; the draft under an earlier question, and what was typed since, stay."""
        if not typed:
            return
        rest = self.text[len(typed) :]
        if not self.text.startswith(typed):
            self.questions.keep(self.text)
            rest = ""
        self.replace_text("\n".join(filter(None, (self.questions.end(), rest))))

    def lift(self) -> str:
        """Empty the composer; returns the draft, not an earlier question that is only shown."""
        draft, under = self.questions.unsent(self.text)
        self.questions.end()
        self.questions.keep(under)
        self.replace_text("")
        return draft

    def put_aside(self) -> None:
        """Empty the composer; Up brings back what was in it."""
        self.questions.keep(self.lift())

    def replace_text(self, text: str) -> None:
        """Replace the text and move the cursor to its end."""
        self.text = text
        self.move_cursor(self.document.end)

    def type(self, text: str) -> None:
        """Insert text at the cursor; text over the limit is cut, with a warning."""
        space = max(MAX_CHARACTERS - len(self.text), 0)
        if len(text) > space:
            self.app.notify(
                f"{len(text):,} characters are too many for a question; only the first {space:,} are pasted.",
                severity="warning",
                markup=False,
            )
        # The text area draws its text as it is, control codes included.
        self.insert(sanitize(text[:space]))

    def close_choices(self) -> bool:
        """Close the completions; returns whether they were open."""
        was_open = self._choices.is_open
        self._choices.show((), is_first_chosen=False)
        return was_open

    def on_text_area_changed(self) -> None:
        """Offer commands while one is typed; what Tab offered stays until the text changes."""
        self._offer_commands()

    def _offer_commands(self) -> None:
        if self.text == self._offered_for:
            return
        self._offered_for = self.text
        if self.text != self._completed:
            self._completed = ""
            found: Sequence[Choice] = ()
            if self.text.startswith("/"):
                from minigpt4.tui.conversation.slash_commands import choices_for

                found = choices_for(self.text)
            self._choices.show(found, is_first_chosen=True)

    async def _on_key(self, event: events.Key) -> None:
        """Handle the app's keys before the text area's, in the order in which they are pressed."""
        # Keys that arrive together overtake the message about the change: the list would still be that of
        # the first letters, and Enter would take its row instead of the text.
        self._offer_commands()
        if self._choices.is_open and event.key in LIST_KEYS:
            event.stop()
            event.prevent_default()
            self._choices.move(LIST_KEYS[event.key])
            return
        host = cast("MiniGPT4App", self.app)
        for action in ACTIONS:
            if action.scope in ("composer", "chat") and event.key in host.keys_of(action.id):
                event.stop()
                event.prevent_default()
                await self.run_action(action.id if action.scope == "composer" else f"screen.{action.id}")
                return

    async def _on_paste(self, event: events.Paste) -> None:
        event.stop()
        event.prevent_default()
        if looks_dropped(event.text):
            self.post_message(self.FilesDropped(event.text))
        else:
            self.type(event.text)

    @property
    def _choices(self) -> Completions:
        # Mounted when it is first needed: the first frame would wait 6 ms for it.
        from minigpt4.tui.widgets.completions import Completions

        for found in self.screen.query(Completions):
            return found
        found = Completions()
        self.screen.mount(found, before="#editing")
        return found


def looks_dropped(text: str) -> bool:
    """Whether a paste may be files dropped on the terminal, which come as absolute paths, often quoted."""
    bare = text.strip().lstrip("'\"")
    return len(text) < 20_000 and (bare.startswith(("/", "~", "file:/")) or bool(WINDOWS.match(bare)))
