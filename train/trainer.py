"""One training step, for mini on a laptop's processor and for MiniGPT-4 on many GPUs alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from minigpt4.core.memory import most_held
from minigpt4.core.vision.base import VisionTower
from minigpt4.core.weights.bnb_quantize import QUANTS
from minigpt4.train.batches.samples import Batch, Batches, LeftOut, Visit, drop_features
from minigpt4.train.distributed.process_group import Alone, World
from minigpt4.train.errors import TrainingError
from minigpt4.train.estimate.flops import Work
from minigpt4.train.estimate.mfu import Utilisation
from minigpt4.train.events import Answer, StepDone
from minigpt4.train.lr_schedule import learning_rate_at
from minigpt4.train.packing.loss import Objective, label_tokens
from minigpt4.train.packing.micro_batches import groups_of
from minigpt4.train.packing.pack import tree_length
from minigpt4.train.packing.sequence import Branch, Layout
from minigpt4.train.recipe import Recipe
from minigpt4.train.trainable import TrainedPart

A = TypeVar("A")
B = TypeVar("B")
Tree = list[Branch]
AnswersOf = Callable[[TrainedPart], tuple[Answer, ...]]

LEAST_SCALE = 1.0
"""Float16 that overflows even where the loss is not enlarged at all will not get better."""

STATE, SCALE, TRACKER = "optimizer.", "scaler.scale", "scaler.growth_tracker"


class Trainer:
    """One run's trained part and optimiser, and how they take a step.

    All processes of a `world` call the same methods in the same order. A step's loss is the mean over
    the label tokens of all its photos, however they are divided among processes and micro-batches.
    """

    def __init__(
        self,
        recipe: Recipe,
        part: TrainedPart,
        objective: Objective,
        layout: Layout,
        batches: Batches,
        *,
        validation: Callable[[], Iterable[Batch]],
        world: World | None = None,
        tower: VisionTower | None = None,
        feature_columns: slice = slice(0, 0),
        threads: int = 1,
        utilisation: Utilisation = lambda _work, _seconds: None,
        answers: AnswersOf | None = None,
    ) -> None:
        """`batches` and `validation` give this process's photos, the latter the same ones every time.

        `tower` is needed where they come as pixels. `feature_columns` are those of the features that
        dropout drops. `threads` are a CPU's, which take a step's groups side by side. `utilisation`
        tells from all processes' work and the seconds it took the share of their peak; `answers`
        are about a few fixed photos.
        """
        self.world: World = world or Alone()
        self.recipe = recipe
        self.part = part.to(self.world.device)
        self.objective = objective
        self.layout = layout
        self.batches = batches
        self.left_out: tuple[LeftOut, ...] = ()
        """Photos of this process's share of the last step that could not be learnt from."""

        self._validation = validation
        self._tower = tower
        self._feature_columns = feature_columns
        self._utilisation = utilisation
        self._answers = answers
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        self.optimizer = torch.optim.AdamW(
            part.groups(recipe.weight_decay), lr=recipe.warmup_rate, betas=(recipe.beta1, recipe.beta2)
        )
        self._scaler = torch.amp.GradScaler(self.world.device.type, enabled=recipe.precision == "fp16")
        # Made by its first use, which a process without a photo in the first step would lack.
        self._scaler.scale(torch.zeros((), device=self.world.device))

    def step(self, number: int) -> StepDone:
        """Make step `number` (from 0).

        Raises TrainingError where the loss is no number any more, no photo could be learnt from, or a
        GPU's memory ran out.
        """
        try:
            return self._step(number)
        except torch.OutOfMemoryError as error:
            raise TrainingError(self._too_much(number)) from error

    def _step(self, number: int) -> StepDone:
        begun = time.perf_counter()
        batch = self.batches.batch(number)
        self.left_out = batch.left_out
        trees = self.trees(batch.visits)
        work, left_out = self._all_work(batch, trees)
        if not work.label_tokens:
            reasons = " ".join(sorted({f"{one.key}: {one.reason}." for one in batch.left_out[:3]}))
            raise TrainingError(
                f"Nothing could be learnt in step {number + 1}: all its {left_out} photos were left out; "
                f"look at the data with `minigpt4 data inspect`. {reasons}".rstrip()
            )
        self._clear_gradients()
        share = self._add_gradients(batch, trees, work.label_tokens)
        lr = learning_rate_at(number, self.recipe)
        loss, grad_norm = self._move(number, self._summed(share), lr)
        seconds = time.perf_counter() - begun
        return StepDone(
            step=number + 1,
            loss=loss,
            lr=lr,
            grad_norm=grad_norm,
            samples_per_s=work.photos / seconds,
            label_tokens=work.label_tokens,
            data_wait=min(1.0, batch.waited / seconds),
            mfu=self._utilisation(work, seconds),
            memory=_most_memory(self.world.device),
            left_out=left_out,
        )

    def validation_loss(self) -> float:
        """The loss per label token on the validation photos, asked the same in every measurement."""
        measured = [(0.0, 0), *self._map(self._measured, self._validation())]
        sums = [sum(column) for column in zip(*measured, strict=True)]
        total = torch.tensor(sums, dtype=torch.float64, device=self.world.device)
        self.world.all_reduce(total)
        return float(total[0] / total[1].clamp(min=1))

    def loss_of(self, batch: Batch, most: int) -> float:
        """The loss per label token of a batch's first `most` visits; this process alone, nothing moves."""
        rows = slice(0, most)
        features_BND, pixels_BCHW = batch.features_BND, batch.pixels_BCHW
        first = Batch(
            batch.visits[rows],
            features_BND=None if features_BND is None else features_BND[rows],
            pixels_BCHW=None if pixels_BCHW is None else pixels_BCHW[rows],
        )
        loss, tokens = self._measured(first)
        return loss / max(1, tokens)

    def answers(self) -> tuple[Answer, ...]:
        """What the model says now about a few fixed photos; one process alone may ask."""
        return self._answers(self.part) if self._answers is not None else ()

    def trees(self, visits: Sequence[Visit]) -> list[Tree]:
        """What is asked and answered at each visit, as tokens."""
        return [[self.layout.branch(question, answer) for question, answer in one.asked] for one in visits]

    def state(self) -> dict[str, Tensor]:
        """Everything but the trained weights that the next step depends on, under names for a file."""
        tensors = {
            f"{STATE}{name}.{key}": value.detach().contiguous()
            for name, parameter in self.part.named_tensors().items()
            for key, value in self.optimizer.state[parameter].items()
        }
        if self._scaler.is_enabled():
            state = self._scaler.state_dict()
            tensors[SCALE] = torch.tensor(float(state["scale"]))
            tensors[TRACKER] = torch.tensor(int(state["_growth_tracker"]))
        return tensors

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put what `state` gave into place; raises KeyError naming what is missing of a part of it."""
        saved = [name for name in tensors if name.startswith(STATE)]
        for name, parameter in self.part.named_tensors().items():
            start = f"{STATE}{name}."
            found = {key.removeprefix(start): tensors[key] for key in saved if key.startswith(start)}
            if saved and not found:
                raise KeyError(f"the optimiser's state of '{name}' is missing")
            # AdamW counts its steps on the CPU; its moments lie where the weights are.
            self.optimizer.state[parameter] = {
                key: value.clone() if key == "step" else value.to(parameter.device, copy=True)
                for key, value in found.items()
            }
        if self._scaler.is_enabled() and SCALE in tensors:
            state = self._scaler.state_dict()
            state |= {"scale": tensors[SCALE].item(), "_growth_tracker": int(tensors[TRACKER].item())}
            self._scaler.load_state_dict(state)

    def _measured(self, batch: Batch) -> tuple[float, int]:
        """The summed loss of a batch, and over how many label tokens."""
        trees = self.trees(batch.visits)
        if not trees:
            return 0.0, 0
        with torch.no_grad():  # holds for one thread, which may be one of several
            image_BND = self.part(self._features(batch, range(len(trees))))
            return self.objective(image_BND, trees).item(), label_tokens(trees)

    def _all_work(self, batch: Batch, trees: Sequence[Tree]) -> tuple[Work, int]:
        """What all processes together compute in this step, and how many photos they had to leave out."""
        photos = len(batch.visits)
        positions = sum(map(tree_length, trees)) + photos * self._image_tokens(batch)
        looked_at = photos if batch.pixels_BCHW is not None else 0
        counts = torch.tensor(
            [photos, looked_at, positions, label_tokens(trees), len(batch.left_out)],
            dtype=torch.float64,
            device=self.world.device,
        )
        self.world.all_reduce(counts)
        *work, left_out = (int(count) for count in counts.tolist())
        return Work(*work), left_out

    def _clear_gradients(self) -> None:
        """Zeros, and not nothing: a process none of whose photos can be learnt from sums like the others."""
        for parameter in self.part.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            else:
                parameter.grad.zero_()

    def _add_gradients(self, batch: Batch, trees: Sequence[Tree], tokens: int) -> Tensor:
        """This process's share of the mean loss over `tokens` label tokens; its gradients are added up."""
        loss = torch.zeros((), device=self.world.device)
        size = self.recipe.micro_batch or len(trees)
        for begin in range(0, len(trees), max(1, size)):
            places = range(begin, min(begin + size, len(trees)))
            loss += self._learn(self._features(batch, places), [trees[place] for place in places], tokens)
        return loss

    def _learn(self, features_BND: Tensor, trees: Sequence[Tree], tokens: int) -> Tensor:
        """One micro-batch, its groups side by side where there are threads for them."""
        image_BND = self.part(features_BND)
        gradients = torch.zeros_like(image_BND)

        def learn(group: list[int]) -> Tensor:
            vectors = image_BND[group].detach().requires_grad_()
            share = self.objective(vectors, [trees[place] for place in group]) / tokens
            self._scaler.scale(share).backward()  # type: ignore[no-untyped-call]
            assert vectors.grad is not None
            gradients[group] = vectors.grad
            return share.detach()

        lengths = [tree_length(tree) + features_BND.shape[1] for tree in trees]
        whole = [list(range(len(trees)))]
        groups = groups_of(lengths, self._threads) if image_BND.device.type == "cpu" else whole
        losses = list(self._map(learn, groups))
        image_BND.backward(gradients)
        return torch.stack(losses).sum()

    def _features(self, batch: Batch, places: range) -> Tensor:
        """What the trained part reads of a micro-batch (B, N, D), float32, its dropout made."""
        rows, device = slice(places.start, places.stop), self.world.device
        if batch.features_BND is not None:
            features_BND = batch.features_BND[rows].to(device, torch.float32, copy=True)
        else:
            assert batch.pixels_BCHW is not None
            assert self._tower is not None
            pixels_BCHW = batch.pixels_BCHW[rows].to(device, non_blocking=True)
            # Autograd refuses what inference mode has made; a copy is none of it.
            features_BND = self._tower.encode(pixels_BCHW).clone()
        drop_features(features_BND, batch.visits[rows], self.recipe, self._feature_columns)
        return features_BND

    def _summed(self, loss: Tensor) -> Tensor:
        """The loss of all processes, and in place all their gradients summed."""
        if self.world.size == 1:
            return loss
        gradients = [parameter.grad for parameter in self.part.parameters() if parameter.grad is not None]
        # In one piece: latency, not 20 MB, is what a sum over machines costs.
        flat = torch.cat([*(gradient.flatten() for gradient in gradients), loss[None]])
        self.world.all_reduce(flat)
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, summed in zip(gradients, torch.split(flat[:-1], sizes), strict=True):
            gradient.copy_(summed.view_as(gradient))
        return flat[-1]

    def _move(self, number: int, loss: Tensor, lr: float) -> tuple[float, float]:
        """The optimiser's step; the loss, and the gradient's norm before it was clipped.

        The norm is 0 where float16 overflowed: that step moves nothing, and the next is scaled less.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self._scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.part.parameters(), self.recipe.gradient_clip or math.inf)
        # One transfer for both numbers, the only moment at which a GPU is waited for.
        loss_now, grad_norm = torch.stack([loss, norm]).tolist()
        overflowed = self._scaler.is_enabled() and not math.isfinite(grad_norm)
        if not math.isfinite(loss_now) or not (math.isfinite(grad_norm) or overflowed):
            raise TrainingError(self._diverged(number, loss_now, grad_norm))
        self._scaler.step(self.optimizer)
        self._scaler.update()
        if overflowed and self._scaler.get_scale() < LEAST_SCALE:
            raise TrainingError(
                f"The gradients overflow in fp16 at step {number + 1}, however little they are enlarged; "
                "go on with --set precision=bf16, or fp32 where the GPU has no bfloat16."
            )
        return loss_now, 0.0 if overflowed else grad_norm

    def _diverged(self, number: int, loss: float, grad_norm: float) -> str:
        recipe = self.recipe
        advice = f"Begin again with a 'learning_rate' below {recipe.learning_rate:g}"
        if recipe.precision == "fp16":
            advice += ", or with --set precision=bf16: fp16 ends at 65504"
        return (
            f"Training has diverged: at step {number + 1} the loss is {loss:g} and the gradient's norm "
            f"{grad_norm:g}. {advice}."
        )

    def _too_much(self, number: int) -> str:
        recipe = self.recipe
        at_once = recipe.micro_batch or -(-recipe.batch_size // self.world.size)
        ways = [f"--set micro_batch={at_once // 2}, which changes no loss"] if at_once > 1 else []
        ways += ["--set precision=nf4"] if recipe.precision not in QUANTS else []
        return (
            f"The GPU's memory ran out at step {number + 1} (photos at once: {at_once}); go on with "
            f"{' or '.join(ways) or 'a GPU that has more'}. `--estimate` tells what a run needs."
        )

    def _image_tokens(self, batch: Batch) -> int:
        """Image vectors of one photo."""
        if self.part.qformer is not None:
            return int(self.part.qformer.query_tokens.shape[1])
        if batch.features_BND is not None:
            return batch.features_BND.shape[1]
        return self._tower.tokens if self._tower is not None else 0

    def _map(self, call: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
        """Side by side on a CPU; a GPU has one queue."""
        return self._pool.map(call, items) if self.world.device.type == "cpu" else map(call, items)


def _most_memory(device: torch.device) -> int:
    """Most bytes held so far, of the GPU or else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return most_held()
