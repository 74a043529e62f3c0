"""Plots curves of several runs as lines of text: axes, single steps, running means, measurements."""

from __future__ import annotations

import math
import string
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from minigpt4.tui.watch.axis import Scale, step_text, tick_text
from minigpt4.tui.watch.braille_canvas import DOTS_X, Canvas

if TYPE_CHECKING:
    from minigpt4.train.run.log import Curve, RunLog
    from minigpt4.tui.watch.views import Metric

MARK = "◆"

WINDOW = 0.025
"""The running mean covers this fraction of the width on each side, which cuts noise to about a quarter."""

WARM_UP = 0.03
"""The first fraction of a linear axis, whose values may lie above the chart: there a loss falls from 10 to 3,
and everything after would be a flat line."""

OUTLIERS = 0.02
"""The fraction of columns whose extremes may be cut off: one spike must not flatten the rest."""

AXIS_ROWS = 2
USUAL_AXIS_WIDTH = 6
"""Columns of the vertical axis: a label such as 2.50, and the line."""

MINIMUM_SIZE = (20, 5)
"""Columns and rows below which nothing is drawn."""


Part = IntEnum("Part", "AXIS GRID RAW CURSOR LINE POINT LETTER")
"""What a cell may show; later parts cover earlier ones."""


class PlotStyle(NamedTuple):
    """How text is drawn. Styles are the canvas's layers: within a part, the chosen run covers the others."""

    part: Part
    is_chosen: bool = False
    run: int = 0


StyledText = tuple[str, PlotStyle | None]
AXIS = PlotStyle(Part.AXIS)


@dataclass(frozen=True)
class PlotRequest:
    """What to draw, in how many cells."""

    metric: Metric
    logs: Sequence[RunLog]
    columns: int
    rows: int
    is_log: bool = False
    chosen: int = 0
    """The run drawn over the others, with its single steps."""

    cursor: float | None = None
    """A step to mark."""


@dataclass(frozen=True)
class Plot:
    """The result; `steps` is the horizontal axis, whose first dot is in column `left`."""

    lines: list[list[StyledText]]
    steps: Scale
    left: int
    means: Sequence[Sequence[tuple[int, float]]] = ()
    """Each run's line: columns of dots, and the values there."""

    def step_at(self, column: int) -> float:
        """The step at a column of cells."""
        return self.steps.value(min(max((column - self.left) * DOTS_X + 0.5, 0), self.steps.length - 1))

    def cell_of(self, step: float) -> int:
        """The column of cells of a step."""
        return self.left + self.steps.place(step) // DOTS_X

    def value_at(self, run: int, step: float) -> float | None:
        """The value of a run's line at a step; None before its start and after its end."""
        x, line = self.steps.place(step), self.means[run] if run < len(self.means) else ()
        upto = bisect_right(line, x, key=lambda point: point[0])
        is_over = upto == len(line) and (not line or line[-1][0] < x - DOTS_X)
        return None if upto == 0 or is_over else line[upto - 1][1]


@dataclass(frozen=True)
class _Trace:
    """One run's curve at each column of dots that has a step."""

    means: list[tuple[int, float]]
    extents: list[tuple[int, float, float]]
    marks: list[tuple[int, float]]


