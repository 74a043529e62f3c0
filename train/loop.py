"""A run from its last checkpoint, or its first step, to its end: log, validation, answers, checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict

import torch

from minigpt4.core.atomic import replacing
from minigpt4.core.projection import save_projection
from minigpt4.train.errors import TrainingError
from minigpt4.train.events import (
    Note,
    PhotoLeftOut,
    Report,
    Sampled,
    Saved,
    StepDone,
    TrainingBegun,
    Validated,
)
from minigpt4.train.run.checkpoint import changes_since, load_checkpoint, require_unchanged, save_checkpoint
from minigpt4.train.run.folder import RunFolder
from minigpt4.train.run.log import sample_picture
from minigpt4.train.trainable import mean_of_parts, save_part
from minigpt4.train.trainer import Trainer


class Run:
    """One training run at work: its trainer and its folder."""

    def __init__(
        self,
        trainer: Trainer,
        folder: RunFolder,
        *,
        facts: Mapping[str, str],
        report: Report = lambda _event: None,
        is_stopping: Callable[[], bool] = lambda: False,
        force: bool = False,
        sample_photos: Mapping[str, bytes] | None = None,
    ) -> None:
        """`sample_photos` are the pictures, encoded, of those that `trainer` answers about, by key.

        `is_stopping` is asked after every step; with `force` changed `facts` do not matter.
        """
        self._trainer = trainer
        self._folder = folder
        self._facts = facts
        self._report = report if trainer.world.rank == 0 else lambda _event: None
        self._is_stopping = is_stopping
        self._force = force
        self._sample_photos = sample_photos or {}
        self._seen = 0
        self._left_out = 0

    def train(self, photos: int) -> bool:
        """Train to the recipe's last step; whether it got there, or was told to stop and has been saved.

        `photos` is how many there are to learn from. Raises TrainingError where training cannot go on,
        UsageError where the run is not the one that was begun.
        """
        trainer, recipe = self._trainer, self._trainer.recipe
        begun = self._restore()
        self._report(TrainingBegun(begun + 1, recipe.steps, photos))
        if self._writes:
            self._keep_sample_photos()
        if begun == 0:
            self._validate(0)
        for number in range(begun, recipe.steps):
            done = trainer.step(number)
            self._keep(done)
            self._check_left_out(done)
            is_last = done.step == recipe.steps
            loss = None
            if is_last or done.step % recipe.validate_every == 0:
                loss = self._validate(done.step)
            if recipe.sample_every and (is_last or done.step % recipe.sample_every == 0):
                self._sample(done.step)
            stops = self._somebody_stops() and not is_last
            if is_last or stops or done.step % recipe.checkpoint_every == 0:
                self._save(done.step, loss)
            if stops:
                return False
        self._finish()
        return True

    # Rank 0 writes, and all read what it has written.

    @property
    def _writes(self) -> bool:
        return self._trainer.world.rank == 0

    def _restore(self) -> int:
        """Where to begin: the step of the newest checkpoint."""
        folder, trainer = self._folder, self._trainer
        if self._writes and not folder.checkpoints:
            if trainer.recipe.start_share:
                folder.start.mkdir(exist_ok=True)
                save_part(folder.start, trainer.part)
            # A run that is killed early must go on from the weights that it began with, which may be
            # those of an --init that nobody gives again.
            save_checkpoint(folder, 0, trainer, self._facts)
        trainer.world.barrier()
        newest = folder.checkpoints[-1]
        changes = changes_since(newest, trainer.recipe, self._facts)
        if not self._force:
            require_unchanged(newest, changes)
        step = load_checkpoint(newest, trainer).step
        if self._writes:
            folder.forget_after(step if step else -1)
            if changes:
                self._note(f"From step {step} on with changes: {', '.join(changes)}.")
        trainer.world.barrier()
        return step

    def _keep_sample_photos(self) -> None:
        """For whoever watches: the data may be elsewhere by then."""
        for key, picture in self._sample_photos.items():
            with replacing(sample_picture(self._folder.path, key)) as draft:
                draft.write_bytes(picture)

    def _keep(self, done: StepDone) -> None:
        if self._writes:
            self._log(asdict(done))
        self._report(done)

    def _check_left_out(self, done: StepDone) -> None:
        """Name the photos that could not be learnt from; too many of them end the run."""
        recipe, trainer = self._trainer.recipe, self._trainer
        for one in trainer.world.gather(trainer.left_out) if done.left_out else ():
            event = PhotoLeftOut(one.source, one.key, one.reason)
            if self._writes:
                self._log({"step": done.step, **asdict(event)})
            self._report(event)
        self._seen += recipe.batch_size
        self._left_out += done.left_out
        # A single bad photo among the first few says nothing yet.
        if self._left_out > max(recipe.bad_share * self._seen, 8):
            raise TrainingError(
                f"{self._left_out} of {self._seen} photos could not be learnt from, above the share of "
                f"{recipe.bad_share:g} that 'bad_share' allows; the log {self._folder.log_file} names them. "
                "Mend the data (`minigpt4 data inspect` tells more), or raise bad_share."
            )

    def _validate(self, step: int) -> float:
        measured = Validated(step, self._trainer.validation_loss())
        if self._writes:
            self._log(asdict(measured))
        self._report(measured)
        return measured.val_loss

    def _sample(self, step: int) -> None:
        if self._writes:
            sampled = Sampled(step, self._trainer.answers())
            self._log(asdict(sampled))
            self._report(sampled)

    def _somebody_stops(self) -> bool:
        """Whether any of the processes has been told to stop: all of them end after the same step."""
        told = torch.tensor([float(self._is_stopping())], device=self._trainer.world.device)
        self._trainer.world.all_reduce(told)
        return bool(told.item())

    def _save(self, step: int, loss: float | None) -> None:
        if self._writes:
            save_checkpoint(self._folder, step, self._trainer, self._facts, loss)
        self._report(Saved(step))

    def _note(self, sentence: str) -> None:
        self._log(asdict(Note(sentence)))
        self._report(Note(sentence))

    def _log(self, row: Mapping[str, object]) -> None:
        try:
            self._folder.append(row)
        except OSError as error:
            raise TrainingError(
                f"The log {self._folder.log_file} cannot be written ({error.strerror or error}); make room, "
                "then go on with --resume."
            ) from error

    def _finish(self) -> None:
        """Write the result: the mean of the last checkpoints, with the recipe's share of the start."""
        if self._writes:
            recipe, folder = self._trainer.recipe, self._folder
            ends = folder.checkpoints[-recipe.averaged_checkpoints :]
            shares = {end: (1 - recipe.start_share) / len(ends) for end in ends}
            if recipe.start_share:
                shares[folder.start] = recipe.start_share
            result = mean_of_parts(self._trainer.part, shares)
            if result.qformer is not None:
                save_part(folder.path, result)
            save_projection(folder.result, result.projection, torch.float16)
        self._trainer.world.barrier()
