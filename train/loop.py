"""The training loop: AdamW on the projection alone, with a linear warm-up and a cosine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise
from random import Random

import torch

from minigpt4.core.errors import DataError, Minigpt4Error
from minigpt4.core.projection import Projection, load_projection, save_projection
from minigpt4.train.checkpoint import PROJECTION, RunFolder, load_checkpoint, save_checkpoint
from minigpt4.train.data import Curriculum, SourceData, Visit, batch_features, drop_features, lessons
from minigpt4.train.events import Report, Saved, StepDone, TrainingBegun, Validated
from minigpt4.train.objective import Branch, ChatLayout, Objective
from minigpt4.train.recipe import Recipe

VALIDATION_BATCH = 16

GROUPS = 4
"""How many groups a step's rows part into. The same for any number of threads, so that the sums, and
with them the losses, are; more than the threads, so that one that is done early takes another group."""

ROW_OVERHEAD = 25
"""What a row costs besides its answers, in tokens: the picture's vectors and the question."""


class TrainingError(Minigpt4Error):
    """Training cannot go on."""


def learning_rate_at(step: int, recipe: Recipe) -> float:
    """The learning rate of a step (from 0): a line up to the peak, then a cosine down to the floor."""
    peak, floor = recipe.learning_rate, recipe.final_learning_rate
    if step < recipe.warmup_steps:
        return peak * (step + 1) / recipe.warmup_steps
    progress = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))


@dataclass(frozen=True, eq=False)
class Lessons:
    """What is learnt from and what is measured: photos with features, source by source."""

    sources: Sequence[SourceData]
    validation: SourceData