def plot(request: PlotRequest) -> Plot:
    """Draw the plot; without lines if the space is too small."""
    last = max((_last_step(log, request.metric) for log in request.logs), default=0)
    first = 1 if request.is_log else 0
    if request.columns < MINIMUM_SIZE[0] or request.rows < MINIMUM_SIZE[1]:
        return Plot([], Scale(first, first + 1, 1, request.is_log), 0)
    margin = 2 if len(request.logs) > 1 else 0
    rows = request.rows - AXIS_ROWS
    # The labels' width decides how many dots are left, which in turn may change the labels a little.
    wanted = USUAL_AXIS_WIDTH
    for _ in range(3):
        left = wanted
        columns = request.columns - left - margin
        steps = Scale(first, max(last, first + 1), columns * DOTS_X, request.is_log)
        traces = [_trace(log, request.metric, steps) for log in request.logs]
        heights = _heights(request, traces, steps, rows)
        ticks = heights.ticks(max(rows // 3, 2))
        texts = _texts(ticks)
        wanted = max((len(text) for text in texts), default=0) + 2
        if wanted <= left:
            break
    canvas: Canvas[PlotStyle] = Canvas(columns + margin, rows)
    _draw(canvas, request, steps, heights, traces, ticks)
    if margin:
        _label(canvas, request, heights, traces)
    beside = {_row(tick, heights, canvas): text for tick, text in zip(ticks, texts, strict=True)}
    lines = [
        [
            (f"{beside.get(row, '')[: left - 2]:>{left - 1}}{'┤' if row in beside else '│'}", AXIS),
            *canvas.line(row),
        ]
        for row in range(rows)
    ]
    return Plot([*lines, *_step_axis(steps, columns, left)], steps, left, [one.means for one in traces])


def run_letter(run: int) -> str:
    """The letter of a run in the chart and beside its name; the 27th run is `a` again."""
    return string.ascii_lowercase[run % len(string.ascii_lowercase)]


def _last_step(log: RunLog, metric: Metric) -> int:
    return max(metric.curve(log).last, metric.marks(log).last if metric.marks else 0)


def _trace(log: RunLog, metric: Metric, steps: Scale) -> _Trace:
    curve = metric.curve(log)
    reach = 0 if metric.is_exact else max(1, round(steps.length * WINDOW))
    means: list[tuple[int, float]] = []
    extents: list[tuple[int, float, float]] = []
    if len(curve):
        for x in range(steps.place(curve.first), steps.place(curve.last) + 1):
            extent = curve.extent(*_step_range(steps, x, 0))
            if extent is None:
                continue
            mean = curve.mean(*_step_range(steps, x, reach))
            assert mean is not None  # its own column has one
            means.append((x, mean))
            extents.append((x, *extent))
    return _Trace(means, extents, _marks(metric.marks(log), steps) if metric.marks else [])


def _step_range(steps: Scale, x: int, reach: int) -> tuple[float, float]:
    """First and last step of a column of dots and `reach` columns on each side."""
    first = -math.inf if x - reach <= 0 else math.ceil(steps.value(x - reach - 0.5))
    last = math.inf if x + reach >= steps.length - 1 else math.ceil(steps.value(x + reach + 0.5)) - 1
    return first, last


def _marks(curve: Curve, steps: Scale) -> list[tuple[int, float]]:
    """The newest measurement in each column of cells."""
    newest = {steps.place(step) // DOTS_X: value for step, value in curve.points(-math.inf, math.inf)}
    return list(newest.items())


def _heights(request: PlotRequest, traces: Sequence[_Trace], steps: Scale, rows: int) -> Scale:
    """The vertical axis: it covers all means and measurements, and nearly all single steps."""
    start = 0 if request.is_log else steps.length * WARM_UP
    wanted = [value for one in traces for x, value in one.means if x >= start]
    wanted += [value for one in traces for column, value in one.marks if column * DOTS_X >= start]
    if not request.metric.is_exact and request.chosen < len(traces):
        extents = traces[request.chosen].extents
        cut = int(len(extents) * OUTLIERS)
        lows, highs = sorted(low for _, low, _ in extents), sorted(high for _, _, high in extents)
        wanted += [*lows[cut : cut + 1], *highs[len(highs) - cut - 1 :][:1]]
    if not wanted:
        wanted = [value for one in traces for _, value in (*one.means, *one.marks)] or [0.0, 1.0]
    low, high = min(wanted), max(wanted)
    if request.metric.is_from_zero:
        low = min(low, 0.0)
    if high - low <= abs(high) * 1e-9:
        low, high = low - (abs(low) * 0.1 or 1.0), high + (abs(high) * 0.1 or 1.0)
    return Scale(low, high, rows * 4)


def _draw(
    canvas: Canvas[PlotStyle],
    request: PlotRequest,
    steps: Scale,
    heights: Scale,
    traces: Sequence[_Trace],
    ticks: Sequence[float],
) -> None:
    height = heights.length - 1
    for tick in ticks:
        for column in range(steps.length // DOTS_X):
            canvas.character(column, _row(tick, heights, canvas), "┄", PlotStyle(Part.GRID))
    if request.cursor is not None:
        for row in range(canvas.rows):
            canvas.character(steps.place(request.cursor) // DOTS_X, row, "│", PlotStyle(Part.CURSOR))
    for number, one in enumerate(traces):
        is_chosen = number == request.chosen
        if is_chosen and not request.metric.is_exact:
            for x, low, high in one.extents:
                if high >= heights.low and low <= heights.high:
                    top, bottom = height - heights.place(high), height - heights.place(low)
                    canvas.vertical(x, top, bottom, PlotStyle(Part.RAW, True, number))
        points = [(x, height - heights.place(value)) for x, value in _visible(one.means, heights)]
        canvas.path(points, PlotStyle(Part.LINE, is_chosen, number))
        for column, value in one.marks:
            if heights.low <= value <= heights.high:
                row = _row(value, heights, canvas)
                canvas.character(column, row, MARK, PlotStyle(Part.POINT, is_chosen, number))


def _visible(means: Sequence[tuple[int, float]], heights: Scale) -> list[tuple[int, float]]:
    """Points within the axis, and their neighbors, so that lines reach the edge."""
    inside = [heights.low <= value <= heights.high for _, value in means]
    return [
        point
        for place, point in enumerate(means)
        if inside[place] or any(inside[max(place - 1, 0) : place + 2])
    ]


def _row(value: float, heights: Scale, canvas: Canvas[PlotStyle]) -> int:
    return canvas.rows - 1 - heights.place(value) // 4


def _texts(ticks: Sequence[float]) -> list[str]:
    spacing = ticks[1] - ticks[0] if len(ticks) > 1 else abs(ticks[0]) if ticks else 1.0
    return [tick_text(tick, spacing or 1.0) for tick in ticks]


def _label(canvas: Canvas[PlotStyle], request: PlotRequest, heights: Scale, traces: Sequence[_Trace]) -> None:
    """Put each run's letter at the end of its line, or in the nearest free row."""
    taken: set[tuple[int, int]] = set()
    for number, one in enumerate(traces):
        if one.means:
            x, value = one.means[-1]
            column, wanted = x // DOTS_X + 1, _row(value, heights, canvas)
            rows = sorted(range(canvas.rows), key=lambda row: abs(row - wanted))
            row = next((row for row in rows if (column, row) not in taken), wanted)
            taken.add((column, row))
            style = PlotStyle(Part.LETTER, number == request.chosen, number)
            canvas.character(column, row, run_letter(number), style)


def _step_axis(steps: Scale, columns: int, left: int) -> list[list[StyledText]]:
    """The horizontal axis and its labels."""
    line, numbers = ["─"] * columns, [" "] * (columns + left)
    ticks = steps.ticks(max(columns // 10, 2))
    for tick in ticks:
        if tick != round(tick):
            continue
        column, text = steps.place(tick) // DOTS_X, step_text(round(tick))
        begin = min(max(left + column - len(text) // 2, 0), len(numbers) - len(text))
        # On a logarithmic axis the last labels may touch.
        if all(letter == " " for letter in numbers[max(begin - 1, 0) : begin + len(text) + 1]):
            line[column] = "┬"
            numbers[begin : begin + len(text)] = text
    return [[(" " * (left - 1) + "└" + "".join(line), AXIS)], [("".join(numbers), AXIS)]]
