"""The plot as text: the positions of lines, single steps, measurements and labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minigpt4.train.events import StepDone
from minigpt4.train.run.log import Curve, RunLog
from minigpt4.tui.watch.plot import MARK, Part, Plot, PlotRequest, plot
from minigpt4.tui.watch.views import METRICS

NewRun = Callable[..., Any]
LOSS, RATE, GRADIENT, _ = METRICS


def lines(found: Plot) -> list[str]:
    return ["".join(text for text, _ in line) for line in found.lines]


def rows_of(found: Plot, part: Part, run: int = 0) -> list[int]:
    """The rows from the top in which something of a run lies."""
    return [
        row
        for row, line in enumerate(found.lines)
        if any(style is not None and (style.part, style.run) == (part, run) for _, style in line)
    ]


def draw(*logs: RunLog, metric: Any = LOSS, size: tuple[int, int] = (60, 16), **options: Any) -> Plot:
    return plot(PlotRequest(metric, logs, *size, **options))


def test_a_falling_loss_falls_from_the_left_to_the_right(new_run: NewRun) -> None:
    run = new_run()
    run.steps(1, 400, lambda step: 4 - step / 200)
    found = draw(run.log())
    values = [found.value_at(0, step) for step in (10, 100, 200, 300, 390)]
    assert None not in values
    assert values == sorted(values, key=lambda value: value or 0.0, reverse=True)
    assert values[2] == pytest.approx(3.0, abs=0.02)


def test_the_running_mean_is_within_the_noise_and_smooth(new_run: NewRun) -> None:
    run = new_run()
    run.steps(1, 2000, lambda step: 2 + (step * 7919 % 100 - 49.5) / 100)
    found = draw(run.log())
    middle = [found.value_at(0, step) for step in range(100, 1900, 50)]
    assert all(abs(value - 2.0) < 0.05 for value in middle if value is not None)
    assert None not in middle
    assert len(rows_of(found, Part.RAW)) > 2 * len(rows_of(found, Part.LINE))


def test_a_loss_that_begins_far_above_leaves_the_rest_readable(new_run: NewRun) -> None:
    run = new_run()
    run.steps(1, 1000, lambda step: 10.4 if step <= 10 else 2.0 + step % 2 / 10)
    found = draw(run.log())
    labels = [float(line.split("┤")[0]) for line in lines(found) if "┤" in line]
    assert max(labels) < 4
    on_log_axis = draw(run.log(), is_log=True)
    assert max(float(line.split("┤")[0]) for line in lines(on_log_axis) if "┤" in line) >= 8


def test_measurements_are_marked_at_their_steps(new_run: NewRun) -> None:
    run = new_run()
    run.steps(1, 100, lambda step: 3 - step / 100)
    run.validated(20, 2.9)
    run.validated(50, 2.2)
    found = draw(run.log())
    columns = [line.index(MARK) for line in lines(found) if MARK in line]
    assert sorted(columns) == sorted([found.cell_of(20), found.cell_of(50)])


def test_runs_over_each_other_are_labelled_where_they_end(new_run: NewRun) -> None:
    short, long = new_run("short"), new_run("long")
    short.steps(1, 50, lambda _: 3.0)
    long.steps(1, 100, lambda _: 1.0)
    found = draw(short.log(), long.log())
    (first,) = [line for line in lines(found) if "a" in line]
    (second,) = [line for line in lines(found) if "b" in line]
    assert lines(found).index(first) < lines(found).index(second)
    assert first.index("a") == pytest.approx(found.cell_of(50), abs=1.1)
    assert second.index("b") == len(second.rstrip()) - 1


def test_runs_that_end_at_the_same_place_are_both_named(new_run: NewRun) -> None:
    runs = [new_run(name) for name in ("one", "two", "three")]
    for run in runs:
        run.steps(1, 50)
    text = "".join(lines(draw(*(run.log() for run in runs))))
    assert {"a", "b", "c"} <= set(text)


def test_only_the_chosen_run_shows_its_single_steps(new_run: NewRun) -> None:
    runs = [new_run("one"), new_run("two")]
    for level, run in enumerate(runs):
        run.steps(1, 300, lambda step, level=level: level * 3 + step % 5)
    logs = [run.log() for run in runs]
    for chosen in (0, 1):
        found = draw(*logs, chosen=chosen)
        assert rows_of(found, Part.RAW, chosen) and not rows_of(found, Part.RAW, 1 - chosen)
        assert rows_of(found, Part.LINE, 1 - chosen)


def test_the_learning_rate_is_drawn_as_it_is(new_run: NewRun) -> None:
    run = new_run()
    run.steps(1, 100)
    found = draw(run.log(), metric=RATE)
    assert not rows_of(found, Part.RAW)
    assert found.value_at(0, 50) == pytest.approx(1e-3)
    assert lines(found)[-3].lstrip().startswith("0┤")


def test_a_spike_does_not_flatten_the_rest(new_run: NewRun) -> None:
    log = RunLog(new_run().folder.path)
    for step in range(1, 501):
        log.grad_norm.add(step, 1e6 if step == 250 else 1.0 + step % 3)
    found = draw(log, metric=GRADIENT)
    assert found.value_at(0, 100) == pytest.approx(2.0, abs=0.3)
    # The mean around the spike leaves the chart; all others lie in its lower part, not on the ground.
    assert len(rows_of(found, Part.RAW)) >= 2


def test_the_cursor_is_drawn_at_its_step(new_run: NewRun) -> None:
    run = new_run()
    run.steps(1, 100)
    found = draw(run.log(), cursor=50.0)
    columns = {line.index("│", found.left) for line in lines(found) if "│" in line[found.left :]}
    assert columns == {found.cell_of(50)}


def test_a_run_has_no_value_beyond_its_ends(new_run: NewRun) -> None:
    short, long = new_run("short"), new_run("long")
    short.steps(20, 50)
    long.steps(1, 200)
    found = draw(short.log(), long.log())
    assert found.value_at(0, 5) is None and found.value_at(0, 120) is None
    assert found.value_at(0, 30) == pytest.approx(2.0)


def test_a_run_without_a_step_yet_has_empty_axes(new_run: NewRun) -> None:
    found = draw(new_run().log())
    assert len(found.lines) == 16
    assert not rows_of(found, Part.LINE)


def test_nothing_is_drawn_in_too_small_a_space(new_run: NewRun) -> None:
    run = new_run()
    run.steps(1, 10)
    assert draw(run.log(), size=(12, 16)).lines == []
    assert draw(run.log(), size=(80, 3)).lines == []


values = st.lists(st.floats(-1e12, 1e12) | st.sampled_from([0.0, 1e-300, 1e300, -1e300]), max_size=50)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values, values, st.integers(20, 90), st.integers(5, 40), st.booleans(), st.sampled_from(METRICS))
def test_every_line_has_the_requested_width_for_any_log(
    losses: list[float], marks: list[float], columns: int, rows: int, is_log: bool, metric: Any
) -> None:
    one, two = RunLog(None), RunLog(None)  # type: ignore[arg-type]
    for log, found in ((one, losses), (two, losses[::3])):
        for step, value in enumerate(found, start=1):
            for curve in (log.loss, log.lr, log.grad_norm, log.samples_per_s):
                curve.add(step, value)
        for step, value in enumerate(marks):
            log.val_loss.add(step * 3, value)
    found_plot = plot(PlotRequest(metric, [one, two], columns, rows, is_log, cursor=3.0))
    assert all(len(line) <= columns for line in lines(found_plot))
    assert len(found_plot.lines) in (0, rows)


def test_a_long_run_is_drawn_at_once(new_run: NewRun) -> None:
    """200,000 steps; the cost of drawing is per column, not per step, except for the extremes."""
    log = RunLog(new_run().folder.path)
    log.loss = Curve()
    for step in range(1, 200_001):
        log.loss.add(step, 2.0 + step % 7 / 10)
    log.last = StepDone(200_000, 2.0, 0.0, 0.0, 1.0, 1)
    found = draw(log, size=(120, 40))
    assert found.value_at(0, 100_000) == pytest.approx(2.3, abs=0.01)
    assert "200k" in lines(found)[-1]
