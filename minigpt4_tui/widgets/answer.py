"""The text of an answer and of the reasoning before it.

Imported late, as a Markdown parser would delay the first frame by 25 ms.
"""

from __future__ import annotations

from dataclasses import dataclass

from markdown_it import MarkdownIt
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Markdown, Static
from textual.widgets.markdown import MarkdownBlock, MarkdownFence

from minigpt4.tui.terminal.sanitize import sanitize
from minigpt4.tui.widgets.key_line import KeyLine, action_link

THOUGHT_PAINT_S = 0.25
"""Seconds between two paints of growing reasoning, which is rarely read meanwhile."""

MAX_THOUGHT = 60_000
"""Maximum characters of reasoning on the screen."""


class CodeBlock(MarkdownFence):
    """A code block with a copy link in its corner, which posts `CopyRequested`."""

    DEFAULT_CSS = """
    CodeBlock > KeyLine {
        dock: right;
        width: auto;
        height: 1;
        padding: 0 1;
    }
    """

    @dataclass
    class CopyRequested(Message):
        """The code should be copied."""

        code: str

    def compose(self) -> ComposeResult:
        yield from super().compose()
        yield KeyLine(action_link("copy", "copy"))

    def on_key_line_clicked(self, event: KeyLine.Clicked) -> None:
        """Pass the request on."""
        event.stop()
        self.post_message(self.CopyRequested(self.code))


def _parser() -> MarkdownIt:
    # With HTML enabled, tags in an answer would disappear.
    return MarkdownIt("gfm-like", {"html": False})


class AnswerText(Markdown):
    """Markdown from a model: its links are not opened, its HTML is text."""

    # While an answer grows, a vertical layout measures all blocks at every paint; this, only the last.
    DEFAULT_CSS = """
    AnswerText {
        layout: stream;
    }
    """

    # As Textual declares it, mypy takes it for an instance field.
    BLOCKS: dict[str, type[MarkdownBlock]] = {  # noqa: RUF012
        **Markdown.BLOCKS,
        "fence": CodeBlock,
        "code_block": CodeBlock,
    }

    def __init__(self, text: str) -> None:
        super().__init__(text, parser_factory=_parser, open_links=False)

    @property
    def code_blocks(self) -> list[str]:
        """The blocks of code, in order."""
        return [fence.code for fence in self.query(MarkdownFence)]


class ReasoningText(Vertical):
    """What a model thought before it answered, behind a line that a click unfolds."""

    DEFAULT_CSS = """
    ReasoningText {
        width: 100%;
        height: auto;
        .thought { display: none; width: 100%; height: auto; padding: 0 0 1 2; color: $text-muted; }
        &.-open .thought { display: block; }
    }
    """

    def __init__(self, text: str, *, is_growing: bool) -> None:
        super().__init__()
        self._text = text
        self._is_growing = is_growing
        self._is_due = False

    def compose(self) -> ComposeResult:
        yield KeyLine(self._head(), classes="thought-head")
        yield Static(sanitize(self._text[:MAX_THOUGHT]), classes="thought", markup=False)

    def show(self, text: str, *, is_growing: bool) -> None:
        """Show the reasoning so far; painted together with what arrives in the next moment."""
        if (text, is_growing) == (self._text, self._is_growing):
            return
        self._text, self._is_growing = text, is_growing
        if not self._is_due:
            self._is_due = True
            self.set_timer(THOUGHT_PAINT_S, self._paint)

    def toggle(self) -> None:
        """Unfold it, or fold it."""
        self.toggle_class("-open")
        self._paint()

    def _paint(self) -> None:
        self._is_due = False
        if not self.is_mounted:
            return
        self.query_one(KeyLine).update(self._head())
        if self.has_class("-open"):
            self.query_one(".thought", Static).update(sanitize(self._text[:MAX_THOUGHT]))

    def _head(self) -> Content:
        count = len(self._text.split())
        words = f"{count} word{'' if count == 1 else 's'}"
        what = f"Thinking … {words}" if self._is_growing else f"Reasoning, {words}"
        return action_link(f"{'▾' if self.has_class('-open') else '▸'} {what}", "toggle_reasoning")
