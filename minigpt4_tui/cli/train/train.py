"""`minigpt4 train`: train the projection of a bundle in one or several processes, or estimate the cost."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from minigpt4.core.errors import DataError, UsageError
from minigpt4.tui.cli.options import with_option_sets
from minigpt4.tui.cli.signals import StopSignals
from minigpt4.tui.cli.train.progress import showing_progress
from minigpt4.tui.terminal.messages import say, shell_command
from minigpt4.tui.terminal.results import print_path

if TYPE_CHECKING:
    from minigpt4.core.bundles.bundle import Bundle
    from minigpt4.train.distributed.launch import RankAssignment
    from minigpt4.train.distributed.process_group import ProcessGroup
    from minigpt4.train.recipe import Recipe
    from minigpt4.train.run.folder import RunFolder


@dataclass(frozen=True)
class RunFlags:
    """The options that describe a run; the recipe supplies the others."""

    stage: Annotated[
        int | None, typer.Option("--stage", min=1, max=2, help="1: captions. 2: questions and answers.")
    ] = None
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            help="Your pictures with captions, or the folder with the recipe's sources; again for more. A "
            "run that is resumed knows its own.",
        ),
    ] = None
    bundle: Annotated[
        str | None, typer.Option("--bundle", "-b", help="Whose projection; the recipe's own otherwise.")
    ] = None
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The run's folder: new, or the one to resume.")
    ] = None
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", metavar="NAME|FILE", help="A recipe by name or file, not the stage's."),
    ] = None
    init: Annotated[
        Path | None, typer.Option("--init", help="What to start from: a projection, or the folder of a run.")
    ] = None
    resume: Annotated[bool, typer.Option("--resume", help="Resume the run in the output folder.")] = False
    force_recipe: Annotated[
        bool,
        typer.Option("--force-recipe", help="With --resume: accept a changed recipe, bundle or data."),
    ] = False
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe.")
    ] = None

    @property
    def places(self) -> list[str]:
        """Where the data of a new run are."""
        return self.data or ["data"]

    def changed(self, recipe: Recipe) -> Recipe:
        """The recipe with --bundle and --set."""
        from minigpt4.train.recipe_file import with_settings

        bundle = [f"bundle={self.bundle}"] if self.bundle else []
        return with_settings(recipe, [*bundle, *(self.settings or [])])


NEW_RUN = RunFlags()


@with_option_sets
def train(
    run: RunFlags = NEW_RUN,
    devices: Annotated[
        int, typer.Option("--devices", min=1, help="Processes, one a GPU; on a CPU they share its cores.")
    ] = 1,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Processor threads of each process.")
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Threads that open pictures ahead, in each process.")
    ] = 2,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Estimate memory, hours and disk; fetch and train nothing.")
    ] = False,
    on: Annotated[
        str | None, typer.Option("--on", help="With --estimate: A100, H100, 4090 or CPU; this machine else.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --estimate: for programs.")] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write figures for TensorBoard too, into the run's folder.")
    ] = False,
    watch: Annotated[
        list[Path] | None, typer.Option("--watch", help="Follow a run's folder; again for several at once.")
    ] = None,
) -> None:
    """Train a bundle's projection, stage 1 or 2.

    Your own pictures: a folder of photo.jpg with photo.txt, or with captions.jsonl or captions.csv.
    """
    if watch:
        from minigpt4.tui.watch.app import watch_runs

        watch_runs([path.expanduser() for path in watch])
        return
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device is '{device}'; give auto, cpu or cuda (each process takes its own GPU).")
    plan = _resumed(run) if run.resume else _new(run)
    if estimate:
        _estimate(plan, on, devices, as_json=as_json)
        return
    plan.check_start()
    if devices > 1 and _rank_assignment() is None:
        _launch_processes(plan, devices)
    else:
        raise typer.Exit(_train(plan, device, threads=threads, workers=workers, tensorboard=tensorboard))


@dataclass(frozen=True)
class Plan:
    """A run to start or resume; all options have been parsed."""

    folder: RunFolder
    recipe: Recipe
    bundle: Bundle
    """As the recipe modifies it."""

    data: tuple[str, ...]
    """Where the data are, according to the user."""

    recorded: Mapping[str, str] | None
    """Where the resumed run found each source; None for a new run."""

    init: Path | None
    is_new: bool
    force: bool
    """Accept differences from the resumed run."""

    def check_start(self) -> None:
        """Raise UsageError for a new run of stage 2 with nothing to start from."""
        if self.is_new and self.init is None and self.recipe.stage == 2:
            raise UsageError(
                "Stage 2 continues stage 1: give its run or its result with --init, or name a file that "
                f"lies beside the projection of the bundle '{self.bundle.name}' with --set start=FILE."
            )

    def places(self) -> dict[str, str]:
        """Where each of the recipe's sources is; raises DataError for one that is missing."""
        from minigpt4.train.batches.places import locate

        return locate(self.recipe, self.data, self.recorded, run=f"the run {self.folder.path}")


