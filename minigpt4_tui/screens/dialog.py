"""Base classes of the screens over the conversation: overlay, panel with heading and line of keys, list."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, TypeVar, cast

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from minigpt4.tui.settings.bindings import bindings_of
from minigpt4.tui.widgets.key_line import KeyLine, action_link
from minigpt4.tui.widgets.option_rows import OptionRows

if TYPE_CHECKING:
    from minigpt4.tui.app.app import MiniGPT4App

T = TypeVar("T")


def hints(*parts: str | Content) -> Content:
    """The line of keys; empty parts are omitted."""
    return Content(" · ").join(Content(part) if isinstance(part, str) else part for part in parts if part)


class Overlay(ModalScreen[T]):
    """A screen over the conversation, closed by Escape; clicks on a `KeyLine` run its actions."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("dialog")]

    @property
    def host(self) -> MiniGPT4App:
        """The app, typed."""
        return cast("MiniGPT4App", self.app)

    @on(KeyLine.Clicked)
    async def _link_clicked(self, event: KeyLine.Clicked) -> None:
        event.stop()
        await self.run_action(event.action)

    def action_close(self) -> None:
        """Close the screen."""
        self.dismiss(None)


class Dialog(Overlay[T]):
    """A panel in the middle. Subclasses define a `body`, a heading and a hint."""

    # As Textual declares it, mypy takes it for an instance field.
    VERTICAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-flat"), (14, "-tall")]  # noqa: RUF012
    CSS = """
    Dialog.-over {
        align: center middle;
        background: $background 60%;

        .box { width: 90%; max-width: 90; height: 90%; max-height: 30; background: $surface; padding: 1 2; }
        .box.-slim { max-width: 70; max-height: 22; }
        .box.-low { max-height: 16; }
        .heading { text-style: bold; color: $text-primary; height: 1; padding: 0 1; margin-bottom: 1; }
        .note { height: auto; padding: 0 1; margin-top: 1; }
        .problem { height: auto; padding: 0 1; margin-top: 1; color: $text-error; }
        .hint { padding: 0 1; margin-top: 1; }
        Input, Input:focus { border: none; height: 1; padding: 0 1; background: $panel; margin-bottom: 1; }
    }
    Dialog.-over.-flat {
        .box { width: 100%; height: 100%; padding: 0 1; }
        .heading, .hint, .note { display: none; }
        Input, Input:focus { margin-bottom: 0; }
    }
    """
    SCOPED_CSS = False  # else it would not apply to the panel itself and to subclasses
    HEADING = ""
    HINT = ""
    SHAPE = ""
    """CSS class of a smaller panel: -slim or -low."""

    def __init__(self) -> None:
        super().__init__(classes="-over")

    def compose(self) -> ComposeResult:
        with Vertical(classes=f"box {self.SHAPE}"):
            yield Static(self.heading(), classes="heading", markup=False)
            yield from self.body()
            yield KeyLine(self.hint(), classes="hint quiet")

    def heading(self) -> str:
        """The text at the top."""
        return self.HEADING

    def hint(self) -> Content:
        """The line of keys."""
        return hints(self.HINT, action_link(f"{self.host.key('close')} closes", "close"))

    def body(self) -> ComposeResult:
        """The widgets between heading and hint."""
        yield from ()


class WordsInput(Input):
    """An input for words: pictures that are dropped on it are added to the next question."""

    def on_paste(self, event: events.Paste) -> None:
        """Take files before the input does, which otherwise inserts their paths."""
        host = cast("MiniGPT4App", self.app)
        if host.chat.attach_text(event.text):
            event.stop()
            event.prevent_default()
            host.say(host.chat.ADDED)


class ListDialog(Dialog[T]):
    """An input with a list below it: letters go to the input, the arrows and Enter to the list."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "list('cursor_down')", show=False),
        Binding("up", "list('cursor_up')", show=False),
        Binding("pagedown", "list('page_down')", show=False),
        Binding("pageup", "list('page_up')", show=False),
    ]
    PLACEHOLDER = ""
    TAKES_PATH = False
    """Whether a path pasted into the input stays there and is not attached to the next question."""

    def body(self) -> ComposeResult:
        kind = Input if self.TAKES_PATH else WordsInput
        yield kind(placeholder=self.PLACEHOLDER, id="query")
        yield OptionRows(id="rows", is_driven=True)
        yield Static("", classes="note quiet", id="note", markup=False)

    @property
    def rows(self) -> OptionRows:
        """The list."""
        return self.query_one("#rows", OptionRows)

    @property
    def typed(self) -> str:
        """The text of the input."""
        return self.query_one("#query", Input).value

    def show_note(self, text: str) -> None:
        """Show a sentence below the list."""
        self.query_one("#note", Static).update(text)

    def action_list(self, move: str) -> None:
        """Move the list's cursor."""
        getattr(self.rows, f"action_{move}")()

    def on_input_submitted(self) -> None:
        """Enter selects the row under the cursor."""
        self.rows.action_select()
