"""The input that covers the title of a conversation while it is renamed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from textual import events
from textual.binding import BindingType
from textual.message import Message
from textual.widgets import Input

from minigpt4.tui.settings.bindings import bindings_of


class RenameInput(Input):
    """Shown over a row: Enter posts `Input.Submitted`, Escape and a click elsewhere `Left`."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("dialog")]
    DEFAULT_CSS = """
    RenameInput, RenameInput:focus {
        layer: above;
        position: absolute;
        border: none;
        height: 1;
        padding: 0 1 0 3;
        background: $panel;
    }
    """

    @dataclass
    class Left(Message):
        """The old title stays; `has_focus` is False if the focus has already moved elsewhere."""

        has_focus: bool

    def __init__(self, **named: Any) -> None:
        super().__init__(**named)
        self.display = False

    def begin(self, title: str) -> None:
        """Show the title to be changed."""
        self.value, self.display = title, True
        self.cursor_position = len(title)
        self.focus()

    def action_close(self) -> None:
        """Leave the old title."""
        self.post_message(self.Left(has_focus=True))

    def on_blur(self, _event: events.Blur) -> None:
        """Leave the old title, as Escape does, but do not move the focus."""
        if self.display:
            self.post_message(self.Left(has_focus=False))
