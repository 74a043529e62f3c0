"""`minigpt4 train --stage 1|2`: train the projection of a bundle on folders of shards."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from minigpt4.core.errors import UsageError
from minigpt4.core.sources import size_text
from minigpt4.tui.cli.edge import say

if TYPE_CHECKING:
    from minigpt4.core.bundle import Bundle
    from minigpt4.core.projection import Projection
    from minigpt4.train.checkpoint import RunFolder
    from minigpt4.train.events import Event, Report
    from minigpt4.train.recipe import Recipe

STEPS_A_LINE = 25
"""How often a line is written where there is no terminal to draw a bar on."""

SMOOTHING = 0.97
"""The loss that is shown is a running mean: single steps jump about by a tenth."""


def train(
    stage: Annotated[
        int | None, typer.Option("--stage", min=1, max=2, help="1: captions. 2: questions and answers.")
    ] = None,
    data: Annotated[
        Path, typer.Option("--data", help="The folder that holds the recipe's folders of shards.")
    ] = Path("data"),
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The run's folder: new, or the one to resume.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="A recipe of your own, in place of the stage's.")
    ] = None,
    init: Annotated[
        Path | None, typer.Option("--init", help="What to start from: a projection, or the folder of a run.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="How many processor threads to use.")
    ] = None,
) -> None:
    """Train a bundle's projection, stage 1 or 2."""
    from minigpt4.core.bundle import load_bundle
    from minigpt4.train.data import check_folders
    from minigpt4.tui.cli.models import pull_with_progress

    run, chosen = (
        _resumed(output, stage, recipe, init, settings) if resume else _new(output, stage, recipe, settings)
    )
    bundle = load_bundle(chosen.bundle)
    # What a person may have got wrong comes before the bundle's files, which may take minutes to fetch.
    start = None if resume else _starting_projection(init, chosen, bundle)
    check_folders(data.expanduser(), chosen)
    pull_with_progress(bundle)
    _train(run, chosen, bundle, data.expanduser(), start, is_new=not resume, threads=threads)


def _resumed(
    output: Path | None,
    stage: int | None,
    recipe: Path | None,
    init: Path | None,
    settings: list[str] | None,
) -> tuple[RunFolder, Recipe]:
    from minigpt4.train.checkpoint import RunFolder

    if output is None:
        raise UsageError("--resume needs --output: the folder of the run to go on with.")
    given = {"--recipe": recipe, "--init": init, "--set": settings}
    for option, value in given.items():
        if value:
            raise UsageError(f"{option} cannot be given with --resume: a run keeps what it began with.")
    run = RunFolder(output.expanduser())
    kept = run.recipe()
    if stage not in (None, kept.stage):
        raise UsageError(f"The run in {output} is of stage {kept.stage}, not {stage}.")
    if run.result.is_file():
        raise UsageError(f"The run in {output} has ended; its result is {run.result}.")
    if not run.checkpoints:
        raise UsageError(f"The run in {output} ended before it began; delete that folder and begin again.")
    return run, kept


def _new(
    output: Path | None, stage: int | None, recipe: Path | None, settings: list[str] | None
) -> tuple[RunFolder, Recipe]:
    from minigpt4.train.checkpoint import RunFolder
    from minigpt4.train.recipe import read_recipe, shipped_recipe, with_settings

    if stage is None and recipe is None:
        raise UsageError("Which stage is to be trained? Give --stage 1 or --stage 2.")
    path = recipe.expanduser() if recipe is not None else shipped_recipe(stage or 1)
    chosen = with_settings(read_recipe(path), settings or [])
    if stage not in (None, chosen.stage):
        raise UsageError(f"The recipe {path} is of stage {chosen.stage}, not {stage}.")
    folder = output.expanduser() if output is not None else Path("runs") / f"stage{chosen.stage}"
    run = RunFolder(folder)
    run.check_new()
    return run, chosen


def _starting_projection(init: Path | None, recipe: Recipe, bundle: Bundle) -> Projection | None:
    from minigpt4.core.fetch import projection_path
    from minigpt4.core.projection import load_projection

    if init is not None:
        path = init.expanduser()
        path = path / "projection.safetensors" if path.is_dir() else path
    elif recipe.start:
        path = projection_path(bundle).parent / recipe.start
    elif recipe.stage == 1:
        return None
    else:
        raise UsageError(
            "Stage 2 goes on from stage 1: give its run or its result with --init, or name a file that "
            f"lies beside the projection of the bundle '{bundle.name}' with --set start=FILE."
        )
    spec = bundle.projection
    return load_projection(path, spec.inputs, spec.outputs, spec.layers)


