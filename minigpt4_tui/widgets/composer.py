"""Where a question is typed: Enter sends, a dropped or pasted file becomes a picture of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

from textual import events
from textual.binding import BindingType
from textual.content import Content
from textual.message import Message
from textual.strip import Strip
from textual.widgets import TextArea

from minigpt4.tui.images.attachments import WINDOWS, complete_path
from minigpt4.tui.settings.bindings import bindings_of
from minigpt4.tui.settings.keys import ACTIONS
from minigpt4.tui.terminal.sanitize import shown, shown_line
from minigpt4.tui.widgets.key_line import KeyLine, step

if TYPE_CHECKING:
    from minigpt4.tui.app.app import MiniGPT4App

MOST_LETTERS = 32_000
"""Most that the composer holds: several times the contexts of our bundles, and few enough to type on.

In a single line of 100,000 a key took a quarter of a second, as the text area wraps all of it anew.
"""

MOST_CHOICES = 7
"""Lines of the list above the composer."""


class Choices(KeyLine):
    """What a line that begins with a slash could become; a click takes one."""

    def __init__(self) -> None:
        super().__init__(is_plain=False, id="choices")

    def show(self, choices: tuple[tuple[str, str], ...]) -> None:
        """List them, or vanish where there are none; of a path its last part, which tells them apart."""
        self.display = bool(choices)
        labels = [shown_line(name if about else _last_part(name), 60) for name, about in choices]
        width = max(map(len, labels), default=0)
        lines = [
            step(Content.assemble((label.ljust(width), "$primary"), f"  {about}"), name)
            for label, (name, about) in list(zip(labels, choices, strict=True))[:MOST_CHOICES]
        ]
        if len(choices) > MOST_CHOICES:
            lines.append(Content.styled(f"… {len(choices) - MOST_CHOICES} more", "$text-muted"))
        self.update(Content("\n").join(lines))


def _last_part(path: str) -> str:
    head = path.rstrip("/").rpartition("/")[0]
    return path[len(head) :].lstrip("/") or path


class Composer(TextArea):
    """A text area that grows with what is in it."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("composer")]

    @dataclass
    class Sent(Message):
        """A line, or several, that the person is done with; not empty."""

        text: str
        typed: str
        """All that stood in the composer, white space around the text included."""

    @dataclass
    class Dropped(Message):
        """A paste that may be the paths of files."""

        text: str

    @dataclass
    class Left(Message):
        """Up was pressed in an empty composer: the person looks at the messages."""

    @dataclass
    class Called(Message):
        """An action of the composer's that is not its own to do."""

        action: str

    def __init__(self, *, still: bool = False) -> None:
        super().__init__(
            id="composer",
            soft_wrap=True,
            show_line_numbers=False,
            compact=True,
            highlight_cursor_line=False,
            placeholder="Ask about a picture, or drop one here",
        )
        self.cursor_blink = not still
        self._completed = ""

    def render_line(self, y: int) -> Strip:
        """A line; blank where there is no column that the placeholder could be wrapped to."""
        if self.content_size.width < 1:
            return Strip.blank(self.size.width)
        return super().render_line(y)

    def action_send(self) -> None:
        """Hand the text over; whoever takes it clears the composer."""
        if self.text.strip():
            self.post_message(self.Sent(self.text.strip(), self.text))

    def action_newline(self) -> None:
        """A new line in the question."""
        self.insert("\n")

    def action_edit_last(self) -> None:
        """Take the last question back to be changed."""
        self.post_message(self.Called("edit_last"))

    def action_paste(self) -> None:
        """A picture from the clipboard, or text."""
        self.post_message(self.Called("paste"))

    def action_complete_path(self) -> None:
        """Complete a command or the path after it; go on to the next thing on the screen otherwise."""
        if not self.text.startswith("/") or "\n" in self.text:
            self.screen.focus_next()
            return
        from minigpt4.tui.conversation.slash_commands import complete

        done = complete(self.text, complete_path)
        if done.line != self.text:
            self._completed = done.line
            self.replace_text(done.line)
        self._choices.show(done.choices)

    def choose(self, choice: str) -> None:
        """Take one of the list above: a command, or a path after one."""
        head, space, _ = self.text.partition(" ")
        self.replace_text(f"{head} {choice}" if space else f"{choice} ")
        self.focus()

    def action_cursor_up(self, select: bool = False) -> None:
        """Leave an empty composer for the messages."""
        if self.text or select:
            super().action_cursor_up(select)
        else:
            self.post_message(self.Left())

    def action_copy(self) -> None:
        """Copy what is selected; without a selection the key means what it means in a terminal."""
        if self.selected_text:
            self.app.copy_to_clipboard(self.selected_text)
        else:
            self.post_message(self.Called("interrupt"))

    def take(self, typed: str) -> None:
        """Remove what was sent; what was typed after it stays."""
        self.replace_text(self.text[len(typed) :] if self.text.startswith(typed) else "")

    def replace_text(self, text: str) -> None:
        """Another text, the cursor at its end."""
        self.text = text
        self.move_cursor(self.document.end)

    def type(self, text: str) -> None:
        """Insert text where the cursor is, as typing would; a book is cut, which is said."""
        room = MOST_LETTERS - len(self.text)
        if len(text) > room:
            self.app.notify(
                f"{len(text):,} letters are more than a question holds; the first {max(room, 0):,} are here.",
                severity="warning",
                markup=False,
            )
        # The text area draws what is in it as it is, so nothing that a terminal would obey may get there.
        self.insert(shown(text[: max(room, 0)]))

    def close_choices(self) -> bool:
        """Close the list above; whether there was one."""
        was_open = bool(self._choices.display)
        self._choices.show(())
        return was_open

    def on_text_area_changed(self) -> None:
        """Offer the commands while one is typed; what Tab offered stands until something is typed."""
        if self.text != self._completed:
            from minigpt4.tui.conversation.slash_commands import choices_for

            self._completed = ""
            self._choices.show(choices_for(self.text))

    async def _on_key(self, event: events.Key) -> None:
        """Our own keys before the text area's, and in the order in which they were pressed."""
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
            self.post_message(self.Dropped(event.text))
        else:
            self.type(event.text)

    @property
    def _choices(self) -> Choices:
        return self.screen.query_one(Choices)


def looks_dropped(text: str) -> bool:
    """Whether a paste may be files dropped on the terminal: these come with whole paths, often quoted."""
    bare = text.strip().lstrip("'\"")
    return len(text) < 20_000 and (bare.startswith(("/", "~", "file:/")) or bool(WINDOWS.match(bare)))
