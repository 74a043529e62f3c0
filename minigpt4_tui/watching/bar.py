"""The line at the top: what can be looked at, and what is."""

from __future__ import annotations

from dataclasses import dataclass

from textual.content import Content
from textual.message import Message
from textual.style import Style
from textual.widgets import Static

from minigpt4.tui.watching.views import ANSWERS, VIEWS

NAMES = {**{view.id: view.name for view in VIEWS}, ANSWERS: "answers"}
"""Every view by its id, in the order of their keys."""


class ViewBar(Static):
    """The views with their number keys; a click shows one."""

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    ViewBar {
        height: 1;
        width: 100%;
        padding: 0 2;
        color: $text-muted;
        text-wrap: nowrap;
        text-overflow: ellipsis;
        link-color: $text-muted;
        link-style: none;
        link-background: transparent;
        link-color-hover: $foreground;
        link-style-hover: underline;
        link-background-hover: transparent;
    }
    """

    @dataclass
    class Wanted(Message):
        """A view was clicked."""

        view: str

    def __init__(self) -> None:
        super().__init__(markup=False)
        # Links have one colour, and the chosen view another.
        self.auto_links = False

    def show(self, chosen: str) -> None:
        """Mark the chosen one."""
        parts: list[Content] = []
        for number, (view, name) in enumerate(NAMES.items(), start=1):
            look = "bold underline $text-primary" if view == chosen else ""
            word = Content.assemble(f"{number} ", (name, look))
            parts.append(word.stylize(Style.from_meta({"@click": ("want", (view,))})))
        self.update(Content("   ").join(parts))

    def action_want(self, view: str) -> None:
        """It was clicked."""
        self.post_message(self.Wanted(view))
