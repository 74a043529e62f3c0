"""The blocks of code in an answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    """A block of code, and the language that its fence names; "" if none."""

    code: str
    language: str = ""


def code_blocks(answer: str) -> list[Block]:
    """The blocks of code in an answer written in Markdown, in order."""
    # The Markdown parser takes 25 ms to import.
    from markdown_it import MarkdownIt

    return [
        Block(token.content, token.info.strip().lower())
        for token in MarkdownIt("commonmark").parse(answer)
        if token.type in ("fence", "code_block")
    ]
