"""Progress of a training run on stderr: bars in a terminal, else lines."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from minigpt4.core.download.sources import size_text
from minigpt4.tui.terminal.messages import printable, say

if TYPE_CHECKING:
    from minigpt4.train.events import Event, Report, StepDone

STEPS_A_LINE = 25
"""Steps between two lines if stderr is not a terminal."""

SMOOTHING = 0.97
"""The displayed loss is a running mean: single steps vary by a tenth."""

MANY_PARTS = 100
"""From this many shards or files on, indexing takes long enough to report."""

WAIT_SHOWN = 0.02
"""From this fraction of a step on, waiting for data is shown."""


@contextmanager
def showing_progress() -> Iterator[Report]:
    """A callback that shows events on stderr."""
    if sys.stderr.isatty():
        with _bars() as report:
            yield report
    else:
        yield Lines().show


class RunningMean:
    """An exponential moving average, starting at the first value."""

    def __init__(self) -> None:
        self._mean: float | None = None

    def after(self, value: float) -> float:
        """The mean including `value`."""
        self._mean = value if self._mean is None else SMOOTHING * self._mean + (1 - SMOOTHING) * value
        return self._mean


class Lines:
    """A run's events as occasional lines on stderr."""

    def __init__(self) -> None:
        self._last, self._loss = 0, RunningMean()
        self._tenths: dict[str, int] = {}

    def show(self, event: Event) -> None:
        """Handle one event."""
        from minigpt4.train.events import (
            FeaturesComputed,
            PhotosFetched,
            PhotosRead,
            StepDone,
            TrainingStarted,
        )

        match event:
            case FeaturesComputed(done, total):
                self._every_tenth("features", done, total, f"features: {done} of {total} crops")
            case PhotosFetched(source, done, total):
                self._every_tenth(f"fetched {source}", done, total, sentence_of(event))
            case PhotosRead(source, done, total):
                if total >= MANY_PARTS:
                    self._every_tenth(f"read {source}", done, total, sentence_of(event))
            case TrainingStarted():
                self._last = event.last
                say(sentence_of(event))
            case StepDone():
                mean = self._loss.after(event.loss)
                if event.step % STEPS_A_LINE == 0 or event.step == self._last:
                    say(f"step {event.step} of {self._last}: {figures_of(event, mean)}")
            case _:
                say(sentence_of(event))

    def _every_tenth(self, what: str, done: int, total: int, line: str) -> None:
        tenth = 10 * done // max(1, total)
        if tenth > self._tenths.get(what, 0):
            say(line)
        self._tenths[what] = tenth


@contextmanager
def _bars() -> Iterator[Callable[[Event], None]]:
    from rich import progress as bars
    from rich.console import Console

    from minigpt4.train import events

    columns = (
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TimeElapsedColumn(),
        bars.TimeRemainingColumn(),
        bars.TextColumn("{task.fields[figures]}", markup=False),
    )
    with bars.Progress(*columns, console=Console(stderr=True), speed_estimate_period=120) as progress:
        task = bars.TaskID(-1)
        loss = RunningMean()
        parts: dict[str, bars.TaskID] = {}

        def advance(what: str, done: int, total: int) -> None:
            if what not in parts:
                parts[what] = progress.add_task(what, total=total, figures="")
            progress.update(parts[what], completed=done)

        def show(event: Event) -> None:
            nonlocal task
            match event:
                case events.FeaturesMissing():
                    progress.console.print(sentence_of(event), markup=False, highlight=False)
                    task = progress.add_task("features", total=event.crops, figures="")
                case events.FeaturesComputed(done, _):
                    progress.update(task, completed=done)
                case events.PhotosFetched(source, done, total):
                    advance(f"downloading {printable(source)}", done, total)
                case events.PhotosRead(source, done, total):
                    if total >= MANY_PARTS:
                        advance(f"indexing {printable(source)}", done, total)
                case events.TrainingStarted(first, last, _):
                    task = progress.add_task("training", total=last, completed=first - 1, figures="")
                case events.StepDone():
                    figures = figures_of(event, loss.after(event.loss))
                    progress.update(task, completed=event.step, figures=figures)
                case _:
                    progress.console.print(sentence_of(event), markup=False, highlight=False)

        yield show


def figures_of(done: StepDone, mean_loss: float) -> str:
    """The metrics of a step in one line, without those that are not worth showing."""
    figures = [
        f"loss {mean_loss:.4f}",
        f"gradient {done.grad_norm:.3g}",
        f"lr {done.lr:.2e}",
        f"{done.samples_per_s:.1f} photos/s",
    ]
    if done.mfu is not None:
        figures.append(f"MFU {done.mfu:.0%}")
    if done.data_wait >= WAIT_SHOWN:
        figures.append(f"waited {done.data_wait:.0%}")
    if done.memory:
        figures.append(size_text(done.memory))
    return ", ".join(figures)


def sentence_of(event: Event) -> str:
    """An event in one line."""
    from minigpt4.train import events

    match event:
        case events.FeaturesMissing(photos, crops, size):
            return (
                f"Encoding {photos} photos ({crops} crops) once; "
                f"their features take {size_text(size)} of the cache."
            )
        case events.PhotosFetched(source, done, total):
            return printable(f"downloaded {size_text(done)} of {size_text(total)} of {source}")
        case events.PhotosRead(source, done, total):
            return printable(f"indexed {done} of {total} parts of {source}")
        case events.FeaturesStale(source, changed, folder):
            return printable(
                f"The cached features of {source} are outdated ({changed}); new ones are computed, and "
                f"{folder} may be deleted."
            )
        case events.PhotoSkipped(source, key, reason):
            return printable(f"skipped in {source}: {key}: {reason}")
        case events.ModelLoading():
            return "Loading the language model ..."
        case events.TrainingStarted(first, last, photos):
            return f"Training on {photos} photos, steps {first} to {last}."
        case events.Validated(step, val_loss):
            return f"step {step}: validation loss {val_loss:.4f}"
        case events.AnswersSampled(step, answers):
            text = "; ".join(f"{one.key}: {one.answer}" for one in answers)
            return printable(f"step {step}: {text}")
        case events.CheckpointSaved(step):
            return f"step {step}: checkpoint saved"
        case events.Note(sentence):
            return printable(sentence)
        case _:
            return str(event)
