"""The list of runs below the chart: a line each with letter, name, state and figures."""

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
    """A click selects a run; columns that do not fit are dropped from the right."""

    ALLOW_SELECT = False
    DEFAULT_CSS = "RunList { width: 100%; height: auto; text-wrap: nowrap; text-overflow: ellipsis; }"

    @dataclass
    class Selected(Message):
        """A run was clicked."""

        run: int

    def __init__(self) -> None:
        super().__init__(markup=False)
        self._rows: list[list[str]] = []
        self._chosen = 0

    def show(self, rows: Sequence[Sequence[str]], chosen: int) -> None:
        """Show rows of texts; the first column is the name."""
        # Columns without any value yet are dropped.
        columns = [column for column in zip(*rows, strict=True) if any(column)]
        self._rows, self._chosen = [list(row) for row in zip(*columns, strict=True)], chosen
        self._draw()

    def on_resize(self) -> None:
        """Lay the columns out again."""
        self._draw()

    def on_click(self, event: events.Click) -> None:
        """Select the run of that line."""
        if event.y < len(self._rows):
            self.post_message(self.Selected(event.y))

    def _draw(self) -> None:
        has_letters = len(self._rows) > 1
        lines = []
        widths = self._widths(self.size.width - (2 if has_letters else 0))
        for number, row in enumerate(self._rows):
            cells = [text + " " * (width - cell_len(text)) for text, width in zip(row, widths, strict=False)]
            style = "bold" if number == self._chosen and has_letters else ""
            letter = f"{run_letter(number)} " if has_letters else ""
            line = Content.assemble(
                (letter, letter_style(number, self.app)),
                (cells[0] if cells else "", style or "bold"),
                ((" " * GAP).join(["", *cells[1:]]).rstrip(), style),
            )
            lines.append(line)
        self.update(Content("\n").join(lines))

    def _widths(self, available: int) -> list[int]:
        widths: list[int] = []
        for column in zip(*self._rows, strict=True):
            width = max(map(cell_len, column))
            if widths and sum(widths) + GAP * len(widths) + width > available > 0:
                break
            widths.append(width)
        return widths
