"""The runs below the chart, a line each: letter, name, state and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from textual import events
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from minigpt4.tui.watch.chart import letter_style
from minigpt4.tui.watch.plot import run_letter

GAP = 2


class RunList(Static):
    """A click chooses a run; columns that have no room are left out, the last first."""

    ALLOW_SELECT = False
    DEFAULT_CSS = "RunList { width: 100%; height: auto; text-wrap: nowrap; text-overflow: ellipsis; }"

    @dataclass
    class Wanted(Message):
        """A run was clicked."""

        run: int

    def __init__(self) -> None:
        super().__init__(markup=False)
        self._rows: list[list[str]] = []
        self._chosen = 0

    def show(self, rows: Sequence[Sequence[str]], chosen: int) -> None:
        """Show texts in columns, of which the first is the name."""
        # What no run has told yet takes no room.
        columns = [column for column in zip(*rows, strict=True) if any(column)]
        self._rows, self._chosen = [list(row) for row in zip(*columns, strict=True)], chosen
        self._draw()

    def on_resize(self) -> None:
        """Another width has room for other columns."""
        self._draw()

    def on_click(self, event: events.Click) -> None:
        """Choose the run of that line."""
        if event.y < len(self._rows):
            self.post_message(self.Wanted(event.y))

    def _draw(self) -> None:
        has_letters = len(self._rows) > 1
        lines = []
        widths = self._widths(self.size.width - (2 if has_letters else 0))
        for number, row in enumerate(self._rows):
            cells = [text + " " * (width - cell_len(text)) for text, width in zip(row, widths, strict=False)]
            look = "bold" if number == self._chosen and has_letters else ""
            letter = f"{run_letter(number)} " if has_letters else ""
            line = Content.assemble(
                (letter, letter_style(number, self.app)),
                (cells[0] if cells else "", look or "bold"),
                ((" " * GAP).join(["", *cells[1:]]).rstrip(), look),
            )
            lines.append(line)
        self.update(Content("\n").join(lines))

    def _widths(self, room: int) -> list[int]:
        widths: list[int] = []
        for column in zip(*self._rows, strict=True):
            width = max(map(cell_len, column))
            if widths and sum(widths) + GAP * len(widths) + width > room > 0:
                break
            widths.append(width)
        return widths
