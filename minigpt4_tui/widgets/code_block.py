"""A block of code in an answer, with a word in its corner that copies it."""

from __future__ import annotations

from dataclasses import dataclass

from textual.app import ComposeResult
from textual.message import Message
from textual.widgets.markdown import MarkdownFence

from minigpt4.tui.widgets.key_line import KeyLine, step


class CodeBlock(MarkdownFence):
    """Tells by `Copied` that its code is wanted."""

    DEFAULT_CSS = """
    CodeBlock > KeyLine {
        dock: right;
        width: auto;
        height: 1;
        padding: 0 1;
    }
    """

    @dataclass
    class Copied(Message):
        """The code is to be copied."""

        code: str

    def compose(self) -> ComposeResult:
        yield from super().compose()
        yield KeyLine(step("copy", "copy"))

    def on_key_line_taken(self, event: KeyLine.Taken) -> None:
        """The word was clicked."""
        event.stop()
        self.post_message(self.Copied(self.code))
