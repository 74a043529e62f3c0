"""The screen of `minigpt4 train --watch`: metrics of several runs in one chart, their state, their answers.

Folders are read on a background thread once a second, so that neither a slow disk nor a long log delays keys.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Static

from minigpt4.tui.app.standalone import StandaloneApp, at_terminal, run_app
from minigpt4.tui.settings.settings import Loaded
from minigpt4.tui.watch.answers import Answers, SampleQuestion
from minigpt4.tui.watch.chart import Chart
from minigpt4.tui.watch.format import details, figures, run_names, summary
from minigpt4.tui.watch.plot import MARK, PlotRequest, run_letter
from minigpt4.tui.watch.run_list import RunList
from minigpt4.tui.watch.views import ANSWERS, METRICS, NAMES, Metric, ViewBar

if TYPE_CHECKING:
    from minigpt4.train.run.log import LogUpdate, RunTail

REFRESH_S = 1.0
"""Seconds between two reads of the folders."""

WIDE = 110
"""Columns from which chart and answers are shown side by side."""

HINT = "1-5 Tab views   ← → step   ↑ ↓ run   x log steps   Esc newest   q leave"


def watch_runs(folders: list[Path]) -> None:
    """Show runs until the user quits; without a terminal print a line for each.

    Raises UsageError if a folder holds no run.
    """
    from minigpt4.train.run.log import RunLog, RunTail

    tails = [RunTail(folder) for folder in dict.fromkeys(folders)]
    names = run_names([tail.folder for tail in tails])
    if not at_terminal():
        for name, tail in zip(names, tails, strict=True):
            log = RunLog(tail.folder)
            log.update(tail.poll())
            print(summary(name, log, time.time()))
        return
    run_app(lambda loaded: WatchApp(loaded, tails, names))


class WatchApp(StandaloneApp, inherit_bindings=False):
    """Follows runs through their folders."""

    HORIZONTAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-narrow"), (WIDE, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-flat"), (18, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        *StandaloneApp.BINDINGS,
        *(Binding(str(number), f"view('{view}')", show=False) for number, view in enumerate(NAMES, start=1)),
        Binding("tab", "next_view(1)", show=False, priority=True),
        Binding("shift+tab", "next_view(-1)", show=False, priority=True),
        Binding("right,l", "step(1)", show=False),
        Binding("left,h", "step(-1)", show=False),
        Binding("shift+right", "step(10)", show=False),
        Binding("shift+left", "step(-10)", show=False),
        Binding("escape,end", "newest", show=False),
        Binding("down,j", "down(1)", show=False),
        Binding("up,k", "down(-1)", show=False),
        Binding("pagedown,space", "page(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("x", "log_steps", show=False),
    ]
    CSS = (
        StandaloneApp.CSS
        + """
    #middle { height: 1fr; width: 100%; }
    #curves { width: 1fr; height: 100%; padding: 0 2; }
    #caption { height: 1; width: 100%; color: $text-muted; text-wrap: nowrap; text-overflow: ellipsis; }
    #answers { display: none; }
    #runs { height: auto; max-height: 30%; width: 100%; padding: 0 2; margin-top: 1; }
    #details, #hint { height: 1; width: 100%; padding: 0 2; color: $text-muted; text-wrap: nowrap;
                      text-overflow: ellipsis; }
    .-wide #answers.-any { display: block; width: 40%; max-width: 64; }
    .-answers #curves { display: none; }
    .-answers #answers, .-wide.-answers #answers.-any { display: block; width: 1fr; max-width: 100%; }
    ViewBar { margin-bottom: 1; }
    .-flat ViewBar, .-flat #runs { margin: 0; }
    .-flat #hint, .-flat #details { display: none; }
    """
    )

    def __init__(self, loaded: Loaded, tails: Sequence[RunTail], names: Sequence[str]) -> None:
        """`names` are the runs' names. Reads what the folders hold now."""
        from minigpt4.train.run.log import RunLog

        super().__init__(loaded)
        self.logs = [RunLog(tail.folder) for tail in tails]
        self.names = list(names)
        self.view = METRICS[0].id
        self.chosen = 0
        self.is_log = False
        self.cursor: float | None = None
        """The selected step; None follows the newest."""

        self._hovered: float | None = None
        self._tails = list(tails)
        self._is_reading = False
        for log, tail in zip(self.logs, self._tails, strict=True):
            log.update(tail.poll())

    def compose(self) -> ComposeResult:
        yield ViewBar()
        with Horizontal(id="middle"):
            with Vertical(id="curves"):
                yield Static(id="caption", markup=False)
                yield Chart()
            yield Answers()
        with VerticalScroll(id="runs", can_focus=False):
            yield RunList()
        yield Static(id="details", markup=False)
        yield Static(HINT, id="hint", markup=False)

    def on_mount(self) -> None:
        """Draw what has been read, and start reading every second."""
        self.draw()
        self.set_interval(REFRESH_S, self.read)

    # The folders

    def read(self) -> None:
        """Read new events, unless a read is still running."""
        if not self._is_reading:
            self._is_reading = True
            self.in_background(
                lambda: [tail.poll() for tail in self._tails], self._events_read, self._read_failed
            )

    def _events_read(self, news: list[LogUpdate]) -> None:
        self._is_reading = False
        if not self.query(RunList):
            return  # The app is closing.
        is_new = False
        for log, one in zip(self.logs, news, strict=True):
            is_new = is_new or bool(one.events) or one.restarted
            log.update(one)
        self._draw_runs()
        if is_new:
            self.draw()

    def _read_failed(self, error: Exception) -> None:
        self._is_reading = False
        self._failed(error)

    # Drawing

    def draw(self) -> None:
        """Redraw everything."""
        self.screen.set_class(self.view == ANSWERS, "-answers")
        self.query_one(ViewBar).show(self.view)
        if self.view != ANSWERS:
            request = PlotRequest(self._metric, self.logs, 0, 0, self.is_log, self.chosen, self.cursor)
            self.query_one(Chart).show(request)
        self._draw_caption()
        self._draw_answers()
        self._draw_runs()

    @property
    def _metric(self) -> Metric:
        return next((metric for metric in METRICS if metric.id == self.view), METRICS[0])

    def _draw_caption(self) -> None:
        """What the chart shows, or the values at the cursor or the mouse."""
        step, metric = self._hovered if self._hovered is not None else self.cursor, self._metric
        if step is None:
            signs = ["⣿ every step", "⠒ mean"] if not metric.is_exact else []
            signs += [f"{MARK} validation"] if metric.marks is not None else []
            self.query_one("#caption", Static).update("   ".join([metric.about, *signs]))
            return
        parts = []
        for number, log in enumerate(self.logs):
            value = self.query_one(Chart).value_at(number, step)
            marked = metric.marks(log).upto(step) if metric.marks is not None else None
            if value is not None:
                letter = [run_letter(number)] if len(self.logs) > 1 else []
                measured = [f"{MARK} {metric.text(marked[1])}"] if marked else []
                parts.append(" ".join([*letter, metric.text(value), *measured]))
        self.query_one("#caption", Static).update("   ".join([f"step {round(step):,}", *parts]))

    def _draw_answers(self) -> None:
        """The newest answers of each run up to the selected step."""
        steps = self._sampled_steps()
        at = self.cursor if self.cursor is not None else float("inf")
        answers: dict[tuple[str, str], list[tuple[int, str]]] = {}
        for number, log in enumerate(self.logs):
            sampled = log.answers_at(at)
            for one in sampled.answers if sampled is not None else ():
                answers.setdefault((one.key, one.question), []).append((number, one.answer))
        before = [step for step in steps if step <= at]
        if before:
            moment = f"answers after step {before[-1]:,} ({len(before)} of {len(steps)})"
        elif steps:
            moment = f"The first answers are from step {steps[0]:,}."
        else:
            moment = "No answers yet; the recipe's sample_every sets how often they are sampled."
        questions = [
            SampleQuestion(key, question, self._picture(key), tuple(given))
            for (key, question), given in answers.items()
        ]
        area = self.query_one(Answers)
        area.set_class(bool(steps), "-any")
        area.show(moment, questions, has_letters=len(self.logs) > 1)

    def _picture(self, key: str) -> Path | None:
        from minigpt4.train.run.log import sample_picture

        saved = (sample_picture(log.folder, key) for log in self.logs)
        return next((path for path in saved if path.is_file()), None)

    def _sampled_steps(self) -> list[int]:
        return sorted({sampled.step for log in self.logs for sampled in log.sampled})

    def _draw_runs(self) -> None:
        now = time.time()
        rows = [[name, *figures(log, now)] for name, log in zip(self.names, self.logs, strict=True)]
        self.query_one(RunList).show(rows, self.chosen)
        self.query_one("#details", Static).update("   ".join(details(self.logs[self.chosen])))

    # Keys and mouse

    def action_view(self, view: str) -> None:
        """Show a view."""
        self.view = view
        self._hovered = None
        self.draw()

    def action_next_view(self, by: int) -> None:
        """Show the next view, or the one before."""
        names = list(NAMES)
        self.action_view(names[(names.index(self.view) + by) % len(names)])

    def action_step(self, by: int) -> None:
        """Select another step: the next column of the chart, or the next step with answers."""
        if self.view == ANSWERS:
            self._next_answers(by)
        else:
            newest = max(self._metric.curve(log).last for log in self.logs)
            start = self.cursor if self.cursor is not None else newest
            moved = self.query_one(Chart).moved(start, by)
            self.cursor = None if moved >= newest else moved
        self._hovered = None
        self.draw()

    def _next_answers(self, by: int) -> None:
        steps = self._sampled_steps()
        if steps:
            at = self.cursor if self.cursor is not None else steps[-1]
            place = sum(step <= at for step in steps) - 1 + by
            self.cursor = None if place >= len(steps) - 1 else float(steps[max(place, 0)])

    def action_newest(self) -> None:
        """Follow the newest step again."""
        self.cursor = self._hovered = None
        self.draw()

    def action_down(self, by: int) -> None:
        """Select the next run; in the answers, scroll."""
        if self.view == ANSWERS:
            self.query_one(Answers).scroll_relative(y=by)
        else:
            self._choose(min(max(self.chosen + by, 0), len(self.logs) - 1))

    def action_page(self, by: int) -> None:
        """Scroll the answers."""
        answers = self.query_one(Answers)
        answers.scroll_relative(y=by * max(answers.size.height - 2, 1))

    def action_log_steps(self) -> None:
        """Switch between a logarithmic and a linear step axis."""
        self.is_log = not self.is_log
        self.draw()

    def _choose(self, run: int) -> None:
        self.chosen = run
        self.query_one("#runs").scroll_to(y=run, animate=False)
        self.draw()

    @on(ViewBar.Clicked)
    def _view_clicked(self, event: ViewBar.Clicked) -> None:
        self.action_view(event.action)

    @on(RunList.Selected)
    def _run_selected(self, event: RunList.Selected) -> None:
        self._choose(event.run)

    @on(Chart.Pointed)
    def _step_pointed(self, event: Chart.Pointed) -> None:
        self._hovered = None if event.is_clicked else event.step
        if event.is_clicked:
            self.cursor = event.step
            self.draw()
        else:
            self._draw_caption()
