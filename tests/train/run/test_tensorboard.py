"""TensorBoard: what it logs, and the errors without the package or a writable folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from minigpt4.core.errors import UsageError
from minigpt4.train.errors import TrainingError
from minigpt4.train.events import (
    Answer,
    AnswersSampled,
    ModelLoading,
    Note,
    StepDone,
    TrainingStarted,
    Validated,
)
from minigpt4.train.run.tensorboard import FOLDER, tensorboard_writer


def done(step: int, loss: float) -> StepDone:
    return StepDone(step, loss, 0.001, 0.5, 12.0, 640, mfu=0.25)


def read(run: Path) -> Any:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(run / FOLDER))
    found.Reload()
    return found


def scalars(run: Path, name: str) -> list[tuple[int, float]]:
    return [(one.step, pytest.approx(one.value)) for one in read(run).Scalars(name)]


def test_tensorboard_shows_the_losses_figures_and_answers_of_a_run(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with tensorboard_writer(tmp_path) as report:
        report(ModelLoading())
        report(TrainingStarted(1, 2, 100))
        report(Validated(0, 4.0))
        report(done(1, 3.5))
        report(done(2, 3.25))
        report(AnswersSampled(2, (Answer("dog.jpg", "What is it?", "A *dog*."),)))
        report(Note("Something happened."))
    assert scalars(tmp_path, "loss/training") == [(1, 3.5), (2, 3.25)]
    assert scalars(tmp_path, "loss/validation") == [(0, 4.0)]
    assert scalars(tmp_path, "speed/MFU") == [(1, 0.25), (2, 0.25)]
    (answer,) = read(tmp_path).Tensors("answers/dog.jpg/text_summary")
    assert b"    A *dog*." in answer.tensor_proto.string_val[0]
    assert answer.step == 2


def test_a_resumed_run_purges_later_steps(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with tensorboard_writer(tmp_path) as report:
        report(TrainingStarted(1, 9, 100))
        for step in range(1, 5):
            report(done(step, 9.0))
    with tensorboard_writer(tmp_path) as report:
        report(TrainingStarted(3, 9, 100))
        report(done(3, 1.0))
    assert scalars(tmp_path, "loss/training") == [(1, 9.0), (2, 9.0), (3, 1.0)]


def test_nothing_is_written_before_training_begins(tmp_path: Path) -> None:
    """A new run's folder must be empty when the run begins in it."""
    pytest.importorskip("tensorboard")
    with tensorboard_writer(tmp_path) as report:
        report(ModelLoading())
        assert list(tmp_path.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named_with_the_way_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UsageError, match="pip install tensorboard"), tensorboard_writer(tmp_path):
        pass


def test_a_folder_that_cannot_be_written_stops_the_run_with_a_sentence(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / FOLDER).write_text("a file where the folder should be")
    with (
        tensorboard_writer(tmp_path) as report,
        pytest.raises(TrainingError, match=r"cannot be written to .* --resume"),
    ):
        report(TrainingStarted(1, 2, 100))
