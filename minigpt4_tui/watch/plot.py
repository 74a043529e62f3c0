"""The curves of several runs as lines of text: axes, what every step was, running means, measurements."""

from __future__ import annotations

import math
import string
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minigpt4.tui.watch.axis import Scale, step_text, tick_text
from minigpt4.tui.watch.braille_canvas import ACROSS, Canvas

if TYPE_CHECKING:
    from minigpt4.train.run.log import Curve, RunLog
    from minigpt4.tui.watch.metrics import View

MARK = "◆"

WINDOW = 0.025
"""A mean is taken over this share of the width to either side: 20 steps of noise become one of 4 or 5."""

BEGINNING = 0.03
"""The share of a linear axis whose values may lie above the chart: a loss falls from 10 to 3 in it, and
everything after would be a flat line."""

OUTLYING = 0.02
"""The share of columns whose extremes may lie outside: one spike must not flatten the rest."""

GRID, RAW, CURSOR, LINE, POINT, LETTER = range(6)
"""What may lie in a cell, the later over the earlier."""

AXIS_ROWS = 2
USUAL_LEFT = 6
"""Columns of the upright axis: a number such as 2.50, and the line."""

LEAST = (20, 5)
"""Columns and rows below which there is nothing to be seen."""


@dataclass(frozen=True)
class Ink:
    """How a piece of text is drawn: `part` is axis, grid, cursor, raw, line, point, letter or none."""

    part: str
    run: int = 0


Piece = tuple[str, Ink]
NOTHING, AXIS = Ink("none"), Ink("axis")
_PARTS = {GRID: "grid", RAW: "raw", CURSOR: "cursor", LINE: "line", POINT: "point", LETTER: "letter"}


@dataclass(frozen=True)
class Wish:
    """What is to be drawn, in how many cells."""

    view: View
    logs: Sequence[RunLog]
    columns: int
    rows: int
    is_log: bool = False
    chosen: int = 0
    """The run that is drawn over the others, and whose single steps are shown."""

    cursor: float | None = None
    """A step to be marked."""


@dataclass(frozen=True)
class Plot:
    """What was drawn; `steps` is the axis along the bottom, whose first dot is in column `left`."""

    lines: list[list[Piece]]
    steps: Scale
    left: int
    means: Sequence[Sequence[tuple[int, float]]] = ()
    """Each run's line: its columns of dots, and the values there."""

    def step_at(self, column: int) -> float:
        """The step that a column of cells stands for."""
        return self.steps.value(min(max((column - self.left) * ACROSS + 0.5, 0), self.steps.length - 1))

    def cell_of(self, step: float) -> int:
        """The column of cells that a step is in."""
        return self.left + self.steps.place(step) // ACROSS

    def value_at(self, run: int, step: float) -> float | None:
        """What a run's line shows at a step; None before it begins and after it has ended."""
        x, line = self.steps.place(step), self.means[run] if run < len(self.means) else ()
        upto = bisect_right(line, x, key=lambda point: point[0])
        is_over = upto == len(line) and (not line or line[-1][0] < x - ACROSS)
        return None if upto == 0 or is_over else line[upto - 1][1]


@dataclass(frozen=True)
class _Traced:
    """One run's curve at each column of dots that has a step in it."""

    means: list[tuple[int, float]]
    extents: list[tuple[int, float, float]]
    marks: list[tuple[int, float]]


