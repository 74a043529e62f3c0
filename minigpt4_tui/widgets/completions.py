"""The list above the composer: commands, or files and folders, to walk through and choose from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual import on
from textual.content import Content
from textual.message import Message
from textual.widgets.option_list import Option

from minigpt4.tui.terminal.sanitize import sanitize_line
from minigpt4.tui.widgets.option_rows import OptionRows

if TYPE_CHECKING:
    from minigpt4.tui.conversation.slash_commands import Choice

LABEL_COLUMNS = 60


class Completions(OptionRows):
    """Hidden while there is nothing to choose; its keys come from the composer."""

    DEFAULT_CSS = """
    Completions, Completions:focus {
        height: auto;
        max-height: 10;
        padding: 1 2;
        background: $surface;
        display: none;
    }
    """

    @dataclass
    class Chosen(Message):
        """A row was clicked."""

        choice: Choice

    def __init__(self) -> None:
        super().__init__(is_driven=True, id="choices")
        self._choices: tuple[Choice, ...] = ()

    def show(self, choices: Sequence[Choice], *, is_first_chosen: bool) -> None:
        """List what can be chosen, or hide if that is nothing; the cursor is on the first row or on none."""
        if tuple(choices) == self._choices and self.display == bool(choices):
            return
        self._choices = tuple(choices)
        self.display = bool(choices)
        labels = [sanitize_line(one.label, LABEL_COLUMNS) for one in choices]
        width = max(map(len, labels), default=0)
        rows = [
            Option(Content.assemble((label.ljust(width), "bold"), f"  {one.about}".rstrip()))
            for label, one in zip(labels, choices, strict=True)
        ]
        self.fill(rows)
        if not is_first_chosen:
            self.highlighted = None
        self.scroll_to(y=0, animate=False)

    @property
    def is_open(self) -> bool:
        """Whether there is something to choose."""
        return bool(self._choices)

    @property
    def choice(self) -> Choice | None:
        """The choice under the cursor, if any."""
        return None if self.highlighted is None or not self._choices else self._choices[self.highlighted]

    def move(self, step: int) -> None:
        """Move the cursor down (1) or up (-1), from one end to the other."""
        if self.highlighted is None:
            self.highlighted = 0 if step > 0 else len(self._choices) - 1
        else:
            self.highlighted = (self.highlighted + step) % len(self._choices)

    @on(OptionRows.OptionSelected)
    def _clicked(self, event: OptionRows.OptionSelected) -> None:
        event.stop()
        self.post_message(self.Chosen(self._choices[event.option_index]))