def _train(
    run: RunFolder,
    recipe: Recipe,
    bundle: Bundle,
    data: Path,
    start: Projection | None,
    *,
    is_new: bool,
    threads: int | None,
) -> None:
    import torch

    from minigpt4.train.allocator import keep_freed_memory
    from minigpt4.train.assemble import assemble
    from minigpt4.train.loop import run_training

    keep_freed_memory()
    if threads is not None:
        torch.set_num_threads(threads)
    with StopSignals() as signals, _watching() as report:
        trainer, facts = assemble(
            recipe, data, bundle, initial=start, threads=torch.get_num_threads(), report=report
        )
        if is_new:
            run.begin(recipe)
        signals.end_the_step_first()
        has_ended = run_training(
            trainer, run, facts=facts, report=report, is_stopping=lambda: signals.received is not None
        )
    if not has_ended:
        command = ["minigpt4", "train", "--resume", "--output", str(run.path), "--data", str(data)]
        command += ["--threads", str(threads)] if threads is not None else []
        say(f"Stopped and saved; go on with: {shlex.join(command)}")
        raise typer.Exit(128 + (signals.received or signal.SIGINT))
    print(run.result)


class StopSignals:
    """Ctrl+C and a terminate request: at once while things are prepared, after the step while training.

    A second one always ends the process at once.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._waits = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_details: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # type: ignore[arg-type]

    def end_the_step_first(self) -> None:
        """From now on a first signal only sets `received`."""
        self._waits = True

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        first, self.received = self.received is None, number
        if self._waits and first:
            say("Finishing the step and saving; once more to stop at once.")
            return
        # An exception and not the default action, so that half-written files are taken away.
        raise SystemExit(128 + number)


@contextmanager
def _watching() -> Iterator[Report]:
    """Show a run's events: bars on a terminal's stderr, lines where stderr is something else."""
    if sys.stderr.isatty():
        with _bars() as report:
            yield report
    else:
        yield Lines().show


class Lines:
    """A run's events as lines on stderr, now and then."""

    def __init__(self) -> None:
        self._last, self._loss = 0, RunningMean()
        self._tenth = 0

    def show(self, event: Event) -> None:
        """One event."""
        from minigpt4.train.events import FeaturesMade, StepDone, TrainingBegun

        match event:
            case FeaturesMade(done, total):
                tenth = 10 * done // total
                if tenth > self._tenth:
                    say(f"features: {done} of {total} views")
                self._tenth = tenth
            case TrainingBegun():
                self._last = event.last
                say(sentence_of(event))
            case StepDone():
                mean = self._loss.after(event.loss)
                if event.step % STEPS_A_LINE == 0 or event.step == self._last:
                    say(
                        f"step {event.step} of {self._last}: loss {mean:.4f}, lr {event.lr:.2e}, "
                        f"{event.samples_per_s:.1f} photos/s"
                    )
            case _:
                say(sentence_of(event))


@contextmanager
def _bars() -> Iterator[Callable[[Event], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from minigpt4.train.events import FeaturesMade, FeaturesMissing, StepDone, TrainingBegun

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=120) as progress:
        task = TaskID(-1)
        loss = RunningMean()

        def show(event: Event) -> None:
            nonlocal task
            match event:
                case FeaturesMissing():
                    progress.console.print(sentence_of(event), markup=False, highlight=False)
                    task = progress.add_task("features", total=event.views, figures="")
                case FeaturesMade(done, _):
                    progress.update(task, completed=done)
                case TrainingBegun(first, last, _):
                    task = progress.add_task("training", total=last, completed=first - 1, figures="")
                case StepDone():
                    figures = (
                        f"loss {loss.after(event.loss):.4f}  lr {event.lr:.2e}  "
                        f"{event.samples_per_s:.1f} photos/s"
                    )
                    progress.update(task, completed=event.step, figures=figures)
                case _:
                    progress.console.print(sentence_of(event), markup=False, highlight=False)

        yield show


class RunningMean:
    """An exponential running mean, from the first value on."""

    def __init__(self) -> None:
        self._mean: float | None = None

    def after(self, value: float) -> float:
        """The mean once `value` is in it."""
        self._mean = value if self._mean is None else SMOOTHING * self._mean + (1 - SMOOTHING) * value
        return self._mean


def sentence_of(event: Event) -> str:
    """An event in one line."""
    from minigpt4.train import events

    match event:
        case events.FeaturesMissing(photos, views, size):
            return (
                f"The tower looks at {photos} photos ({views} views) once; "
                f"their features take {size_text(size)} of the cache."
            )
        case events.PhotoLeftOut(source, key, reason):
            return f"left out of {source}: {key}: {reason}"
        case events.ModelLoading():
            return "Loading the language model ..."
        case events.TrainingBegun(first, last, photos):
            return f"Training on {photos} photos, steps {first} to {last}."
        case events.Validated(step, val_loss):
            return f"step {step}: validation loss {val_loss:.4f}"
        case events.Saved(step):
            return f"step {step}: checkpoint saved"
        case _:
            return str(event)
