"""The training loop: deterministic, and resumed bit-exactly."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from minigpt4.core.errors import BundleError, DataError, UsageError
from minigpt4.core.projection import load_projection
from minigpt4.train.batches.samples import Skipped
from minigpt4.train.distributed.process_group import ProcessGroup
from minigpt4.train.errors import TrainingError
from minigpt4.train.events import (
    CheckpointSaved,
    Event,
    Note,
    PhotoSkipped,
    StepDone,
    TrainingStarted,
    Validated,
)
from minigpt4.train.loop import Run
from minigpt4.train.recipe import Recipe
from minigpt4.train.run.folder import RunFolder
from minigpt4.train.trainer import Trainer

FINGERPRINTS = {"the language model": "m1", "the data of 'people'": "d1"}
CLOCKED = ("samples_per_s", "data_wait", "memory", "mfu")


def run_training(trainer: Trainer, folder: RunFolder, **options: Any) -> bool:
    """Train in that folder on the five tiny photos."""
    return Run(trainer, folder, **{"fingerprints": FINGERPRINTS, "places": {}, **options}).train(5)


MakeRun = Callable[[str], RunFolder]
TrainUntil = Callable[[RunFolder, int], bool]


@pytest.fixture
def new_run(tmp_path: Path, tiny_recipe: Callable[..., Recipe]) -> MakeRun:
    def new(name: str) -> RunFolder:
        run = RunFolder(tmp_path / name)
        run.create(tiny_recipe(), {})
        return run

    return new


def logged(run: RunFolder) -> list[dict[str, Any]]:
    """The log without what depends on the clock."""
    rows = [json.loads(line) for line in run.log_file.read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in CLOCKED} for row in rows]


@pytest.fixture
def train_until(tiny_trainer: Callable[..., Trainer]) -> TrainUntil:
    """Train, and request a stop after step `last`."""

    def train(run: RunFolder, last: int) -> bool:
        made: list[int] = []

        def report(event: Event) -> None:
            if isinstance(event, StepDone):
                made.append(event.step)

        return run_training(tiny_trainer(), run, report=report, is_stopping=lambda: made[-1] >= last)

    return train


def test_a_run_writes_its_result_log_and_last_checkpoints(
    tiny_recipe: Callable[..., Recipe], tiny_trainer: Callable[..., Trainer], new_run: MakeRun
) -> None:
    run = new_run("run")
    events: list[Event] = []
    assert run_training(tiny_trainer(), run, report=events.append)
    assert [event.step for event in events if isinstance(event, StepDone)] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in events if isinstance(event, Validated)] == [0, 3, 6]
    assert [event.step for event in events if isinstance(event, CheckpointSaved)] == [2, 4, 6]
    assert [folder.name for folder in run.checkpoints] == ["4", "6"]
    assert [row["step"] for row in logged(run)] == [0, 1, 2, 3, 3, 4, 5, 6, 6]
    assert set(json.loads(run.log_file.read_text().splitlines()[1])) == {
        "step",
        "loss",
        "lr",
        "grad_norm",
        "samples_per_s",
        "label_tokens",
        "data_wait",
        "mfu",
        "memory",
        "left_out",
    }
    assert run.recipe() == tiny_recipe()
    result = load_projection(run.result, 6, 16)
    last = load_projection(run.checkpoints[-1] / "projection.safetensors", 6, 16)
    assert torch.equal(result.linear.weight, last.linear.weight.half().float())


def test_start_share_mixes_the_initial_weights_in_also_after_a_resume(
    tiny_recipe: Callable[..., Recipe], tiny_trainer: Callable[..., Trainer], new_run: MakeRun
) -> None:
    recipe = tiny_recipe(start_share=0.25)
    began = tiny_trainer(recipe).adapter.projection.linear.weight.clone()
    run = new_run("run")
    assert not run_training(tiny_trainer(recipe), run, is_stopping=lambda: True)
    assert run_training(tiny_trainer(recipe), run)
    ended = load_projection(run.checkpoints[-1] / "projection.safetensors", 6, 16).linear.weight
    result = load_projection(run.result, 6, 16).linear.weight
    assert not torch.allclose(began, ended, atol=1e-3)
    torch.testing.assert_close(result, 0.25 * began + 0.75 * ended, atol=1e-3, rtol=1e-3)


def test_the_result_is_the_mean_of_the_recipe_s_last_checkpoints(
    tiny_recipe: Callable[..., Recipe], tiny_trainer: Callable[..., Trainer], new_run: MakeRun
) -> None:
    run = new_run("run")
    assert run_training(tiny_trainer(tiny_recipe(averaged_checkpoints=2)), run)
    ends = [load_projection(at / "projection.safetensors", 6, 16).linear.weight for at in run.checkpoints]
    result = load_projection(run.result, 6, 16).linear.weight
    assert not torch.allclose(ends[0], ends[1], atol=1e-3)
    torch.testing.assert_close(result, (ends[0] + ends[1]) / 2, atol=1e-3, rtol=1e-3)


def test_two_runs_of_one_seed_have_the_same_losses_bit_for_bit(
    tiny_trainer: Callable[..., Trainer], new_run: MakeRun
) -> None:
    runs = [new_run(name) for name in ("one", "two")]
    for run in runs:
        run_training(tiny_trainer(), run)
    assert logged(runs[0]) == logged(runs[1])
    assert runs[0].result.read_bytes() == runs[1].result.read_bytes()


@pytest.mark.parametrize("stopped_after", [1, 3, 4])
def test_a_stopped_run_resumes_bit_exactly(
    tiny_trainer: Callable[..., Trainer], new_run: MakeRun, train_until: TrainUntil, stopped_after: int
) -> None:
    whole = new_run("whole")
    run_training(tiny_trainer(), whole)
    run = new_run("stopped")
    assert not train_until(run, stopped_after)
    assert run.checkpoints[-1].name == str(stopped_after)
    assert not run.result.exists()
    assert run_training(tiny_trainer(), run)
    assert logged(run) == logged(whole)
    assert run.result.read_bytes() == whole.result.read_bytes()


def test_a_killed_run_resumes_from_its_last_checkpoint(
    tiny_trainer: Callable[..., Trainer], new_run: MakeRun
) -> None:
    whole = new_run("whole")
    run_training(tiny_trainer(), whole)
    run = new_run("killed")

    def kill_after_step_5(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 5:
            run.log_file.open("a").write('{"step": 6, "lo')
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_training(tiny_trainer(), run, report=kill_after_step_5)
    events: list[Event] = []
    run_training(tiny_trainer(), run, report=events.append)
    assert events[0] == TrainingStarted(5, 6, 5)
    assert logged(run) == logged(whole)


def test_a_run_killed_early_resumes_from_its_initial_weights(
    tiny_trainer: Callable[..., Trainer], new_run: MakeRun
) -> None:
    whole = new_run("whole")
    run_training(tiny_trainer(), whole)
    run = new_run("killed")

    def kill_after_step_1(event: Event) -> None:
        if isinstance(event, StepDone):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_training(tiny_trainer(), run, report=kill_after_step_1)
    resumed = tiny_trainer()
    with torch.no_grad():  # a resumed run does not get the --init again
        resumed.adapter.projection.linear.weight.zero_()
    run_training(resumed, run)
    assert logged(run) == logged(whole)
    assert run.result.read_bytes() == whole.result.read_bytes()


def test_a_run_does_not_resume_with_other_data(
    tiny_trainer: Callable[..., Trainer], new_run: MakeRun, train_until: TrainUntil
) -> None:
    run = new_run("run")
    train_until(run, 2)
    with pytest.raises(UsageError, match="the data of 'people' changed"):
        run_training(tiny_trainer(), run, fingerprints=FINGERPRINTS | {"the data of 'people'": "d2"})


@pytest.mark.parametrize(
    ("name", "error"),
    [("state.json", DataError), ("state.safetensors", DataError), ("projection.safetensors", BundleError)],
)
def test_a_damaged_checkpoint_is_an_error(
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
        run_training(tiny_trainer(), run)


def test_a_changed_recipe_is_an_error_unless_forced(
    tiny_recipe: Callable[..., Recipe],
    tiny_trainer: Callable[..., Trainer],
    new_run: MakeRun,
    train_until: TrainUntil,
) -> None:
    run = new_run("run")
    train_until(run, 2)
    slower = tiny_recipe(learning_rate=0.005)
    with pytest.raises(UsageError, match=r"learning_rate 0.01 -> 0.005.*--force-recipe"):
        run_training(tiny_trainer(slower), run)
    events: list[Event] = []
    assert run_training(tiny_trainer(slower), run, force=True, report=events.append)
    (note,) = (event for event in events if isinstance(event, Note))
    assert "From step 2 on with changes: the recipe (learning_rate 0.01 -> 0.005)" in note.sentence
    assert {"sentence": note.sentence} in logged(run)


def test_the_best_checkpoint_is_kept_besides_the_newest(
    tiny_recipe: Callable[..., Recipe], tiny_trainer: Callable[..., Trainer], new_run: MakeRun
) -> None:
    recipe = tiny_recipe(checkpoint_every=1, validate_every=1, keep_checkpoints=1)
    trainer, run = tiny_trainer(recipe), new_run("run")
    losses = iter([9.0, 5.0, 1.0, 4.0, 3.0, 2.0, 2.5])
    trainer.validation_loss = lambda: next(losses)  # type: ignore[method-assign]
    run_training(trainer, run)
    assert [folder.name for folder in run.checkpoints] == ["2", "6"]


def test_a_full_disk_ends_the_run_and_keeps_the_last_checkpoint(
    tiny_trainer: Callable[..., Trainer], new_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, run = new_run("whole"), new_run("full")
    run_training(tiny_trainer(), whole)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def fill_the_disk(event: Event) -> None:
        if event == CheckpointSaved(2):
            monkeypatch.setattr("minigpt4.train.checkpoint.save_adapter", full)

    with pytest.raises(TrainingError, match=r"step 4 .*No space left.*step 2 is whole.*--resume"):
        run_training(tiny_trainer(), run, report=fill_the_disk)
    assert {folder.name for folder in run.checkpoints_folder.iterdir()} == {"0", "2"}
    monkeypatch.undo()
    assert run_training(tiny_trainer(), run)
    assert logged(run) == logged(whole)
    assert run.result.read_bytes() == whole.result.read_bytes()


def test_a_log_that_cannot_be_written_is_an_error(
    tiny_trainer: Callable[..., Trainer], new_run: MakeRun
) -> None:
    run = new_run("run")
    run.log_file.mkdir()
    with pytest.raises((TrainingError, OSError), match=r"log\.jsonl"):
        run_training(tiny_trainer(), run)


def test_skipped_photos_are_logged(tiny_trainer: Callable[..., Trainer], new_run: MakeRun) -> None:
    trainer, run = tiny_trainer(), new_run("run")
    mine, its = Skipped("people", "people-3", "broken JPEG", 1), Skipped("cats", "cat-1", "not a picture", 2)
    step = trainer.step

    def with_bad_photos(number: int) -> StepDone:
        done = step(number)
        trainer.skipped = (mine,) if number == 1 else ()
        return replace(done, left_out=2 if number == 1 else 0)

    class WithAnother(ProcessGroup):
        """As if a second process had skipped a photo too."""

        def all_gather(self, items: Sequence[Any]) -> list[Any]:
            return [*items, its]

    trainer.process_group = WithAnother()
    trainer.step = with_bad_photos  # type: ignore[method-assign]
    events: list[Event] = []
    run_training(trainer, run, report=events.append)
    named = [event for event in events if isinstance(event, PhotoSkipped)]
    assert named == [PhotoSkipped(one.source, one.key, one.reason) for one in (mine, its)]
    assert [row for row in logged(run) if "reason" in row] == [
        {"step": 2, "source": one.source, "key": one.key, "reason": one.reason} for one in (mine, its)
    ]


def test_too_many_skipped_photos_end_the_run(
    tiny_recipe: Callable[..., Recipe], tiny_trainer: Callable[..., Trainer], new_run: MakeRun
) -> None:
    trainer, run = tiny_trainer(tiny_recipe(steps=40, bad_share=0.1)), new_run("run")
    step = trainer.step

    def with_bad_photos(number: int) -> StepDone:
        return replace(step(number), left_out=1)

    trainer.step = with_bad_photos  # type: ignore[method-assign]
    with pytest.raises(TrainingError, match=r"9 of 18 photos .*'bad_share' allows.*log.jsonl"):
        run_training(trainer, run)
