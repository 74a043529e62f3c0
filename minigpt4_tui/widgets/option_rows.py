"""A list of one-line choices without frames, which tells when its end comes into sight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.segment import Segment
from rich.style import Style
from textual.message import Message
from textual.strip import Strip
from textual.widgets import OptionList
from textual.widgets.option_list import Option

AHEAD = 10
"""Rows before the end at which more of them are asked for."""


class Rows(OptionList):
    """An `OptionList` as all our lists are; with `is_driven` its keys come from a line above it."""

    DEFAULT_CSS = """
    Rows, Rows:focus {
        height: 1fr;
        border: none;
        padding: 0;
        background: transparent;
        background-tint: transparent;
        text-wrap: nowrap;
        text-overflow: ellipsis;
    }
    Rows > .option-list--option { padding: 0 1; }
    Rows > .option-list--option-disabled { color: $foreground 70%; }
    Rows.-driven > .option-list--option-highlighted {
        color: $block-cursor-foreground;
        background: $block-cursor-background;
        text-style: $block-cursor-text-style;
    }
    """

    @dataclass
    class NearEnd(Message):
        """The last of `count` rows are nearly in sight; the cursor and the scrolling may both tell of it."""

        count: int

    def __init__(self, *, is_driven: bool = False, **named: Any) -> None:
        super().__init__(markup=False, **named)
        self.can_focus = not is_driven
        self.set_class(is_driven, "-driven")

    def fill(self, rows: list[Option], *, keep: str | None = None) -> None:
        """Show these rows, the cursor on that of the id `keep`, else on the first that can be chosen."""
        top = self.scroll_offset.y
        self.set_options(rows)
        places = [place for place, row in enumerate(rows) if not row.disabled]
        kept = [place for place in places if rows[place].id == keep and keep is not None]
        self.highlighted = next(iter(kept or places), None)
        if kept:
            self.scroll_to(y=top, animate=False)

    def render_line(self, y: int) -> Strip:
        """A line; under the cursor nothing is dim, as it could hardly be read on its ground."""
        strip = super().render_line(y)
        ground = self.get_component_rich_style("option-list--option-highlighted").bgcolor
        if ground is None or all(part.style is None or part.style.bgcolor != ground for part in strip):
            return strip
        clear = Style(dim=False)
        return Strip(Segment.apply_style(strip, post_style=clear), strip.cell_length)

    def page(self, step: int) -> None:
        """Move the cursor by what is seen at once, up (-1) or down (1)."""
        self._move_page(-1 if step < 0 else 1)

    @property
    def chosen(self) -> str | None:
        """The id of the row that the cursor is on."""
        row = self.highlighted_option
        return None if row is None else row.id

    def watch_highlighted(self, highlighted: int | None) -> None:
        """More may be wanted below the cursor."""
        super().watch_highlighted(highlighted)
        if highlighted is not None and highlighted >= self.option_count - AHEAD:
            self.post_message(self.NearEnd(self.option_count))

    def watch_scroll_y(self, before: float, after: float) -> None:
        """More may be wanted below what is shown."""
        super().watch_scroll_y(before, after)
        if after > before and after + self.size.height >= self.virtual_size.height - AHEAD:
            self.post_message(self.NearEnd(self.option_count))
