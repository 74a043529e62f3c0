"""Checkpoints: everything from which a run resumes bit-exactly, in safetensors and JSON.

A checkpoint is a folder that appears atomically: the trained weights in float32, the states of the
optimiser and the random generators, the recipe, and state.json: the step, the number of samples (the
only state of the data), the validation loss if it was measured, and the fingerprints that must be the
same when the run resumes.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from minigpt4.core.errors import DataError
from minigpt4.core.weights.run_projection import RECIPE
from minigpt4.train.adapter import load_adapter, save_adapter
from minigpt4.train.errors import TrainingError
from minigpt4.train.recipe import Recipe
from minigpt4.train.recipe_file import changed_keys, read_recipe, recipe_toml
from minigpt4.train.run.folder import RunFolder
from minigpt4.train.trainer import Trainer

STATE, SUMMARY = "state.safetensors", "state.json"
RNG = "rng."


@dataclass(frozen=True)
class CheckpointState:
    """The contents of a checkpoint's state.json."""

    step: int
    samples: int
    fingerprints: Mapping[str, str]
    val_loss: float | None


def save_checkpoint(
    run: RunFolder,
    step: int,
    trainer: Trainer,
    fingerprints: Mapping[str, str],
    val_loss: float | None = None,
) -> None:
    """Write the checkpoint of `step` atomically; then delete old ones.

    The recipe's `keep_checkpoints` newest stay, and the one with the lowest validation loss.
    `fingerprints` must be the same on resume. Raises TrainingError if the disk is full or read-only.
    """
    folder = run.checkpoints_folder / str(step)
    draft = folder.with_name(f".{step}.part")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        save_adapter(draft, trainer.adapter)
        save_file({**trainer.state(), **_random_state()}, draft / STATE)
        (draft / RECIPE).write_text(recipe_toml(trainer.recipe), encoding="utf-8")
        state = {
            "step": step,
            "samples": step * trainer.recipe.batch_size,
            "val_loss": val_loss,
            "facts": dict(fingerprints),
        }
        (draft / SUMMARY).write_text(json.dumps(state, indent=2), encoding="utf-8")
        for file in draft.iterdir():
            _sync(file)
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise TrainingError(_not_written(run, step, error)) from error
    best = best_checkpoint(run)
    for old in run.checkpoints[: -trainer.recipe.keep_checkpoints]:
        if old != best:
            shutil.rmtree(old, ignore_errors=True)


def read_state(folder: Path) -> CheckpointState:
    """A checkpoint's state.json; raises DataError if it is damaged."""
    try:
        state = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        loss = state["val_loss"]
        return CheckpointState(
            int(state["step"]),
            int(state["samples"]),
            {str(name): str(value) for name, value in state["facts"].items()},
            None if loss is None else float(loss),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(folder, error) from error


def load_checkpoint(folder: Path, trainer: Trainer) -> CheckpointState:
    """Restore weights, optimiser and random generators; raises DataError if the checkpoint is damaged."""
    state = read_state(folder)
    load_adapter(folder, trainer.adapter)
    try:
        tensors = load_file(folder / STATE)
        trainer.restore({name: value for name, value in tensors.items() if not name.startswith(RNG)})
        _restore_random_state(tensors)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise _damaged(folder, error) from error
    return state


def changes_since(folder: Path, recipe: Recipe, fingerprints: Mapping[str, str]) -> list[str]:
    """What changed since a checkpoint was written, in words; empty if nothing did."""
    changes = [f"the recipe ({change})" for change in changed_keys(read_recipe(folder / RECIPE), recipe)]
    before = read_state(folder).fingerprints
    changes += [name for name, value in fingerprints.items() if name in before and before[name] != value]
    changes += [f"{name} (added)" for name in fingerprints if name not in before]
    return changes + [f"{name} (gone)" for name in before if name not in fingerprints]


def best_checkpoint(run: RunFolder) -> Path | None:
    """The checkpoint with the lowest validation loss; None if none was measured."""
    measured = [(loss, folder) for folder in run.checkpoints if (loss := _loss_of(folder)) is not None]
    return min(measured, key=lambda pair: pair[0])[1] if measured else None


def _loss_of(folder: Path) -> float | None:
    try:
        return read_state(folder).val_loss
    except DataError:
        return None


def _random_state() -> dict[str, Tensor]:
    """torch's generators. No step draws from them now; one that did would still resume bit-exactly."""
    state = {f"{RNG}cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state[f"{RNG}cuda"] = torch.cuda.get_rng_state()
    return state


def _restore_random_state(tensors: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(tensors[f"{RNG}cpu"])
    if torch.cuda.is_available() and f"{RNG}cuda" in tensors:
        torch.cuda.set_rng_state(tensors[f"{RNG}cuda"])


def _sync(file: Path) -> None:
    """Flush the file to disk before the folder gets its final name."""
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


def _not_written(run: RunFolder, step: int, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error)
    whole = run.checkpoints
    back = f"the checkpoint of step {whole[-1].name} is whole" if whole else "there is no earlier one"
    return (
        f"The checkpoint of step {step} could not be written to {run.path} ({reason}); {back}. Free some "
        "space, then continue with --resume."
    )


def _damaged(folder: Path, error: Exception) -> DataError:
    return DataError(
        f"The checkpoint {folder} is damaged ({error}); delete that folder to resume from the one before."
    )
