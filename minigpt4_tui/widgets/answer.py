"""The text of an answer; imported late, as a Markdown parser would delay the first frame by 25 ms."""

from __future__ import annotations

from dataclasses import dataclass

from markdown_it import MarkdownIt
from textual.app import ComposeResult
from textual.message import Message
from textual.widgets import Markdown
from textual.widgets.markdown import MarkdownBlock, MarkdownFence

from minigpt4.tui.widgets.key_line import KeyLine, action_link


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

    # While an answer grows, a vertical layout asks all blocks for their sizes at every paint; this, the last.
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
