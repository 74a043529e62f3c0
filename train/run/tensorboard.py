"""TensorBoard logging of a run, to RUN/tensorboard.

The package tensorboard is optional; only this module needs it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from minigpt4.core.errors import UsageError
from minigpt4.train.errors import TrainingError
from minigpt4.train.events import AnswersSampled, Event, Note, Report, StepDone, TrainingStarted, Validated

FOLDER = "tensorboard"


@contextmanager
def tensorboard_writer(run: Path) -> Iterator[Report]:
    """A callback that writes events to TensorBoard; nothing is written before training starts.

    A resumed run purges later steps. Raises UsageError if the package is missing; the callback raises
    TrainingError if the disk is full or read-only.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise UsageError(
            "--tensorboard needs the package tensorboard; install it with `pip install tensorboard`, or "
            "omit --tensorboard."
        )
    with closing(EventWriter(run / FOLDER)) as writer:
        yield writer.write


class EventWriter:
    """Writes a run's events as scalars and texts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None
        self._step = 0

    def write(self, event: Event) -> None:
        """Write one event; those before the first step concern this machine only and are skipped."""
        try:
            if isinstance(event, TrainingStarted):
                from torch.utils.tensorboard.writer import SummaryWriter

                self._step = event.first - 1
                self._writer = SummaryWriter(self._folder, purge_step=event.first if self._step else None)
            elif self._writer is not None:
                self._write(event)
        except OSError as error:
            reason = error.strerror or error
            raise TrainingError(
                f"TensorBoard's log cannot be written to {self._folder} ({reason}); free some space, "
                "then continue with --resume, or without --tensorboard."
            ) from error

    def close(self) -> None:
        """Flush. A full disk has been reported already, or will be by the run's own log."""
        if self._writer is not None:
            with suppress(OSError):
                self._writer.close()

    def _write(self, event: Event) -> None:
        match event:
            case StepDone(step):
                self._step = step
                for name, value in _scalars(event).items():
                    self._writer.add_scalar(name, value, step)
            case Validated(step, val_loss):
                self._writer.add_scalar("loss/validation", val_loss, step)
            case AnswersSampled(step, answers):
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
    """Indented as a code block, because TensorBoard renders Markdown and answers are not markup."""
    return "\n\n".join("\n".join(f"    {line}" for line in text.splitlines()) for text in texts)
