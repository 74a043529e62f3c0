"""`minigpt4 eval ablations`: train the rows of the paper's ablations, evaluate and report them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from minigpt4.tui.cli.options import BundleName
from minigpt4.tui.terminal.messages import say
from minigpt4.tui.terminal.results import json_text, print_path

if TYPE_CHECKING:
    from minigpt4.train.ablations.plan import AblationRun, Model, Plan

PICTURES = 100


def ablations(
    data: Annotated[
        list[str],
        typer.Option(
            "--data", metavar="DATA", help="What is learnt from, as for 'train --data'; again for more."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="Folder of all runs and of report.md; the same resumes."
        ),
    ],
    bundle: BundleName = "mini-without-detector",
    eval_data: Annotated[
        list[str] | None,
        typer.Option(
            "--eval-data", metavar="DATA", help="Pictures to evaluate on, not the recipe's validation."
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps", min=1, help="Steps of stage 1, not the recipe's; stage 2 is as much shorter."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key of both stages' recipes."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Evaluate on this many pictures.")] = PICTURES,
    devices: Annotated[
        int, typer.Option("--devices", min=1, help="Processes, one a GPU; on a CPU they share its cores.")
    ] = 1,
) -> None:
    """Train and compare the rows of the paper's ablations: its architectures, and its amounts of training."""
    from minigpt4 import __version__
    from minigpt4.train.ablations.plan import AblationRun, Plan

    plan = Plan(bundle, data, steps, settings or [])
    for model in plan.models():
        for stage in (1, 2):
            plan.settings_of(model, stage)  # a bad setting is refused before anything is written
    places = eval_data or plan.validation_places()
    header = {
        "bundle": bundle,
        "steps": steps,
        "settings": settings or [],
        "limit": limit,
        "versions": {"minigpt4": __version__},
    }
    run = AblationRun.begin(output.expanduser(), header, {"data": data, "eval_data": places})
    with run.locked():
        _carry_out(run, plan, places, devices)
    print_path(run.report)


def _carry_out(run: AblationRun, plan: Plan, places: Sequence[str], devices: int) -> None:
    """Train and evaluate what is missing, and write the report."""
    from minigpt4.core.storage.atomic import replacing
    from minigpt4.train.ablations.report import as_markdown, as_record

    for model in plan.models():
        for stage in (1, 2):
            if not (run.training(model.name, stage) / "projection.safetensors").is_file():
                _train(run, plan, model, stage, devices)
            if stage in plan.stages(model.name):
                _evaluate(run, plan, model, stage, places, devices)
    record = as_record(run, plan)
    for path, text in ((run.record, json_text(record)), (run.report, as_markdown(record))):
        with replacing(path) as draft:
            draft.write_text(text.rstrip() + "\n", encoding="utf-8")


def _train(run: AblationRun, plan: Plan, model: Model, stage: int, devices: int) -> None:
    """Train a stage of a model, or continue where it was stopped."""
    from minigpt4.core.weights.run_projection import checkpoint_folders

    say(f"Training {model.name}, stage {stage}.")
    folder = run.training(model.name, stage)
    if checkpoint_folders(folder):
        _run(["train", "--resume", "--output", str(folder)], devices)
        return
    if folder.exists():
        shutil.rmtree(folder)  # stopped before its first checkpoint
    start = ["--init", str(run.training(model.name, 1))] if stage == 2 else []
    options = [
        *("--stage", str(stage), "--bundle", plan.bundle, "--output", str(folder)),
        *(part for place in plan.data for part in ("--data", place)),
        *(part for setting in plan.settings_of(model, stage) for part in ("--set", setting)),
    ]
    _run(["train", *options, *start], devices)


def _evaluate(
    run: AblationRun, plan: Plan, model: Model, stage: int, places: Sequence[str], devices: int
) -> None:
    """Ask the suites' questions that have no answer yet."""
    for suite in plan.suites():
        say(f"Evaluating {model.name} after stage {stage}: {suite}.")
        options = [
            *("--bundle", plan.bundle, "--projection", str(run.training(model.name, stage))),
            *("--output", str(run.evaluation(model.name, stage, suite)), "--limit", str(run.header["limit"])),
            *(part for place in places for part in ("--data", place)),
        ]
        as_trained = ["--stage", str(stage)] if suite == "captions" else []
        _run(["eval", suite, *options, *as_trained], devices)


def _run(arguments: Sequence[str], devices: int) -> None:
    """Run another command of this program, which ends with this one; raises typer.Exit if it fails."""
    from minigpt4.train.distributed.launch import launch

    command = [sys.executable, "-P", "-m", "minigpt4.tui", *arguments]
    if code := launch(command, devices, stdout=subprocess.DEVNULL):
        raise typer.Exit(code)
