"""The chart on the screen: a plot in the theme's colours, with a cursor that keys and mouse move."""

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

from minigpt4.tui.watch.plot import Ink, Plot, Wish, plot

COLOURS = ("primary", "accent", "success", "error", "secondary", "warning")
"""The theme's colours of the runs. The seventh begins again: letters tell the runs apart as well."""

FAINT = "38%"
"""How much of its colour single steps have: the mean must stand out of them on dark and light ground."""

BOLD, DIM = Style(bold=True), Style(dim=True)


class Chart(Widget):
    """As large as its room; `show` says of what."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        *(f"chart--{part}" for part in ("axis", "grid", "cursor")),
        *(f"chart--{part}-{colour}" for part in ("raw", "line") for colour in COLOURS),
    }
    DEFAULT_CSS = """
    Chart { height: 1fr; width: 1fr; }
    Chart > .chart--axis { color: $text-muted; }
    Chart > .chart--grid { color: $foreground 22%; }
    Chart > .chart--cursor { color: $foreground 60%; }
    Chart:ansi > .chart--grid { text-style: dim; }
    """ + "".join(
        f"""
    Chart > .chart--line-{colour} {{ color: ${colour}; }}
    Chart > .chart--raw-{colour} {{ color: ${colour} {FAINT}; }}
    Chart:ansi > .chart--raw-{colour} {{ text-style: dim; }}
    """
        for colour in COLOURS
    )

    @dataclass
    class Pointed(Message):
        """The mouse is over this step; None: it has left. `is_clicked`: it is to be remembered."""

        step: float | None
        is_clicked: bool = False

    def __init__(self) -> None:
        super().__init__()
        self._wish: Wish | None = None
        self._plot: Plot | None = None
        self._styles: dict[Ink, Style] = {}

    def notify_style_update(self) -> None:
        """Another theme has other colours."""
        super().notify_style_update()
        self._styles.clear()

    def show(self, wish: Wish) -> None:
        """Draw something; its columns and rows are the chart's own."""
        self._wish, self._plot = wish, None
        self.refresh()

    def moved(self, step: float, columns: int) -> float:
        """The step that lies so many columns of cells further on, within the axis."""
        drawn = self._drawn()
        if drawn is None:
            return step
        return drawn.step_at(drawn.cell_of(step) + columns)

    def value_at(self, run: int, step: float) -> float | None:
        """What a run's line shows at a step; None where there is none."""
        drawn = self._drawn()
        return drawn.value_at(run, step) if drawn is not None else None

    def on_resize(self) -> None:
        """Draw it in its new size."""
        self._plot = None
        self.refresh()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Tell which step it is."""
        drawn = self._drawn()
        if drawn is not None and event.x >= drawn.left:
            self.post_message(self.Pointed(drawn.step_at(event.x)))

    def on_click(self, event: events.Click) -> None:
        """Tell which step is wanted."""
        drawn = self._drawn()
        if drawn is not None and event.x >= drawn.left:
            self.post_message(self.Pointed(drawn.step_at(event.x), is_clicked=True))

    def on_leave(self) -> None:
        """Nothing is pointed at any more."""
        self.post_message(self.Pointed(None))

    def render_line(self, y: int) -> Strip:
        """One line of the plot."""
        drawn = self._drawn()
        if drawn is None or y >= len(drawn.lines):
            return Strip.blank(self.size.width, self.rich_style)
        pieces = [Segment(text, self._style(ink)) for text, ink in drawn.lines[y]]
        return Strip(pieces).adjust_cell_length(self.size.width, self.rich_style)

    def _style(self, ink: Ink) -> Style:
        """Kept once known: to work them out anew for every piece took a third of a frame's time."""
        if ink not in self._styles:
            self._styles[ink] = self._own_style(ink)
        return self._styles[ink]

    def _own_style(self, ink: Ink) -> Style:
        match ink.part:
            case "none":
                return self.rich_style
            case "axis" | "grid" | "cursor":
                return self.get_component_rich_style(f"chart--{ink.part}")
            case "raw" if self.app.no_color:
                return self.rich_style + DIM
            case "raw":
                return self.get_component_rich_style(f"chart--raw-{run_colour(ink.run)}")
            case part:
                style = self.get_component_rich_style(f"chart--line-{run_colour(ink.run)}")
                # Turned to grey, one of the theme's colours may be darker than another's single steps.
                style = self.rich_style if self.app.no_color else style
                return style + BOLD if part == "letter" else style

    def _drawn(self) -> Plot | None:
        if self._plot is None and self._wish is not None:
            self._plot = plot(replace(self._wish, columns=self.size.width, rows=self.size.height))
        return self._plot


def run_colour(run: int) -> str:
    """The variable of the theme that a run is drawn in."""
    return COLOURS[run % len(COLOURS)]


def letter_style(run: int, app: App[Any]) -> str:
    """How a run's letter is written."""
    return "bold" if app.no_color else f"bold ${run_colour(run)}"
