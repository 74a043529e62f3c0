"""The training loop: from the last checkpoint, or the first step, to the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict

import torch

from minigpt4.core.errors import UsageError
from minigpt4.core.projection import save_projection
from minigpt4.core.storage.atomic import replacing
from minigpt4.train.adapter import average_adapters, save_adapter
from minigpt4.train.checkpoint import changes_since, load_checkpoint, save_checkpoint
from minigpt4.train.errors import TrainingError
from minigpt4.train.events import (
    AnswersSampled,
    CheckpointSaved,
    Note,
    PhotoSkipped,
    Report,
    StepDone,
    TrainingStarted,
    Validated,
)
from minigpt4.train.run.folder import RunFolder
from minigpt4.train.run.log import sample_picture
from minigpt4.train.trainer import Trainer


class Run:
    """A training run: its trainer and its folder. Only rank 0 writes to the folder and reports events."""

    def __init__(
        self,
        trainer: Trainer,
        folder: RunFolder,
        *,
        fingerprints: Mapping[str, str],
        places: Mapping[str, str],
        report: Report = lambda _event: None,
        is_stopping: Callable[[], bool] = lambda: False,
        force: bool = False,
    ) -> None:
        """`places` is where each source is, for the next resume. `is_stopping` is called after every step.

        With `force`, changed `fingerprints` are accepted.
        """
        self._trainer = trainer
        self._folder = folder
        self._fingerprints = fingerprints
        self._places = places
        self._is_writer = trainer.process_group.rank == 0
        self._report = report if self._is_writer else lambda _event: None
        self._is_stopping = is_stopping
        self._force = force
        self._samples = 0
        self._skipped = 0

    def train(self, photos: int) -> bool:
        """Train to the recipe's last step; False if stopped earlier, with a checkpoint saved.

        `photos` is the number of training photos. Raises TrainingError if training cannot continue,
        UsageError if recipe or fingerprints differ from the run's checkpoint.
        """
        trainer, recipe = self._trainer, self._trainer.recipe
        first = self._restore()
        self._report(TrainingStarted(first + 1, recipe.steps, photos))
        if self._is_writer:
            self._write_sample_photos()
        if first == 0:
            self._validate(0)
        for number in range(first, recipe.steps):
            done = trainer.step(number)
            self._record(done)
            self._check_skipped(done)
            is_last = done.step == recipe.steps
            val_loss = None
            if is_last or done.step % recipe.validate_every == 0:
                val_loss = self._validate(done.step)
            is_sampled = recipe.sample_every and (is_last or done.step % recipe.sample_every == 0)
            if is_sampled and self._is_writer:
                self._record(AnswersSampled(done.step, trainer.answers()))
            stops = self._any_process_stops() and not is_last
            if is_last or stops or done.step % recipe.checkpoint_every == 0:
                self._save(done.step, val_loss)
            if stops:
                return False
        self._write_result()
        return True

    def _restore(self) -> int:
        """Load the newest checkpoint, which rank 0 writes first in a new run; returns its step."""
        folder, trainer = self._folder, self._trainer
        if self._is_writer and not folder.checkpoints:
            if trainer.recipe.start_share:
                folder.start.mkdir(exist_ok=True)
                save_adapter(folder.start, trainer.adapter)
            # A run that is killed early must resume from its initial weights, which may come from an --init
            # that is not given again.
            save_checkpoint(folder, 0, trainer, self._fingerprints)
        trainer.process_group.barrier()
        newest = folder.checkpoints[-1]
        changes = changes_since(newest, trainer.recipe, self._fingerprints)
        if changes and not self._force:
            raise UsageError(
                f"The run cannot resume exactly: since the checkpoint {newest} {', '.join(changes)} changed. "
                "Undo the change, begin a new run, or accept it with --force-recipe."
            )
        step = load_checkpoint(newest, trainer).step
        if self._is_writer:
            folder.truncate_log(step if step else -1)
            folder.write_places(self._places)
            if changes:
                self._record(Note(f"From step {step} on with changes: {', '.join(changes)}."))
        trainer.process_group.barrier()
        return step

    def _write_sample_photos(self) -> None:
        """Copy the sampled photos for `watch`, as the data may have moved by then."""
        if self._trainer.sample_answers is None:
            return
        for key, photo in self._trainer.sample_answers.images.items():
            with replacing(sample_picture(self._folder.path, key)) as draft:
                draft.write_bytes(photo)

    def _record(self, event: StepDone | Validated | AnswersSampled | Note) -> None:
        """Log and report an event."""
        self._log(asdict(event))
        self._report(event)

    def _check_skipped(self, done: StepDone) -> None:
        """Log the samples that were skipped in any process; too many of them end the run."""
        recipe, trainer = self._trainer.recipe, self._trainer
        for one in trainer.process_group.all_gather(trainer.skipped) if done.left_out else ():
            event = PhotoSkipped(one.source, one.key, one.reason)
            self._log({"step": done.step, **asdict(event)})
            self._report(event)
        self._samples += recipe.batch_size
        self._skipped += done.left_out
        if not recipe.allows_skipped(self._skipped, self._samples):
            raise TrainingError(
                f"{self._skipped} of {self._samples} photos were skipped, above the fraction of "
                f"{recipe.bad_share:g} that 'bad_share' allows; the log {self._folder.log_file} names them. "
                "Repair the data (`minigpt4 data inspect` shows more), or raise bad_share."
            )

    def _validate(self, step: int) -> float:
        event = Validated(step, self._trainer.validation_loss())
        self._record(event)
        return event.val_loss

    def _any_process_stops(self) -> bool:
        """Whether any process received a stop request: all of them end after the same step."""
        stopping = torch.tensor([float(self._is_stopping())], device=self._trainer.process_group.device)
        self._trainer.process_group.all_reduce(stopping)
        return bool(stopping.item())

    def _save(self, step: int, val_loss: float | None) -> None:
        if self._is_writer:
            save_checkpoint(self._folder, step, self._trainer, self._fingerprints, val_loss)
        self._report(CheckpointSaved(step))

    def _log(self, row: Mapping[str, object]) -> None:
        if not self._is_writer:
            return
        try:
            self._folder.append(row)
        except OSError as error:
            raise TrainingError(
                f"The log {self._folder.log_file} cannot be written ({error.strerror or error}); free some "
                "space, then continue with --resume."
            ) from error

    def _write_result(self) -> None:
        """Write the result: the mean of the last checkpoints, mixed with the start by `start_share`."""
        if self._is_writer:
            recipe, folder = self._trainer.recipe, self._folder
            last = folder.checkpoints[-recipe.averaged_checkpoints :]
            weights = {checkpoint: (1 - recipe.start_share) / len(last) for checkpoint in last}
            if recipe.start_share:
                weights[folder.start] = recipe.start_share
            result = average_adapters(self._trainer.adapter, weights)
            if result.qformer is not None:
                save_adapter(folder.path, result)
            save_projection(folder.result, result.projection, torch.float16)
        self._trainer.process_group.barrier()