def _resumed(run: RunFlags) -> Plan:
    from minigpt4.train.recipe_file import read_recipe, recipe_path
    from minigpt4.train.run.folder import RunFolder

    if run.output is None:
        raise UsageError("--resume needs --output: the folder of the run to continue.")
    given = {"--recipe": run.recipe, "--set": run.settings, "--bundle": run.bundle}
    for option, value in given.items():
        if value and not run.force_recipe:
            raise UsageError(
                f"{option} cannot be given with --resume: a run keeps its settings; to continue with "
                "other ones all the same, add --force-recipe."
            )
    if run.init:
        raise UsageError("--init cannot be given with --resume: a run continues from its own weights.")
    folder = RunFolder(run.output.expanduser())
    recipe = folder.recipe()
    if run.recipe is not None:
        recipe = read_recipe(recipe_path(run.recipe))
    recipe = run.changed(recipe)
    if run.stage not in (None, recipe.stage):
        raise UsageError(f"The run in {run.output} is of stage {recipe.stage}, not {run.stage}.")
    if folder.result.is_file() and not run.force_recipe:
        raise UsageError(f"The run in {run.output} has ended; its result is {folder.result}.")
    if not folder.checkpoints:
        raise UsageError(
            f"The run in {run.output} ended before it began; delete that folder and begin again."
        )
    return _plan(folder, recipe, run)


def _new(run: RunFlags) -> Plan:
    from minigpt4.train.batches.places import with_own_photos
    from minigpt4.train.recipe_file import read_recipe, recipe_path, stage_recipe
    from minigpt4.train.run.folder import RunFolder

    if run.stage is None and run.recipe is None:
        raise UsageError("Which stage do you want to train? Give --stage 1 or --stage 2.")
    name = run.recipe if run.recipe is not None else stage_recipe(run.stage or 1, run.bundle or "mini")
    # Own pictures first, so that --set can change the sources that they become.
    recipe = run.changed(with_own_photos(read_recipe(recipe_path(name)), run.places))
    if run.stage not in (None, recipe.stage):
        raise UsageError(f"The recipe {name} is of stage {recipe.stage}, not {run.stage}.")
    return _plan(RunFolder((run.output or Path("runs") / f"stage{recipe.stage}").expanduser()), recipe, run)


def _plan(folder: RunFolder, recipe: Recipe, run: RunFlags) -> Plan:
    from minigpt4.core.bundles.bundle import load_bundle
    from minigpt4.train.recipe import bundle_for

    bundle = bundle_for(recipe, load_bundle(recipe.bundle))
    start = None if run.resume else _start(run.init, recipe, bundle)
    recorded = folder.places() if run.resume else None
    data = tuple(run.data or []) if recorded else tuple(run.places)
    return Plan(folder, recipe, bundle, data, recorded, start, not run.resume, run.force_recipe)


def _start(init: Path | None, recipe: Recipe, bundle: Bundle) -> Path | None:
    """The projection or run to start from; None if none is named."""
    from minigpt4.core.download.fetch import projection_path

    if init is not None:
        return init.expanduser()
    return projection_path(bundle).parent / recipe.start if recipe.start else None


def _estimate(plan: Plan, on: str | None, devices: int, *, as_json: bool) -> None:
    from minigpt4.train.batches.run_data import count_photos
    from minigpt4.train.estimate.estimate import device_named, estimate, estimate_text, this_device

    device = device_named(on) if on is not None else this_device()
    try:
        photos = count_photos(plan.recipe, plan.places())
    except DataError:
        photos = None  # an estimate is also wanted before the data are here
    found = estimate(plan.recipe, plan.bundle, device=device, processes=devices, photos=photos)
    print(
        json.dumps(found.as_json(), indent=2) if as_json else estimate_text(found, plan.recipe, plan.bundle)
    )


def _prepare(plan: Plan) -> None:
    """Check options first, then download the bundle's files, which may take minutes."""
    from minigpt4.train.adapter import check_start
    from minigpt4.tui.cli.models.models import pull_with_progress

    if plan.is_new:
        plan.folder.require_empty()
        check_start(plan.init, plan.recipe, plan.bundle)
    plan.places()
    pull_with_progress(plan.bundle)


def _rank_assignment() -> RankAssignment | None:
    import os

    from minigpt4.train.distributed.launch import rank_assignment

    return rank_assignment(os.environ)


