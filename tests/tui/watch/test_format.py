"""A run as text."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minigpt4.train.events import StepDone
from minigpt4.train.run.log import RecipeSummary, RunLog
from minigpt4.tui.watch.format import details, figures, run_names, state_text, summary, time_text

NewRun = Callable[..., Any]


def log_of(**values: Any) -> RunLog:
    log = RunLog(Path("run"), summary=RecipeSummary(1, "mini", 100, 8))
    for name, value in values.items():
        setattr(log, name, value)
    return log


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (89, "89 s"),
        (90, "2 min"),
        (3540, "59 min"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (86_400, "1 d"),
        (270_000, "3 d 3 h"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


def test_a_running_run_tells_how_long_the_rest_takes() -> None:
    log = log_of(state="running", written_at=1000.0, last=StepDone(40, 2, 0, 0, 4, 1))
    log.samples_per_s.add(40, 4.0)
    assert state_text(log, 1001.0) == "running, 2 min left"
    assert state_text(log, 1000.0 + 3600) == "running, silent for 1 h"


def test_a_run_that_ended_tells_when() -> None:
    assert state_text(log_of(state="stopped", written_at=1000.0), 1000.0 + 7200) == "stopped 2 h ago"
    assert state_text(log_of(state="finished", written_at=1000.0), 900.0) == "finished 0 s ago"
    assert state_text(log_of(state="preparing"), 5.0) == "preparing"


def test_figures_without_a_value_yet_are_empty() -> None:
    assert figures(log_of(state="preparing"), 0.0) == ["preparing", "step 0/100", "", "", ""]


def test_a_loss_that_is_no_number_is_not_hidden_by_the_mean() -> None:
    log = log_of(state="stopped", last=StepDone(2, math.nan, 0, 0, 1, 1))
    log.loss.add(1, 2.0)
    assert "loss nan" in figures(log, 0.0)


def test_details_without_a_value_are_omitted() -> None:
    plain = details(log_of(last=StepDone(2, 2.0, 1e-4, 0.25, 1, 1)))
    assert plain == ["learning rate 1.00e-04", "gradient 0.25"]
    full = StepDone(2, 2.0, 1e-4, 0.25, 1, 1, data_wait=0.1, mfu=0.5, memory=3_000_000_000)
    found = details(log_of(last=full, skipped=1, note="From step 1\x1b[31m on."))
    assert found[2:] == [
        "MFU 50%",
        "waited for photos 10%",
        "3.00 GB",
        "1 photo skipped",
        "From step 1␛[31m on.",
    ]


def test_a_line_without_a_screen_tells_all(new_run: NewRun) -> None:
    run = new_run()
    run.steps(1, 3)
    run.validated(3, 2.5)
    log = run.log()
    line = summary("stage1", log, log.written_at or 0.0)
    assert line == (
        "stage1: stopped 0 s ago, step 3/100, loss 2.000, val 2.500, 4.0 photos/s, "
        "learning rate 1.00e-03, gradient 0.5"
    )


def test_runs_of_the_same_name_are_distinguished_by_their_folders() -> None:
    assert run_names([Path("x/stage1"), Path("y/stage2")]) == ["stage1", "stage2"]
    assert run_names([Path("x/run"), Path("y/run")]) == ["x/run", "y/run"]
    assert run_names([Path("ev\x1bil")]) == ["ev␛il"]
