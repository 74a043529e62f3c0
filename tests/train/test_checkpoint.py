"""Checkpoints: saved, restored, compared and deleted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from minigpt4.train.checkpoint import (
    best_checkpoint,
    changes_since,
    load_checkpoint,
    read_state,
    save_checkpoint,
)
from minigpt4.train.recipe import Recipe
from minigpt4.train.run.folder import RunFolder
from minigpt4.train.trainer import Trainer

FACTS = {"the vision tower": "t1", "the data of 'people'": "d1"}


@pytest.mark.parametrize("layers", [1, 3])
def test_weights_moments_and_generators_are_restored(
    tmp_path: Path,
    tiny_recipe: Callable[..., Recipe],
    tiny_trainer: Callable[..., Trainer],
    layers: int,
) -> None:
    recipe = tiny_recipe(layers=layers)
    trained = tiny_trainer(recipe)
    trained.step(0)
    torch.manual_seed(11)
    run = RunFolder(tmp_path / "run")
    save_checkpoint(run, 1, trained, FACTS, 3.5)
    drawn = torch.rand(3)
    resumed = tiny_trainer(recipe)
    (folder,) = run.checkpoints
    saved = load_checkpoint(folder, resumed)
    assert (saved.step, saved.samples, saved.val_loss) == (1, recipe.batch_size, 3.5)
    assert torch.equal(torch.rand(3), drawn)
    state, found = trained.state(), resumed.state()
    assert state.keys() == found.keys()
    assert all(torch.equal(state[name], found[name]) for name in state)
    for one, other in zip(trained.adapter.parameters(), resumed.adapter.parameters(), strict=True):
        assert torch.equal(one, other)
    assert trained.step(1).loss == resumed.step(1).loss


def test_a_checkpoint_holds_only_safetensors_json_and_toml(
    tmp_path: Path, tiny_trainer: Callable[..., Trainer]
) -> None:
    run = RunFolder(tmp_path / "run")
    save_checkpoint(run, 0, tiny_trainer(), FACTS)
    (folder,) = run.checkpoints
    assert {file.name for file in folder.iterdir()} == {
        "projection.safetensors",
        "state.safetensors",
        "state.json",
        "recipe.toml",
    }
    assert json.loads((folder / "state.json").read_text())["facts"] == FACTS


def test_changes_are_described_in_words(
    tmp_path: Path, tiny_recipe: Callable[..., Recipe], tiny_trainer: Callable[..., Trainer]
) -> None:
    run = RunFolder(tmp_path / "run")
    save_checkpoint(run, 0, tiny_trainer(), FACTS)
    (folder,) = run.checkpoints
    assert changes_since(folder, tiny_recipe(), FACTS) == []
    now = {"the vision tower": "t2", "the data of 'things'": "d2"}
    assert changes_since(folder, tiny_recipe(seed=4), now) == [
        "the recipe (seed 3 -> 4)",
        "the vision tower",
        "the data of 'things' (added)",
        "the data of 'people' (gone)",
    ]


def test_the_best_checkpoint_has_the_lowest_validation_loss(
    tmp_path: Path, tiny_recipe: Callable[..., Recipe], tiny_trainer: Callable[..., Trainer]
) -> None:
    run, trainer = RunFolder(tmp_path / "run"), tiny_trainer(tiny_recipe(keep_checkpoints=9))
    save_checkpoint(run, 0, trainer, FACTS)
    assert best_checkpoint(run) is None
    for step, loss in ((1, 3.0), (2, 2.0), (3, 2.5), (4, None)):
        save_checkpoint(run, step, trainer, FACTS, loss)
    best = best_checkpoint(run)
    assert best is not None
    assert read_state(best).step == 2
