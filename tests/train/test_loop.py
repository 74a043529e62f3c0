"""Training steps: deterministic, resumable to the bit, and stopped without loss."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from minigpt4.core.errors import BundleError, DataError, UsageError
from minigpt4.core.projection import load_projection
from minigpt4.train.checkpoint import KEPT, RunFolder
from minigpt4.train.events import Event, Saved, StepDone, TrainingBegun, Validated
from minigpt4.train.loop import Trainer, TrainingError, learning_rate_at, run_training
from minigpt4.train.recipe import Recipe

FACTS = {"the recipe": "r1", "the data of 'people'": "d1"}


MakeRun = Callable[[str], RunFolder]
TrainUntil = Callable[[RunFolder, int], bool]


@pytest.fixture
def new_run(tmp_path: Path, tiny_recipe: Callable[..., Recipe]) -> MakeRun:
    def new(name: str) -> RunFolder:
        run = RunFolder(tmp_path / name)
        run.begin(tiny_recipe())
        return run

    return new


def logged(run: RunFolder) -> list[dict[str, Any]]:
    """The log without what depends on the clock."""
    rows = [json.loads(line) for line in run.log_file.read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "samples_per_s"} for row in rows]


@pytest.fixture
def train_until(tiny_trainer: Callable[..., Trainer]) -> TrainUntil:
    """Train, and ask to stop once step `last` has been made."""

    def train(run: RunFolder, last: int) -> bool:
        made: list[int] = []

        def report(event: Event) -> None:
            if isinstance(event, StepDone):
                made.append(event.step)

        return run_training(
            tiny_trainer(), run, facts=FACTS, report=report, is_stopping=lambda: made[-1] >= last
        )

    return train


def test_a_run_leaves_its_result_its_log_and_the_last_checkpoints(
    tiny_recipe: Callable[..., Recipe], tiny_trainer: Callable[..., Trainer], new_run: MakeRun
) -> None:
    run = new_run("run")
    events: list[Event] = []
    assert run_training(tiny_trainer(), run, facts=FACTS, report=events.append)
    assert [event.step for event in events if isinstance(event, StepDone)] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in events if isinstance(event, Validated)] == [0, 3, 6]
    assert [event.step for event in events if isinstance(event, Saved)] == [2, 4, 6]
    assert [folder.name for folder in run.checkpoints] == ["4", "6"]
    assert len(run.checkpoints) == KEPT
    assert [row["step"] for row in logged(run)] == [0, 1, 2, 3, 3, 4, 5, 6, 6]
    assert set(json.loads(run.log_file.read_text().splitlines()[1])) == {
        "step",
        "loss",
        "lr",
        "grad_norm",
        "samples_per_s",
        "label_tokens",
    }
    assert run.recipe() == tiny_recipe()
    result = load_projection(run.result, 6, 16)
    last = load_projection(run.checkpoints[-1] / "projection.safetensors", 6, 16)
    assert torch.equal(result.linear.weight, last.linear.weight.half().float())


def test_the_result_keeps_the_recipe_s_share_of_the_start_also_when_resumed(
    tiny_recipe: Callable[..., Recipe], tiny_trainer: Callable[..., Trainer], new_run: MakeRun
) -> None:
    recipe = tiny_recipe(start_share=0.25)
    began = tiny_trainer(recipe).projection.linear.weight.clone()
    run = new_run("run")
    assert not run_training(tiny_trainer(recipe), run, facts=FACTS, is_stopping=lambda: True)
    assert run_training(tiny_trainer(recipe), run, facts=FACTS)
    ended = load_projection(run.checkpoints[-1] / "projection.safetensors", 6, 16).linear.weight
    result = load_projection(run.result, 6, 16).linear.weight
    assert not torch.allclose(began, ended, atol=1e-3)
    torch.testing.assert_close(result, 0.25 * began + 0.75 * ended, atol=1e-3, rtol=1e-3)


def test_the_result_is_the_mean_of_the_recipe_s_last_checkpoints(
    tiny_recipe: Callable[..., Recipe], tiny_trainer: Callable[..., Trainer], new_run: MakeRun
) -> None:
    run = new_run("run")
    assert run_training(tiny_trainer(tiny_recipe(averaged_checkpoints=2)), run, facts=FACTS)
    ends = [load_projection(at / "projection.safetensors", 6, 16).linear.weight for at in run.checkpoints]
    result = load_projection(run.result, 6, 16).linear.weight
    assert not torch.allclose(ends[0], ends[1], atol=1e-3)
    torch.testing.assert_close(result, (ends[0] + ends[1]) / 2, atol=1e-3, rtol=1e-3)


def test_training_lowers_the_loss_on_photos_it_does_not_see(
    tiny_recipe: Callable[..., Recipe], tiny_trainer: Callable[..., Trainer]
) -> None:
    trainer = tiny_trainer(tiny_recipe(steps=30, learning_rate=0.1))
    before = trainer.validation_loss()
    for number in range(30):
        trainer.step(number)
    assert trainer.validation_loss() < before - 0.02


def test_two_runs_of_one_seed_have_the_same_losses_bit_for_bit(
    tiny_trainer: Callable[..., Trainer], new_run: MakeRun
) -> None:
    runs = [new_run(name) for name in ("one", "two")]
    for run in runs:
        run_training(tiny_trainer(), run, facts=FACTS)
    assert logged(runs[0]) == logged(runs[1])
    assert runs[0].result.read_bytes() == runs[1].result.read_bytes()


def test_another_seed_draws_other_photos(
    tiny_recipe: Callable[..., Recipe], tiny_trainer: Callable[..., Trainer]
) -> None:
    losses = [tiny_trainer(tiny_recipe(seed=seed)).step(0).loss for seed in (3, 4)]
    assert losses[0] != losses[1]


@pytest.mark.parametrize("stopped_after", [1, 3, 4])
def test_a_run_that_was_stopped_goes_on_as_if_it_never_had_been(
    tiny_trainer: Callable[..., Trainer], new_run: MakeRun, train_until: TrainUntil, stopped_after: int
) -> None:
    whole = new_run("whole")
    run_training(tiny_trainer(), whole, facts=FACTS)
    run = new_run("stopped")
    assert not train_until(run, stopped_after)
    assert run.checkpoints[-1].name == str(stopped_after)
    assert not run.result.exists()
    assert run_training(tiny_trainer(), run, facts=FACTS)
    assert logged(run) == logged(whole)
    assert run.result.read_bytes() == whole.result.read_bytes()


def test_a_run_that_was_killed_goes_on_from_its_last_checkpoint(
    tiny_trainer: Callable[..., Trainer], new_run: MakeRun
) -> None:
    whole = new_run("whole")
    run_training(tiny_trainer(), whole, facts=FACTS)
    run = new_run("killed")

    def kill_after_step_5(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 5:
            run.log_file.open("a").write('{"step": 6, "lo')
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_training(tiny_trainer(), run, facts=FACTS, report=kill_after_step_5)
    events: list[Event] = []
    run_training(tiny_trainer(), run, facts=FACTS, report=events.append)
    assert events[0] == TrainingBegun(5, 6, 5)
    assert logged(run) == logged(whole)


def test_a_run_that_was_killed_early_goes_on_from_the_weights_it_began_with(
    tiny_trainer: Callable[..., Trainer], new_run: MakeRun
) -> None:
    whole = new_run("whole")
    run_training(tiny_trainer(), whole, facts=FACTS)
    run = new_run("killed")

    def kill_after_step_1(event: Event) -> None:
        if isinstance(event, StepDone):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_training(tiny_trainer(), run, facts=FACTS, report=kill_after_step_1)
    resumed = tiny_trainer()
    with torch.no_grad():  # whoever resumes is not told what the run began with
        resumed.projection.linear.weight.zero_()
    run_training(resumed, run, facts=FACTS)
    assert logged(run) == logged(whole)
    assert run.result.read_bytes() == whole.result.read_bytes()


def test_a_run_does_not_go_on_over_other_data(
    tiny_trainer: Callable[..., Trainer], new_run: MakeRun, train_until: TrainUntil
) -> None:
    run = new_run("run")
    train_until(run, 2)
    with pytest.raises(UsageError, match="the data of 'people' has changed"):
        run_training(tiny_trainer(), run, facts=FACTS | {"the data of 'people'": "d2"})


@pytest.mark.parametrize(
    ("name", "error"),
    [("state.json", DataError), ("state.safetensors", DataError), ("projection.safetensors", BundleError)],
)
def test_a_damaged_checkpoint_is_named(
    tiny_trainer: Callable[..., Trainer],
    new_run: MakeRun,
    train_until: TrainUntil,
    name: str,
    error: type[Exception],
) -> None:
    run = new_run("run")
    train_until(run, 2)
    (run.checkpoints[-1] / name).write_bytes(b"half")
    with pytest.raises(error, match="damaged"):
        run_training(tiny_trainer(), run, facts=FACTS)


def test_a_folder_that_holds_something_is_not_begun_in(
    tmp_path: Path, tiny_recipe: Callable[..., Recipe]
) -> None:
    (tmp_path / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(UsageError, match=r"not empty.*--resume"):
        RunFolder(tmp_path).begin(tiny_recipe())


def test_a_loss_that_is_no_number_ends_training(tiny_trainer: Callable[..., Trainer]) -> None:
    trainer = tiny_trainer()
    with torch.no_grad():
        trainer.projection.linear.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"diverged: at step 1 .* 'learning_rate' below 0.01"):
        trainer.step(0)


def test_the_learning_rate_rises_in_a_line_and_falls_along_a_cosine(
    tiny_recipe: Callable[..., Recipe],
) -> None:
    recipe = tiny_recipe(steps=12, warmup_steps=2, learning_rate=1.0, final_learning_rate=0.1)
    rates = [learning_rate_at(step, recipe) for step in range(13)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[7] == pytest.approx(0.55)
    assert rates[12] == pytest.approx(0.1)
    assert rates[2:] == sorted(rates[2:], reverse=True)


def test_the_bias_has_no_weight_decay_and_the_gradient_is_clipped(
    tiny_recipe: Callable[..., Recipe], tiny_trainer: Callable[..., Trainer]
) -> None:
    trainer = tiny_trainer(tiny_recipe(gradient_clip=1e-9, weight_decay=0.5, learning_rate=0.1))
    weight_group, bias_group = trainer.optimizer.param_groups
    assert (weight_group["weight_decay"], bias_group["weight_decay"]) == (0.5, 0.0)
    done = trainer.step(0)
    assert done.grad_norm > 1e-6
    moments = trainer.optimizer.state[trainer.projection.linear.weight]
    assert float(moments["exp_avg"].norm()) < 1e-9
