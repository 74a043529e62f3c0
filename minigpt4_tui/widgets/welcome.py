"""What an empty conversation shows: how to begin."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static


class Welcome(Vertical):
    """A few lines in the middle; `ways` are keys (or words to type) and what they do."""

    def __init__(self, ways: tuple[tuple[str, str], ...]) -> None:
        super().__init__(id="welcome")
        self._ways = ways

    def compose(self) -> ComposeResult:
        yield Static("minigpt4", classes="name", markup=False)
        motto = "Talk about your own pictures. Nothing leaves this machine."
        yield Static(motto, classes="motto", markup=False)
        width = max(len(key) for key, _ in self._ways)
        lines = [
            Content.assemble((key.rjust(width), "$text-accent"), f"   {about}") for key, about in self._ways
        ]
        yield Static(Content("\n").join(lines), classes="ways", markup=False)
