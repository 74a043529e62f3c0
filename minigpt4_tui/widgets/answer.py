"""The words of an answer. Imported with the first one: a parser of Markdown costs a first frame 25 ms."""

from __future__ import annotations

from markdown_it import MarkdownIt
from textual.widgets import Markdown
from textual.widgets.markdown import MarkdownBlock, MarkdownFence

from minigpt4.tui.widgets.code_block import CodeBlock


def _parser() -> MarkdownIt:
    # With HTML on, tags of an answer would vanish instead of being read.
    return MarkdownIt("gfm-like", {"html": False})


class AnswerText(Markdown):
    """Markdown of a model: its links open nothing by themselves, its HTML is text."""

    # Textual declares it so that mypy takes it for a field of instances.
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
