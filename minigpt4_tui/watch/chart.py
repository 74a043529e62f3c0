"""The chart widget: a plot in the theme's colors, with a cursor moved by keys and mouse."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import App
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from minigpt4.tui.watch.plot import Part, Plot, PlotRequest, PlotStyle, plot

COLORS = ("primary", "accent", "success", "error", "secondary", "warning")
"""The runs' theme colors. The seventh run reuses the first: letters distinguish runs as well."""

FAINT = "38%"
"""Opacity of single steps: the mean must stand out from them on dark and light backgrounds."""

BOLD, DIM = Style(bold=True), Style(dim=True)


class Chart(Widget):
    """Fills the space it is given; `show` sets what it draws."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        *(f"chart--{part}" for part in ("axis", "grid", "cursor")),
        *(f"chart--{part}-{color}" for part in ("raw", "line") for color in COLORS),
    }
    DEFAULT_CSS = """
    Chart { height: 1fr; width: 1fr; }
    Chart > .chart--axis { color: $text-muted; }
    Chart > .chart--grid { color: $foreground 22%; }
    Chart > .chart--cursor { color: $foreground 60%; }
    Chart:ansi > .chart--grid { text-style: dim; }
    """ + "".join(
        f"""
    Chart > .chart--line-{color} {{ color: ${color}; }}
    Chart > .chart--raw-{color} {{ color: ${color} {FAINT}; }}
    Chart:ansi > .chart--raw-{color} {{ text-style: dim; }}
    """
        for color in COLORS
    )

    @dataclass
    class Pointed(Message):
        """The mouse is over this step (None: it left); `is_clicked`: the cursor moves there."""

        step: float | None
        is_clicked: bool = False

    def __init__(self) -> None:
        super().__init__()
        self._request: PlotRequest | None = None
        self._plot: Plot | None = None
        self._styles: dict[PlotStyle | None, Style] = {}

    def notify_style_update(self) -> None:
        """Forget the colors of the previous theme."""
        super().notify_style_update()
        self._styles.clear()

    def show(self, request: PlotRequest) -> None:
        """Draw this plot in the chart's own size."""
        self._request, self._plot = request, None
        self.refresh()

    def moved(self, step: float, columns: int) -> float:
        """The step that many columns to the right, within the axis."""
        drawn = self._drawn()
        if drawn is None:
            return step
        return drawn.step_at(drawn.cell_of(step) + columns)

    def value_at(self, run: int, step: float) -> float | None:
        """The value of a run's line at a step; None outside it."""
        drawn = self._drawn()
        return drawn.value_at(run, step) if drawn is not None else None

    def on_resize(self) -> None:
        """Redraw in the new size."""
        self._plot = None
        self.refresh()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Report the step under the mouse."""
        drawn = self._drawn()
        if drawn is not None and event.x >= drawn.left:
            self.post_message(self.Pointed(drawn.step_at(event.x)))

    def on_click(self, event: events.Click) -> None:
        """Report the clicked step."""
        drawn = self._drawn()
        if drawn is not None and event.x >= drawn.left:
            self.post_message(self.Pointed(drawn.step_at(event.x), is_clicked=True))

    def on_leave(self) -> None:
        """Report that the mouse left."""
        self.post_message(self.Pointed(None))

    def render_line(self, y: int) -> Strip:
        """One line of the plot."""
        drawn = self._drawn()
        if drawn is None or y >= len(drawn.lines):
            return Strip.blank(self.size.width, self.rich_style)
        segments = [Segment(text, self._style(style)) for text, style in drawn.lines[y]]
        return Strip(segments).adjust_cell_length(self.size.width, self.rich_style)

    def _style(self, style: PlotStyle | None) -> Style:
        """Cached: computing the style of every segment again took a third of a frame's time."""
        if style not in self._styles:
            self._styles[style] = self.rich_style if style is None else self._computed_style(style)
        return self._styles[style]

    def _computed_style(self, plot_style: PlotStyle) -> Style:
        part, color = plot_style.part, run_color(plot_style.run)
        if part in (Part.AXIS, Part.GRID, Part.CURSOR):
            return self.get_component_rich_style(f"chart--{part.name.lower()}")
        # Converted to gray, one run's color may be darker than another's single steps.
        is_colored = not self.app.no_color
        if part == Part.RAW:
            faint = f"chart--raw-{color}"
            return self.get_component_rich_style(faint) if is_colored else self.rich_style + DIM
        style = self.get_component_rich_style(f"chart--line-{color}") if is_colored else self.rich_style
        return style + BOLD if part == Part.LETTER else style

    def _drawn(self) -> Plot | None:
        if self._plot is None and self._request is not None:
            self._plot = plot(replace(self._request, columns=self.size.width, rows=self.size.height))
        return self._plot


def run_color(run: int) -> str:
    """The theme variable of a run's color."""
    return COLORS[run % len(COLORS)]


def letter_style(run: int, app: App[Any]) -> str:
    """The style of a run's letter."""
    return "bold" if app.no_color else f"bold ${run_color(run)}"
