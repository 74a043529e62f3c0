"""Checkpoints of a run: everything that it needs to go on exactly, in safetensors and JSON.

A checkpoint is a folder that appears whole or not at all: the trained weights in float32, the
optimiser's state and the random generators', the recipe, and state.json: the step, how many
samples have been seen (all that is to be known of the data), the validation loss where it was
measured, and the names of what must be the same when the run goes on.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from minigpt4.core.errors import DataError, UsageError
from minigpt4.train.errors import TrainingError
from minigpt4.train.recipe import Recipe
from minigpt4.train.recipe_file import changed_keys, read_recipe, recipe_toml
from minigpt4.train.run.folder import RECIPE, RunFolder
from minigpt4.train.trainable import load_part, save_part
from minigpt4.train.trainer import Trainer

STATE, FACTS = "state.safetensors", "state.json"
RNG = "rng."


@dataclass(frozen=True)
class Saved:
    """What a checkpoint says of itself."""

    step: int
    samples: int
    facts: Mapping[str, str]
    val_loss: float | None


def save_checkpoint(
    run: RunFolder, step: int, trainer: Trainer, facts: Mapping[str, str], val_loss: float | None = None
) -> None:
    """Write the checkpoint of `step` whole or not at all; then let go of old ones.

    The recipe's `keep_checkpoints` newest stay, and the one with the lowest validation loss. `facts` must
    be the same when the run goes on. Raises TrainingError where the disk is full or cannot be written.
    """
    folder = run.checkpoints_folder / str(step)
    draft = folder.with_name(f".{step}.part")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        save_part(draft, trainer.part)
        save_file({**trainer.state(), **_random_state()}, draft / STATE)
        (draft / RECIPE).write_text(recipe_toml(trainer.recipe), encoding="utf-8")
        state = {
            "step": step,
            "samples": step * trainer.recipe.batch_size,
            "val_loss": val_loss,
            "facts": dict(facts),
        }
        (draft / FACTS).write_text(json.dumps(state, indent=2), encoding="utf-8")
        for file in draft.iterdir():
            _sync(file)
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise TrainingError(_not_written(run, step, error)) from error
    for old in _not_kept(run, trainer.recipe.keep_checkpoints):
        shutil.rmtree(old, ignore_errors=True)


def read_saved(folder: Path) -> Saved:
    """What a checkpoint says of itself; raises DataError where it is damaged."""
    try:
        state = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        loss = state["val_loss"]
        return Saved(
            int(state["step"]),
            int(state["samples"]),
            {str(name): str(value) for name, value in state["facts"].items()},
            None if loss is None else float(loss),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(folder, error) from error


def load_checkpoint(folder: Path, trainer: Trainer) -> Saved:
    """Put a checkpoint's weights, optimiser and generators into place; DataError where it is damaged."""
    saved = read_saved(folder)
    load_part(folder, trainer.part)
    try:
        tensors = load_file(folder / STATE)
        trainer.restore({name: value for name, value in tensors.items() if not name.startswith(RNG)})
        _restore_random_state(tensors)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise _damaged(folder, error) from error
    return saved


def changes_since(folder: Path, recipe: Recipe, facts: Mapping[str, str]) -> list[str]:
    """What is no longer as it was when a checkpoint was made, in words; empty where nothing is."""
    changes = [f"the recipe ({change})" for change in changed_keys(read_recipe(folder / RECIPE), recipe)]
    before = read_saved(folder).facts
    changes += [name for name, value in facts.items() if name in before and before[name] != value]
    changes += [f"{name} (added)" for name in facts if name not in before]
    return changes + [f"{name} (gone)" for name in before if name not in facts]


def require_unchanged(folder: Path, changes: Sequence[str]) -> None:
    """Raise UsageError naming what has changed since the checkpoint in `folder`, if anything has."""
    if changes:
        raise UsageError(
            f"The run cannot go on exactly: since the checkpoint {folder} {', '.join(changes)} changed. "
            "Bring back what was, begin a new run, or go on with what is now by --force-recipe."
        )


def best_checkpoint(run: RunFolder) -> Path | None:
    """The checkpoint with the lowest validation loss; None where none was measured."""
    measured = [(loss, folder) for folder in run.checkpoints if (loss := _loss_of(folder)) is not None]
    return min(measured, key=lambda pair: pair[0])[1] if measured else None


def _not_kept(run: RunFolder, newest: int) -> list[Path]:
    best = best_checkpoint(run)
    return [folder for folder in run.checkpoints[:-newest] if folder != best]


def _loss_of(folder: Path) -> float | None:
    try:
        return read_saved(folder).val_loss
    except DataError:
        return None


def _random_state() -> dict[str, Tensor]:
    """Torch's generators. No step draws from them so far; one that did would still go on exactly."""
    state = {f"{RNG}cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state[f"{RNG}cuda"] = torch.cuda.get_rng_state()
    return state


def _restore_random_state(tensors: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(tensors[f"{RNG}cpu"])
    if torch.cuda.is_available() and f"{RNG}cuda" in tensors:
        torch.cuda.set_rng_state(tensors[f"{RNG}cuda"])


def _sync(file: Path) -> None:
    """Have the disk hold it before its name says so."""
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


def _not_written(run: RunFolder, step: int, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error)
    whole = run.checkpoints
    back = f"the checkpoint of step {whole[-1].name} is whole" if whole else "there is no earlier one"
    return (
        f"The checkpoint of step {step} could not be written to {run.path} ({reason}); {back}. Make room, "
        "then go on with --resume."
    )


def _damaged(folder: Path, error: Exception) -> DataError:
    return DataError(
        f"The checkpoint {folder} is damaged ({error}); delete that folder to go on from the one before."
    )
