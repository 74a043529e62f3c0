"""A training run's folder: its recipe, its log, and checkpoints from which it goes on exactly.

RUN/recipe.toml                            what is trained
RUN/log.jsonl                              one line a step and a validation
RUN/checkpoints/STEP/projection.safetensors, state.safetensors, state.json
RUN/start.safetensors                      the first weights, where the result keeps a share of them
RUN/projection.safetensors                 the result, float16, once training has ended
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from minigpt4.core.atomic import replacing
from minigpt4.core.errors import DataError, UsageError
from minigpt4.core.projection import Projection, load_projection, save_projection
from minigpt4.train.recipe import Recipe, read_recipe, recipe_toml

KEPT = 2
"""Checkpoints that stay; the one before the newest is there in case that one is damaged."""

PROJECTION, STATE, FACTS = "projection.safetensors", "state.safetensors", "state.json"


@dataclass(frozen=True)
class RunFolder:
    """The folder of one training run."""

    path: Path

    @property
    def result(self) -> Path:
        """The trained projection."""
        return self.path / PROJECTION

    @property
    def start(self) -> Path:
        """What training began with, where the result is to keep a share of it."""
        return self.path / "start.safetensors"

    @property
    def recipe_file(self) -> Path:
        """The recipe of this run."""
        return self.path / "recipe.toml"

    @property
    def log_file(self) -> Path:
        """One JSON object a line."""
        return self.path / "log.jsonl"

    @property
    def checkpoints(self) -> list[Path]:
        """Folders of whole checkpoints, the oldest first."""
        found = (self.path / "checkpoints").glob("*")
        return sorted((place for place in found if place.name.isdigit()), key=lambda place: int(place.name))

    def check_new(self) -> None:
        """UsageError where the folder holds anything already."""
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"--output {self.path} is a file; name a folder that is empty or not there yet.")
        if self.path.is_dir() and any(self.path.iterdir()):
            raise UsageError(
                f"The folder {self.path} is not empty; go on with the run in it with --resume, "
                "or name another folder with --output."
            )

    def begin(self, recipe: Recipe) -> None:
        """Make the folder and put the recipe there; UsageError where it holds anything already."""
        self.check_new()
        self.path.mkdir(parents=True, exist_ok=True)
        with replacing(self.recipe_file) as draft:
            draft.write_text(recipe_toml(recipe), encoding="utf-8")

    def recipe(self) -> Recipe:
        """The recipe that was put there; UsageError where there is no run."""
        if not self.recipe_file.is_file():
            raise UsageError(f"There is no run to resume in {self.path}; leave --resume out to begin one.")
        return read_recipe(self.recipe_file)

    def append(self, row: Mapping[str, object]) -> None:
        """Add a line to the log."""
        with self.log_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def forget_after(self, step: int) -> None:
        """Drop what the log says about later steps: they are going to be made again."""
        if not self.log_file.is_file():
            return
        kept = [
            line for line in self.log_file.read_text(encoding="utf-8").splitlines() if _step(line) <= step
        ]
        with replacing(self.log_file) as draft:
            draft.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # half a line, from a process that was killed


def save_checkpoint(
    run: RunFolder,
    step: int,
    projection: Projection,
    optimizer: torch.optim.Optimizer,
    facts: Mapping[str, object],
) -> None:
    """Write the checkpoint of `step` whole or not at all, and let go of all but the newest KEPT.

    `facts` must be the same when the run is resumed.
    """
    folder = run.path / "checkpoints" / str(step)
    draft = folder.with_name(f".{step}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    save_projection(draft / PROJECTION, projection)
    save_file(_moments(projection, optimizer), draft / STATE)
    (draft / FACTS).write_text(json.dumps({"step": step, "facts": dict(facts)}, indent=2), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)
    for old in run.checkpoints[:-KEPT]:
        shutil.rmtree(old)


def load_checkpoint(
    folder: Path, projection: Projection, optimizer: torch.optim.Optimizer, facts: Mapping[str, object]
) -> int:
    """Put a checkpoint's weights and moments into place and return its step.

    Raises DataError where it is damaged, UsageError naming the first of `facts` that has changed.
    """
    try:
        state = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        moments = load_file(folder / STATE)
        step, before = int(state["step"]), dict(state["facts"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise DataError(
            f"The checkpoint {folder} is damaged ({error}); delete that folder to go on from the one before."
        ) from error
    for name, value in facts.items():
        if before.get(name) != value:
            raise UsageError(
                f"The run cannot go on exactly: {name} has changed since the checkpoint {folder}. "
                "Bring back what it was, or begin a new run."
            )
    shape = (projection.inputs, projection.outputs, projection.layers)
    saved = load_projection(folder / PROJECTION, *shape)
    projection.load_state_dict(saved.state_dict())
    for name, parameter in projection.named_parameters():
        optimizer.state[parameter] = _moments_of(moments, name, folder)
    return step


def _moments(projection: Projection, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{key}": value.contiguous()
        for name, parameter in projection.named_parameters()
        for key, value in optimizer.state[parameter].items()
    }


def _moments_of(moments: Mapping[str, torch.Tensor], name: str, folder: Path) -> dict[str, Any]:
    found = {
        key.removeprefix(f"{name}."): value for key, value in moments.items() if key.startswith(f"{name}.")
    }
    if not found and moments:
        raise DataError(f"The checkpoint {folder} lacks the optimiser's state of '{name}'.")
    return found
