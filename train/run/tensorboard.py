"""A run's figures for TensorBoard, in the run's own folder: RUN/tensorboard.

The package tensorboard is optional, and this the one place that needs it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from minigpt4.core.errors import UsageError
from minigpt4.train.errors import TrainingError
from minigpt4.train.events import Event, Note, Report, Sampled, StepDone, TrainingBegun, Validated

FOLDER = "tensorboard"


@contextmanager
def writing_to(run: Path) -> Iterator[Report]:
    """Write what the run tells while the block runs; nothing is written before training begins.

    A run that is resumed takes back what was written of later steps. Raises UsageError where the
    package is missing; what is given raises TrainingError where the disk is full or cannot be written.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise UsageError(
            "--tensorboard needs the package tensorboard; install it with `pip install tensorboard`, or "
            "leave --tensorboard out."
        )
    figures = Figures(run / FOLDER)
    try:
        yield figures.take
    finally:
        figures.close()


class Figures:
    """A run's events as scalars and texts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None
        self._step = 0

    def take(self, event: Event) -> None:
        """Write one event; those before the first step are about this machine, and left out."""
        try:
            if isinstance(event, TrainingBegun):
                self._begin(event.first)
            elif self._writer is not None:
                self._write(event)
        except OSError as error:
            reason = error.strerror or error
            raise TrainingError(
                f"The figures for TensorBoard cannot be written to {self._folder} ({reason}); make room, "
                "then go on with --resume, or without --tensorboard."
            ) from error

    def close(self) -> None:
        """Write what is left. A disk that is full has been told of, or will be by the run's own log."""
        if self._writer is not None:
            with suppress(OSError):
                self._writer.close()

    def _begin(self, first: int) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        self._step = first - 1
        self._writer = SummaryWriter(self._folder, purge_step=first if first > 1 else None)

    def _write(self, event: Event) -> None:
        match event:
            case StepDone(step):
                self._step = step
                for name, value in _scalars(event).items():
                    self._writer.add_scalar(name, value, step)
            case Validated(step, val_loss):
                self._writer.add_scalar("loss/validation", val_loss, step)
            case Sampled(step, answers):
                for one in answers:
                    self._writer.add_text(f"answers/{one.key}", _indented(one.question, one.answer), step)
            case Note(sentence):
                self._writer.add_text("notes", _indented(sentence), self._step)


def _scalars(done: StepDone) -> dict[str, float]:
    scalars = {
        "loss/training": done.loss,
        "learning rate": done.lr,
        "gradient norm": done.grad_norm,
        "speed/photos per second": done.samples_per_s,
        "speed/share of time waiting for photos": done.data_wait,
        "memory/bytes": float(done.memory),
        "photos left out": float(done.left_out),
    }
    return scalars | ({"speed/MFU": done.mfu} if done.mfu is not None else {})


def _indented(*texts: str) -> str:
    """As code is indented in Markdown, which TensorBoard reads: what a model says is no markup."""
    return "\n\n".join("\n".join(f"    {line}" for line in text.splitlines()) for text in texts)
