"""Words that tell what keys do, or what could be chosen: a click on them does it, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from textual.content import Content
from textual.message import Message
from textual.style import Style
from textual.widgets import Static


def step(text: str | Content, action: str) -> Content:
    """Text of a `KeyLine`, on which a click is `Taken`."""
    content = Content(text) if isinstance(text, str) else text
    return content.stylize(Style.from_meta({"@click": ("step", (action,))}))


class KeyLine(Static):
    """Passes on what was clicked as `Taken`; with `is_plain` the words are underlined under the mouse."""

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    KeyLine {
        link-color: $text-muted;
        link-style: none;
        link-background: transparent;
        link-color-hover: $foreground;
        link-style-hover: underline;
        link-background-hover: transparent;
    }
    """

    @dataclass
    class Taken(Message):
        """What the words stand for is wanted: the id of an action, or whatever `step` was given."""

        action: str

    def __init__(self, content: str | Content = "", *, is_plain: bool = True, **named: Any) -> None:
        super().__init__(content, markup=False, **named)
        # Links have one colour; words of several keep their own.
        self.auto_links = is_plain

    def action_step(self, action: str) -> None:
        """The words were clicked."""
        self.post_message(self.Taken(action))
