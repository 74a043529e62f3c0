"""A code block of an answer, with a copy link in its corner."""

from __future__ import annotations

from dataclasses import dataclass

from textual.app import ComposeResult
from textual.message import Message
from textual.widgets.markdown import MarkdownFence

from minigpt4.tui.widgets.key_line import KeyLine, action_link


class CodeBlock(MarkdownFence):
    """Posts `CopyRequested` when its copy link is clicked."""

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