def plot(wish: Wish) -> Plot:
    """Draw; an empty list of lines where there is no room."""
    last = max((_last_step(log, wish.view) for log in wish.logs), default=0)
    first = 1 if wish.is_log else 0
    if wish.columns < LEAST[0] or wish.rows < LEAST[1]:
        return Plot([], Scale(first, first + 1, 1, wish.is_log), 0)
    margin = 2 if len(wish.logs) > 1 else 0
    rows = wish.rows - AXIS_ROWS
    # The numbers' width decides how many dots there are, and these hardly change the numbers.
    wanted = USUAL_LEFT
    for _ in range(3):
        left = wanted
        columns = wish.columns - left - margin
        steps = Scale(first, max(last, first + 1), columns * ACROSS, wish.is_log)
        traced = [_trace(log, wish.view, steps) for log in wish.logs]
        heights = _heights(wish, traced, steps, rows)
        ticks = heights.ticks(max(rows // 3, 2))
        texts = _texts(ticks)
        wanted = max((len(text) for text in texts), default=0) + 2
        if wanted <= left:
            break
    canvas = Canvas(columns + margin, rows)
    _draw(canvas, wish, steps, heights, traced, ticks)
    if margin:
        _label(canvas, wish, heights, traced)
    beside = {_row(tick, heights, canvas): text for tick, text in zip(ticks, texts, strict=True)}
    lines = [
        [
            (f"{beside.get(row, '')[: left - 2]:>{left - 1}}{'┤' if row in beside else '│'}", AXIS),
            *((run.text, _ink(run.layer, wish)) for run in canvas.line(row)),
        ]
        for row in range(rows)
    ]
    return Plot([*lines, *_step_axis(steps, columns, left)], steps, left, [one.means for one in traced])


def run_letter(run: int) -> str:
    """What stands for a run in the chart and beside its name; the 27th begins again."""
    return string.ascii_lowercase[run % len(string.ascii_lowercase)]


def _last_step(log: RunLog, view: View) -> int:
    return max(view.curve(log).last, view.marks(log).last if view.marks else 0)


def _trace(log: RunLog, view: View, steps: Scale) -> _Traced:
    curve = view.curve(log)
    reach = 0 if view.is_exact else max(1, round(steps.length * WINDOW))
    means: list[tuple[int, float]] = []
    extents: list[tuple[int, float, float]] = []
    if len(curve):
        for x in range(steps.place(curve.first), steps.place(curve.last) + 1):
            extent = curve.extent(*_stretch(steps, x, 0))
            if extent is None:
                continue
            mean = curve.mean(*_stretch(steps, x, reach))
            assert mean is not None  # its own column has one
            means.append((x, mean))
            extents.append((x, *extent))
    return _Traced(means, extents, _marks(view.marks(log), steps) if view.marks else [])


def _stretch(steps: Scale, x: int, reach: int) -> tuple[float, float]:
    """First and last step of a column of dots with `reach` columns on either side."""
    first = -math.inf if x - reach <= 0 else math.ceil(steps.value(x - reach - 0.5))
    last = math.inf if x + reach >= steps.length - 1 else math.ceil(steps.value(x + reach + 0.5)) - 1
    return first, last


def _marks(curve: Curve, steps: Scale) -> list[tuple[int, float]]:
    """The newest measurement of each cell."""
    newest = {steps.place(step) // ACROSS: value for step, value in curve.points(-math.inf, math.inf)}
    return list(newest.items())


def _heights(wish: Wish, traced: Sequence[_Traced], steps: Scale, rows: int) -> Scale:
    """The upright axis: all means and measurements, and nearly all single steps, lie within it."""
    begun = 0 if wish.is_log else steps.length * BEGINNING
    wanted = [value for one in traced for x, value in one.means if x >= begun]
    wanted += [value for one in traced for column, value in one.marks if column * ACROSS >= begun]
    if not wish.view.is_exact and wish.chosen < len(traced):
        extents = traced[wish.chosen].extents
        spared = int(len(extents) * OUTLYING)
        lows, highs = sorted(low for _, low, _ in extents), sorted(high for _, _, high in extents)
        wanted += [*lows[spared : spared + 1], *highs[len(highs) - spared - 1 :][:1]]
    if not wanted:
        wanted = [value for one in traced for _, value in (*one.means, *one.marks)] or [0.0, 1.0]
    low, high = min(wanted), max(wanted)
    if wish.view.is_from_zero:
        low = min(low, 0.0)
    if high - low <= abs(high) * 1e-9:
        low, high = low - (abs(low) * 0.1 or 1.0), high + (abs(high) * 0.1 or 1.0)
    return Scale(low, high, rows * 4)


def _draw(
    canvas: Canvas,
    wish: Wish,
    steps: Scale,
    heights: Scale,
    traced: Sequence[_Traced],
    ticks: Sequence[float],
) -> None:
    height = heights.length - 1
    for tick in ticks:
        for column in range(steps.length // ACROSS):
            canvas.letter(column, _row(tick, heights, canvas), "┄", _layer(GRID, 0, wish))
    if wish.cursor is not None:
        for row in range(canvas.rows):
            canvas.letter(steps.place(wish.cursor) // ACROSS, row, "│", _layer(CURSOR, 0, wish))
    for number, one in enumerate(traced):
        if number == wish.chosen and not wish.view.is_exact:
            for x, low, high in one.extents:
                if high >= heights.low and low <= heights.high:
                    top, bottom = height - heights.place(high), height - heights.place(low)
                    canvas.upright(x, top, bottom, _layer(RAW, number, wish))
        points = [(x, height - heights.place(value)) for x, value in _in_sight(one.means, heights)]
        canvas.path(points, _layer(LINE, number, wish))
        for column, value in one.marks:
            if heights.low <= value <= heights.high:
                canvas.letter(column, _row(value, heights, canvas), MARK, _layer(POINT, number, wish))


def _in_sight(means: Sequence[tuple[int, float]], heights: Scale) -> list[tuple[int, float]]:
    """Without what lies out of sight, but for neighbours of what does not: the line comes from there."""
    seen = [heights.low <= value <= heights.high for _, value in means]
    return [
        point for place, point in enumerate(means) if seen[place] or any(seen[max(place - 1, 0) : place + 2])
    ]


def _row(value: float, heights: Scale, canvas: Canvas) -> int:
    return canvas.rows - 1 - heights.place(value) // 4


def _layer(kind: int, run: int, wish: Wish) -> int:
    """Kinds lie over each other, and within a kind the chosen run over the others."""
    count = len(wish.logs) + 1
    return kind * count + (count - 1 if run == wish.chosen else run)


def _ink(layer: int, wish: Wish) -> Ink:
    if layer < 0:
        return NOTHING
    count = len(wish.logs) + 1
    kind, order = divmod(layer, count)
    return Ink(_PARTS[kind], wish.chosen if order == count - 1 else order)


def _texts(ticks: Sequence[float]) -> list[str]:
    apart = ticks[1] - ticks[0] if len(ticks) > 1 else abs(ticks[0]) if ticks else 1.0
    return [tick_text(tick, apart or 1.0) for tick in ticks]


def _label(canvas: Canvas, wish: Wish, heights: Scale, traced: Sequence[_Traced]) -> None:
    """Put each run's letter where its line ends, or as near to that as there is room."""
    taken: set[tuple[int, int]] = set()
    for number, one in enumerate(traced):
        if one.means:
            x, value = one.means[-1]
            column, wanted = x // ACROSS + 1, _row(value, heights, canvas)
            rows = sorted(range(canvas.rows), key=lambda row: abs(row - wanted))
            row = next((row for row in rows if (column, row) not in taken), wanted)
            taken.add((column, row))
            canvas.letter(column, row, run_letter(number), _layer(LETTER, number, wish))


def _step_axis(steps: Scale, columns: int, left: int) -> list[list[Piece]]:
    """The line under the chart, and its numbers."""
    line, numbers = ["─"] * columns, [" "] * (columns + left)
    ticks = steps.ticks(max(columns // 10, 2))
    for tick in ticks:
        if tick != round(tick):
            continue
        column, text = steps.place(tick) // ACROSS, step_text(round(tick))
        begin = min(max(left + column - len(text) // 2, 0), len(numbers) - len(text))
        # On a logarithmic axis the last ones come close to each other.
        if all(letter == " " for letter in numbers[max(begin - 1, 0) : begin + len(text) + 1]):
            line[column] = "┬"
            numbers[begin : begin + len(text)] = text
    return [[(" " * (left - 1) + "└" + "".join(line), AXIS)], [("".join(numbers), AXIS)]]