def _launch_processes(plan: Plan, devices: int) -> None:
    """Run the same command in several processes, after the checks that need to be made only once."""
    if devices > plan.recipe.batch_size:
        raise UsageError(
            f"--devices {devices} are more processes than a step has photos ({plan.recipe.batch_size}); give "
            "fewer, or more photos with --set batch_size=N."
        )
    _prepare(plan)
    from minigpt4.train.distributed.launch import launch

    raise typer.Exit(launch([sys.executable, "-P", "-m", "minigpt4.tui", *sys.argv[1:]], devices))


def _train(plan: Plan, device: str, *, threads: int | None, workers: int, tensorboard: bool) -> int:
    """Train in this process, alone or as one of several; returns the exit code."""
    from minigpt4.train.distributed.distributed_group import device_of, distributed_group
    from minigpt4.train.distributed.launch import end_with_parent
    from minigpt4.train.distributed.process_group import ProcessGroup
    from minigpt4.train.errors import PeerFailedError

    assignment = _rank_assignment()
    end_with_parent()
    if assignment is not None and assignment.world_size > plan.recipe.batch_size:
        raise UsageError(
            f"There are {assignment.world_size} processes and a step has {plan.recipe.batch_size} photos; "
            "start fewer, or give more photos with --set batch_size=N."
        )
    is_first = assignment is None or assignment.rank == 0
    _use_threads(threads, assignment.local_world_size if assignment else 1, say if is_first else None)
    with ExitStack() as stack:
        stop = stack.enter_context(StopSignals(is_quiet=not is_first))
        where = device_of(device, assignment.local_rank if assignment else 0)
        try:
            if is_first:
                _prepare(plan)
                stack.enter_context(plan.folder.locked())
            process_group = (
                stack.enter_context(distributed_group(assignment, where))
                if assignment
                else ProcessGroup(where)
            )
            has_ended = _run(plan, process_group, stop, workers=workers, tensorboard=tensorboard)
        except PeerFailedError:
            if is_first:
                raise
            return 1  # the process that failed and rank 0 print the error
    if has_ended:
        if is_first:
            print_path(plan.folder.result)
        return 0
    if is_first:
        say(f"Stopped and saved; continue with: {shell_command(_to_resume(plan, threads))}")
    return 128 + (stop.received or signal.SIGINT)


def _run(
    plan: Plan, process_group: ProcessGroup, stop: StopSignals, *, workers: int, tensorboard: bool
) -> bool:
    """Build the trainer and train; returns whether the run is complete."""
    from minigpt4.train.batches.run_data import open_data
    from minigpt4.train.build import build, run_fingerprints
    from minigpt4.train.events import Event
    from minigpt4.train.loop import Run
    from minigpt4.train.preflight import run_preflight

    with ExitStack() as stack:
        callbacks = [stack.enter_context(showing_progress())] if process_group.rank == 0 else []
        if tensorboard and process_group.rank == 0:
            from minigpt4.train.run.tensorboard import tensorboard_writer

            callbacks.append(stack.enter_context(tensorboard_writer(plan.folder.path)))

        def report(event: Event) -> None:
            for callback in callbacks:
                callback(event)

        places = plan.places()
        data = open_data(plan.recipe, places, report)
        trainer, tokens = stack.enter_context(
            build(
                plan.recipe, data, plan.bundle, process_group, start=plan.init, workers=workers, report=report
            )
        )
        run_preflight(trainer, tokens, plan.bundle, report)
        if process_group.rank == 0:
            if plan.is_new:
                plan.folder.create(plan.recipe, places)
            elif plan.force:
                plan.folder.write_recipe(plan.recipe)
        stop.finish_step_first()
        run = Run(
            trainer,
            plan.folder,
            fingerprints=run_fingerprints(plan.recipe, plan.bundle, data),
            places=places,
            report=report,
            is_stopping=lambda: stop.received is not None,
            force=plan.force,
        )
        return run.train(data.photos)


def _use_threads(threads: int | None, processes: int, notice: Callable[[str], None] | None) -> None:
    """Set torch up in one of `processes`; `notice` is called for more `threads` than cores."""
    from minigpt4.core.cores import too_many_threads, use_torch_threads
    from minigpt4.core.torch_memory import bound_shape_caches, keep_freed_memory

    bound_shape_caches()
    keep_freed_memory()
    use_torch_threads(threads, processes=processes)
    if notice is not None and (sentence := too_many_threads(threads)):
        notice(sentence)


def _to_resume(plan: Plan, threads: int | None) -> list[str]:
    command = ["minigpt4", "train", "--resume", "--output", str(plan.folder.path)]
    return command + (["--threads", str(threads)] if threads is not None else [])
