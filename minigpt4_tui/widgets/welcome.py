"""What an empty conversation shows: how to start."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from minigpt4.tui.widgets.key_line import KeyLine, action_link


class Welcome(Vertical):
    """A few centered lines; `ways` are keys (or commands), descriptions and actions."""

    def __init__(self, ways: tuple[tuple[str, str, str], ...]) -> None:
        super().__init__(id="welcome")
        self._ways = ways

    def compose(self) -> ComposeResult:
        yield Static("minigpt4", classes="name", markup=False)
        motto = "Talk about your own pictures. Nothing leaves this machine."
        yield Static(motto, classes="motto", markup=False)
        width = max(len(key) for key, _, _ in self._ways)
        lines = [
            action_link(Content.assemble((key.rjust(width), "$text-accent"), f"   {about}"), action)
            for key, about, action in self._ways
        ]
        yield KeyLine(Content("\n").join(lines), is_plain=False, classes="ways")