class Trainer:
    """One run's projection and optimiser, and how they take a step."""

    def __init__(
        self,
        recipe: Recipe,
        projection: Projection,
        objective: Objective,
        layout: ChatLayout,
        lessons: Lessons,
        *,
        feature_columns: slice,
        threads: int = 1,
    ) -> None:
        """`threads` is how many of a step's groups pass through the language model at a time.

        `feature_columns` are those of the tower's features, the ones that dropout drops.
        """
        self._pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        self.recipe = recipe
        self.projection = projection.requires_grad_(True)
        self._objective = objective
        self._feature_columns = feature_columns
        self._layout = layout
        self._sources = lessons.sources
        self._validation = lessons.validation
        self._curriculum = Curriculum(recipe, [source.photos for source in lessons.sources])
        self._validation_visits = _validation_visits(recipe, lessons.validation)
        linear = projection.linear
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [linear.weight], "weight_decay": recipe.weight_decay},
                {"params": [linear.bias], "weight_decay": 0.0},
            ],
            betas=(recipe.beta1, recipe.beta2),
        )

    @property
    def photos(self) -> int:
        """How many photos there are to learn from."""
        return sum(len(source.photos) for source in self._sources)

    def step(self, number: int) -> StepDone:
        """Make step `number` (from 0); raises TrainingError where the loss is no number any more."""
        begun = time.perf_counter()
        recipe = self.recipe
        first = number * recipe.photos_per_step
        visits = [self._curriculum.visit(first + place) for place in range(recipe.photos_per_step)]
        loss, label_tokens = self._add_gradients(visits)
        lr = learning_rate_at(number, recipe)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        limit = recipe.gradient_clip or math.inf
        grad_norm = float(torch.nn.utils.clip_grad_norm_(self.projection.parameters(), limit))
        if not math.isfinite(loss) or not math.isfinite(grad_norm):
            raise TrainingError(
                f"Training has diverged: at step {number + 1} the loss is {loss:g} and the gradient's "
                f"norm {grad_norm:g}. Begin again with a 'learning_rate' below {recipe.learning_rate:g}."
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        return StepDone(
            step=number + 1,
            loss=loss,
            lr=lr,
            grad_norm=grad_norm,
            samples_per_s=len(visits) / (time.perf_counter() - begun),
            label_tokens=label_tokens,
        )

    def validation_loss(self) -> float:
        """The loss per label token on the validation photos, asked the same in every measurement."""

        def measure(visits: Sequence[Visit]) -> tuple[float, int]:
            with torch.no_grad():  # holds for one thread
                image_BND = self.projection(batch_features(visits, [self._validation]))
                loss, tokens = self._objective(image_BND, [self._branches(visit) for visit in visits])
            return loss.item() * tokens, tokens

        visits = self._validation_visits
        batches = [visits[at : at + VALIDATION_BATCH] for at in range(0, len(visits), VALIDATION_BATCH)]
        measured = list(self._pool.map(measure, batches))
        return sum(loss for loss, _ in measured) / sum(tokens for _, tokens in measured)

    def _add_gradients(self, visits: Sequence[Visit]) -> tuple[float, int]:
        """The batch's mean loss over its label tokens and their number, its gradients left in place.

        Rows of like length go together, because a photo of which only a class is known takes a third
        of the tokens of one with five captions. The groups pass through the language model side by
        side, one thread each. Two threads on every operation are nearly as fast on two idle cores (8.6
        photos/s against 9.1), but where another program wants a core they wait for each other at
        every operation (0.9 against 5).
        """
        rows = [self._branches(visit) for visit in visits]
        labels = [sum(len(branch.answer) for branch in row) for row in rows]
        features_BND = batch_features(visits, self._sources)
        drop_features(features_BND, visits, self.recipe, self._feature_columns)
        image_BND = self.projection(features_BND)
        gradients = torch.zeros_like(image_BND)

        def learn(group: list[int]) -> float:
            vectors = image_BND[group].detach().requires_grad_()
            mean, tokens = self._objective(vectors, [rows[place] for place in group])
            share = mean * (tokens / sum(labels))
            share.backward()  # type: ignore[no-untyped-call]
            assert vectors.grad is not None
            gradients[group] = vectors.grad
            return share.item()

        # The longest rows first: begun last, they would keep one thread waiting for the other.
        losses = list(self._pool.map(learn, reversed(groups_of_like_length(labels, GROUPS))))
        image_BND.backward(gradients)
        return sum(losses), sum(labels)

    def _branches(self, visit: Visit) -> list[Branch]:
        return [self._layout.branch(question, answer) for question, answer in visit.asked]


def groups_of_like_length(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Places 0..n-1 in up to `most` groups, so that the costliest is as cheap as can be.

    A row costs as much as the longest of its group and ROW_OVERHEAD. Groups are runs of the rows in
    order of length, found by trying, for each number of groups, every place for the last cut.
    """
    order = sorted(range(len(lengths)), key=lambda place: lengths[place])

    def cost(begin: int, end: int) -> int:
        return (end - begin) * (lengths[order[end - 1]] + ROW_OVERHEAD)

    # For each end: the cost of the costliest group of the first `end` rows, and where they are cut.
    best = [(0, [0])] + [(cost(0, end), [0, end]) for end in range(1, len(order) + 1)]
    for _ in range(min(most, len(order)) - 1):
        best = best[:1] + [
            min(
                [best[end]]
                + [(max(best[cut][0], cost(cut, end)), [*best[cut][1], end]) for cut in range(1, end)]
            )
            for end in range(1, len(order) + 1)
        ]
    cuts = best[-1][1]
    return [order[begin:end] for begin, end in pairwise(cuts)]


def _validation_visits(recipe: Recipe, validation: SourceData) -> list[Visit]:
    photos = [place for place, photo in enumerate(validation.photos) if photo][: recipe.validation.photos]
    if not photos:
        raise DataError(
            f"The validation folder '{recipe.validation.name}' holds no photo with a caption to measure."
        )
    return [
        Visit(0, place, 0, tuple(lessons(validation.photos[place], recipe, Random(f"validation/{place}"))))
        for place in photos
    ]


def run_training(
    trainer: Trainer,
    run: RunFolder,
    *,
    facts: Mapping[str, object],
    report: Report = lambda _event: None,
    is_stopping: Callable[[], bool] = lambda: False,
) -> bool:
    """Train from the newest checkpoint, or from the start, to the recipe's last step; whether it got there.

    `is_stopping` is asked after every step; if it holds, a checkpoint is written and training ends.
    """
    recipe = trainer.recipe
    begun = _restore(trainer, run, facts)
    report(TrainingBegun(begun + 1, recipe.steps, trainer.photos))
    if begun == 0:
        _validate(trainer, run, 0, report)
    for number in range(begun, recipe.steps):
        done = trainer.step(number)
        run.append(asdict(done))
        report(done)
        is_last = done.step == recipe.steps
        if is_last or done.step % recipe.validate_every == 0:
            _validate(trainer, run, done.step, report)
        stopped = is_stopping() and not is_last
        if is_last or stopped or done.step % recipe.checkpoint_every == 0:
            save_checkpoint(run, done.step, trainer.projection, trainer.optimizer, facts)
            report(Saved(done.step))
        if stopped:
            return False
    save_projection(run.result, _result(trainer, run), torch.float16)
    return True


def _result(trainer: Trainer, run: RunFolder) -> Projection:
    """The mean of the last checkpoints, with the recipe's share of what the run began with."""
    recipe = trainer.recipe
    ends = [folder / PROJECTION for folder in run.checkpoints[-recipe.averaged_checkpoints :]]
    shares = {end: (1 - recipe.start_share) / len(ends) for end in ends}
    if recipe.start_share:
        shares[run.start] = recipe.start_share
    shape = trainer.projection.inputs, trainer.projection.outputs, trainer.projection.layers
    mean = Projection(*shape)
    with torch.no_grad():
        for parameter in mean.parameters():
            parameter.zero_()
        for path, share in shares.items():
            for parameter, value in zip(
                mean.parameters(), load_projection(path, *shape).parameters(), strict=True
            ):
                parameter.add_(value, alpha=share)
    return mean


def _restore(trainer: Trainer, run: RunFolder, facts: Mapping[str, object]) -> int:
    if not run.checkpoints:
        if trainer.recipe.start_share:
            save_projection(run.start, trainer.projection)
        # A run that is killed early must go on from the weights that it began with, which may be
        # those of an --init that nobody gives again.
        save_checkpoint(run, 0, trainer.projection, trainer.optimizer, facts)
    step = load_checkpoint(run.checkpoints[-1], trainer.projection, trainer.optimizer, facts)
    run.forget_after(step if step else -1)
    return step


def _validate(trainer: Trainer, run: RunFolder, step: int, report: Report) -> None:
    measured = Validated(step, trainer.validation_loss())
    run.append(asdict(measured))
    report(measured)
