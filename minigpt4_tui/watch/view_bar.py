"""The line at the top: what can be looked at, and what is."""

from __future__ import annotations

from textual.content import Content

from minigpt4.tui.watch.metrics import ANSWERS, VIEWS
from minigpt4.tui.widgets.key_line import KeyLine, action_link

NAMES = {**{view.id: view.name for view in VIEWS}, ANSWERS: "answers"}
"""Every view by its id, in the order of their keys."""


class ViewBar(KeyLine):
    """The views with their number keys; `Taken` is the id of the one that was clicked."""

    DEFAULT_CSS = """
    ViewBar {
        height: 1;
        width: 100%;
        padding: 0 2;
        color: $text-muted;
        text-wrap: nowrap;
        text-overflow: ellipsis;
    }
    """

    def __init__(self) -> None:
        super().__init__(is_plain=False)

    def show(self, chosen: str) -> None:
        """Mark the chosen one."""
        parts: list[Content] = []
        for number, (view, name) in enumerate(NAMES.items(), start=1):
            look = "bold underline $text-primary" if view == chosen else ""
            parts.append(action_link(Content.assemble(f"{number} ", (name, look)), view))
        self.update(Content("   ").join(parts))
