"""A line of text with clickable links: what keys do, or what can be chosen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from textual.content import Content
from textual.message import Message
from textual.style import Style
from textual.widgets import Static


def action_link(text: str | Content, action: str) -> Content:
    """Text of a `KeyLine` that posts `Clicked` when it is clicked."""
    content = Content(text) if isinstance(text, str) else text
    return content.stylize(Style.from_meta({"@click": ("link", (action,))}))


def flow(parts: Iterable[Content], columns: int) -> Content:
    """The parts side by side, as many per line as fit; no part is broken."""
    lines: list[Content] = []
    for part in parts:
        joined = Content("  ").join((lines[-1], part)) if lines else part
        if lines and joined.cell_length <= columns:
            lines[-1] = joined
        else:
            lines.append(part)
    return Content("\n").join(lines)


class KeyHint(NamedTuple):
    """What keys do; a click on it runs `link`, an action of the screen or, as "focused.NAME", of a widget."""

    actions: tuple[str, ...]
    """The ids of the actions in the table of keys."""

    about: str
    link: str


@runtime_checkable
class HasKeys(Protocol):
    """A widget whose keys are shown while it has the focus."""

    @property
    def key_hints(self) -> list[KeyHint]:
        """The keys that work now, the most useful first."""
        ...


class KeyLine(Static):
    """Posts `Clicked` for the link under the mouse; with `is_plain` that link is underlined."""

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
    class Clicked(Message):
        """A link was clicked; `action` is the second argument of its `action_link`."""

        action: str

    def __init__(self, content: str | Content = "", *, is_plain: bool = True, **named: Any) -> None:
        super().__init__(content, markup=False, **named)
        # Textual gives links one color; text with colors of its own keeps them.
        self.auto_links = is_plain

    def action_link(self, action: str) -> None:
        """Post the link's message."""
        self.post_message(self.Clicked(action))
