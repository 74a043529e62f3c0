"""Checkpoints of a training run: what was saved comes back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from minigpt4.core.projection import Projection
from minigpt4.train.checkpoint import RunFolder, load_checkpoint, save_checkpoint


@pytest.mark.parametrize("layers", [1, 3])
def test_weights_and_moments_come_back(tmp_path: Path, layers: int) -> None:
    def begun() -> tuple[Projection, torch.optim.Optimizer]:
        projection = Projection(3, 4, layers)
        return projection, torch.optim.AdamW(projection.parameters())

    trained, optimizer = begun()
    trained(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    run = RunFolder(tmp_path / "run")
    save_checkpoint(run, 7, trained, optimizer, {"the recipe": "r1"})
    resumed, others = begun()
    (folder,) = run.checkpoints
    assert load_checkpoint(folder, resumed, others, {"the recipe": "r1"}) == 7
    for saved, found in zip(trained.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(saved, found)
        assert torch.equal(optimizer.state[saved]["exp_avg"], others.state[found]["exp_avg"])
