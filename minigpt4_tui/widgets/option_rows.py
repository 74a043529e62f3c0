"""A frameless list of one-line options that keeps keys pressed before its rows are there.

It reports when its end is about to be visible.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.segment import Segment
from rich.style import Style
from textual.content import Content
from textual.css.styles import RulesMap
from textual.message import Message
from textual.strip import Strip
from textual.style import Style as VisualStyle
from textual.visual import RenderOptions, Visual
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from minigpt4.tui.widgets.waiting_keys import WaitingKeys

AHEAD = 10
"""Rows before the end at which `NearEnd` is posted."""


@dataclass(frozen=True)
class TwoEnds(Visual):
    """A row with one text at its left end, cut where there is no room, and one at its right end."""

    left: Content
    right: Content

    def __str__(self) -> str:
        return f"{self.left}  {self.right}"

    def render_strips(
        self, width: int, height: int | None, style: VisualStyle, options: RenderOptions
    ) -> list[Strip]:
        """One line of that width."""
        left = self.left.truncate(max(width - self.right.cell_length - 2, 0), ellipsis=True)
        space = " " * (width - left.cell_length - self.right.cell_length)
        return Content.assemble(left, space, self.right).render_strips(width, height, style, options)

    def get_optimal_width(self, rules: RulesMap, container_width: int) -> int:
        """As wide as the list."""
        return container_width

    def get_height(self, rules: RulesMap, width: int) -> int:
        """One line."""
        return 1


class OptionRows(WaitingKeys, OptionList):
    """The app's list style; with `is_driven` it has no focus and gets its keys from an input above it."""

    DEFAULT_CSS = """
    OptionRows, OptionRows:focus {
        height: 1fr;
        border: none;
        padding: 0;
        background: transparent;
        background-tint: transparent;
        text-wrap: nowrap;
        text-overflow: ellipsis;
    }
    OptionRows > .option-list--option { padding: 0 1; }
    OptionRows > .option-list--option-disabled { color: $foreground 70%; }
    OptionRows.-driven > .option-list--option-highlighted {
        color: $block-cursor-foreground;
        background: $block-cursor-background;
        text-style: $block-cursor-text-style;
    }
    """

    @dataclass
    class NearEnd(Message):
        """The last of `count` rows are nearly visible; the cursor and scrolling may both report it."""

        count: int

    def __init__(self, *, is_driven: bool = False, **named: Any) -> None:
        super().__init__(markup=False, **named)
        self.can_focus = not is_driven
        self.set_class(is_driven, "-driven", update=False)  # it has no styles yet

    def fill(self, rows: list[Option], *, keep: str | None = None) -> None:
        """Show these rows, the cursor on the one whose id is `keep`, else on the first enabled one."""
        top = self.scroll_offset.y
        self.set_options(rows)
        enabled = [index for index, row in enumerate(rows) if not row.disabled]
        kept = [index for index in enabled if rows[index].id == keep and keep is not None]
        self.highlighted = next(iter(kept or enabled), None)
        if kept:
            self.scroll_to(y=top, animate=False)
        if not self.is_awaited:
            self.release()

    def action_cursor_down(self) -> None:
        """Move down, once the rows are there."""
        if not self.waits("cursor_down"):
            super().action_cursor_down()

    def action_cursor_up(self) -> None:
        """Move up, once the rows are there."""
        if not self.waits("cursor_up"):
            super().action_cursor_up()

    def action_select(self) -> None:
        """Select the row under the cursor, once the rows are there."""
        if not self.waits("select"):
            super().action_select()

    def render_line(self, y: int) -> Strip:
        """A line; under the cursor nothing is dim, which would be hard to read on that background."""
        strip = super().render_line(y)
        background = self.get_component_rich_style("option-list--option-highlighted").bgcolor
        if background is None or all(
            part.style is None or part.style.bgcolor != background for part in strip
        ):
            return strip
        return Strip(Segment.apply_style(strip, post_style=Style(dim=False)), strip.cell_length)

    def page(self, step: int) -> None:
        """Move the cursor by one page, up (-1) or down (1)."""
        self._move_page(-1 if step < 0 else 1)

    @property
    def chosen(self) -> str | None:
        """The id of the row under the cursor."""
        row = self.highlighted_option
        return None if row is None else row.id

    def watch_highlighted(self, highlighted: int | None) -> None:
        """Report that the cursor is near the end."""
        super().watch_highlighted(highlighted)
        if highlighted is not None and highlighted >= self.option_count - AHEAD:
            self.post_message(self.NearEnd(self.option_count))

    def watch_scroll_y(self, before: float, after: float) -> None:
        """Report that the end is nearly visible."""
        super().watch_scroll_y(before, after)
        if after > before and after + self.size.height >= self.virtual_size.height - AHEAD:
            self.post_message(self.NearEnd(self.option_count))
