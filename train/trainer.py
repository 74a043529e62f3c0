"""The training step, the same for mini on a laptop's CPU and for MiniGPT-4 on many GPUs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, parameters_to_vector, vector_to_parameters

from minigpt4.core.memory import most_held
from minigpt4.core.vision.base import VisionTower
from minigpt4.core.weights.bnb_quantize import QUANTS
from minigpt4.train.adapter import Adapter
from minigpt4.train.batches.loader import Loader
from minigpt4.train.batches.samples import NO_COLUMNS, Batch, FeatureColumns, Sample, Skipped, change_features
from minigpt4.train.distributed.process_group import ProcessGroup
from minigpt4.train.errors import TrainingError
from minigpt4.train.estimate.estimate import Utilisation
from minigpt4.train.estimate.flops import Work
from minigpt4.train.events import Answer, StepDone
from minigpt4.train.packing.loss import LanguageModelLoss, label_tokens
from minigpt4.train.packing.pack import balanced_groups, packed_length
from minigpt4.train.packing.sequence import Continuation, Layout
from minigpt4.train.recipe import Recipe
from minigpt4.train.sample_answers import SampleAnswers

A = TypeVar("A")
B = TypeVar("B")
Continuations = list[Continuation]
"""The tokenized examples of one sample, which share its image."""

LEAST_SCALE = 1.0
"""Minimum loss scale: float16 gradients that overflow even without scaling up will not recover."""

STATE, SCALE, TRACKER = "optimizer.", "scaler.scale", "scaler.growth_tracker"


def learning_rate_at(step: int, recipe: Recipe) -> float:
    """The learning rate of a step (from 0): linear warm-up to the peak, then cosine decay to the floor.

    With `cosine_over` "all" it equals that of LinearWarmupCosineLRScheduler in Vision-CAIR/MiniGPT-4
    (common/optims.py), whose cosine counts from the first step: stage 1 falls from 9.9998e-5 to
    9.7071e-5 when its warm-up ends.
    """
    peak, warmup = recipe.learning_rate, recipe.warmup_steps
    if step < warmup:
        return recipe.warmup_rate + (peak - recipe.warmup_rate) * step / warmup
    begin = 0 if recipe.cosine_over == "all" else warmup
    progress = (step - begin) / max(1, recipe.steps - begin)
    return recipe.floor_rate + (peak - recipe.floor_rate) * 0.5 * (1 + math.cos(math.pi * progress))


class Trainer:
    """The adapter of a run, its optimizer, and their training step.

    All processes of the process group call the same methods in the same order. The loss of a step is the
    mean over the label tokens of all its samples, however they are split into processes and micro-batches.
    """

    def __init__(
        self,
        recipe: Recipe,
        adapter: Adapter,
        loss_fn: LanguageModelLoss,
        layout: Layout,
        loader: Loader,
        *,
        validation: Callable[[], Iterable[Batch]],
        process_group: ProcessGroup | None = None,
        tower: VisionTower | None = None,
        feature_columns: FeatureColumns = NO_COLUMNS,
        threads: int = 1,
        utilisation: Utilisation = lambda _work, _seconds: None,
        sample_answers: SampleAnswers | None = None,
    ) -> None:
        """`loader` and `validation` yield this process's batches, the latter the same at every call.

        `tower` is needed if batches hold pixels. `feature_columns` are those that a recipe changes. On a
        CPU, `threads` threads compute parts of a micro-batch in parallel. `utilisation` computes the MFU
        of a step; `sample_answers` generates answers about fixed photos.
        """
        self.process_group = process_group or ProcessGroup()
        self.recipe = recipe
        self.adapter = adapter.to(self.process_group.device)
        self.loss_fn = loss_fn
        self.layout = layout
        self.loader = loader
        self.sample_answers = sample_answers
        self.skipped: tuple[Skipped, ...] = ()
        """Samples of this process in the last step that could not be used."""

        self._validation = validation
        self._tower = tower
        self._feature_columns = feature_columns
        self._utilisation = utilisation
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        for parameter in self.adapter.parameters():
            # Zeros and not None: a process without a usable sample takes part in the all-reduce too.
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer = torch.optim.AdamW(
            adapter.param_groups(recipe.weight_decay),
            lr=recipe.warmup_rate,
            betas=(recipe.beta1, recipe.beta2),
        )
        self._scaler = torch.amp.GradScaler(
            self.process_group.device.type, enabled=recipe.precision == "fp16"
        )
        # The scale tensor is created on first use, which a process without a sample in step 0 would miss.
        self._scaler.scale(torch.zeros((), device=self.process_group.device))

    def step(self, number: int) -> StepDone:
        """Run training step `number` (from 0).

        Raises TrainingError if the loss is not finite, no sample could be used, or GPU memory ran out.
        """
        try:
            return self._train_step(number)
        except torch.OutOfMemoryError as error:
            raise TrainingError(self._out_of_memory_message(number)) from error

    def _train_step(self, number: int) -> StepDone:
        started = time.perf_counter()
        batch = self.loader.batch(number)
        self.skipped = batch.skipped
        texts = self.tokenize(batch.samples)
        work, skipped = self._count_work(batch, texts)
        if not work.label_tokens:
            raise TrainingError(_no_usable_sample(number, batch, skipped))

        # Forward and backward; gradients accumulate over the micro-batches.
        self.optimizer.zero_grad(set_to_none=False)
        loss = torch.zeros((), device=self.process_group.device)
        size = self.recipe.micro_batch or max(1, len(texts))
        for begin in range(0, len(texts), size):
            rows = slice(begin, begin + size)
            loss += self._forward_backward(self._features(batch, rows), texts[rows], work.label_tokens)

        # Sum loss and gradients over the processes.
        self._all_reduce(loss)

        # Clip the gradient norm and update the weights.
        lr = learning_rate_at(number, self.recipe)
        for param_group in self.optimizer.param_groups:
            param_group["lr"] = lr
        self._scaler.unscale_(self.optimizer)
        norm = clip_grad_norm_(self.adapter.parameters(), self.recipe.gradient_clip or math.inf)
        # One transfer for both numbers: the only moment at which the CPU waits for a GPU.
        loss_value, grad_norm = torch.stack([loss, norm]).tolist()
        self._check_finite(number, loss_value, grad_norm)
        self._scaler.step(self.optimizer)  # skips the update if fp16 gradients overflowed
        self._scaler.update()
        if not math.isfinite(grad_norm):
            self._check_scale(number)
            grad_norm = 0.0

        seconds = time.perf_counter() - started
        return StepDone(
            step=number + 1,
            loss=loss_value,
            lr=lr,
            grad_norm=grad_norm,
            samples_per_s=work.photos / seconds,
            label_tokens=work.label_tokens,
            data_wait=min(1.0, batch.waited / seconds),
            mfu=self._utilisation(work, seconds),
            memory=_peak_memory(self.process_group.device),
            left_out=skipped,
        )

    def validation_loss(self) -> float:
        """The loss per label token on the validation samples, which are the same in every call."""
        pairs = [(0.0, 0), *self._map(self._summed_loss, self._validation())]
        sums = [sum(column) for column in zip(*pairs, strict=True)]
        total = torch.tensor(sums, dtype=torch.float64, device=self.process_group.device)
        self.process_group.all_reduce(total)
        return float(total[0] / total[1].clamp(min=1))

    def loss_of(self, batch: Batch, most: int) -> float:
        """The loss per label token of a batch's first `most` samples, in this process, without gradients."""
        loss, tokens = self._summed_loss(batch, most)
        return loss / max(1, tokens)

    def answers(self) -> tuple[Answer, ...]:
        """The model's current answers about a few fixed photos; only one process needs to call this."""
        return self.sample_answers(self.adapter) if self.sample_answers is not None else ()

    def tokenize(self, samples: Sequence[Sample]) -> list[Continuations]:
        """The examples of each sample as tokens."""
        return [[self.layout.tokenize_example(*example) for example in one.examples] for one in samples]

    def state(self) -> dict[str, Tensor]:
        """Optimizer and gradient scaler state: with the weights, all that the next step depends on."""
        tensors = {
            f"{STATE}{name}.{key}": value.detach().contiguous()
            for name, parameter in self.adapter.named_parameters()
            for key, value in self.optimizer.state[parameter].items()
        }
        if self._scaler.is_enabled():
            state = self._scaler.state_dict()
            tensors[SCALE] = torch.tensor(float(state["scale"]))
            tensors[TRACKER] = torch.tensor(int(state["_growth_tracker"]))
        return tensors

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `state` returned; raises KeyError if the state of a parameter is missing."""
        saved = [name for name in tensors if name.startswith(STATE)]
        for name, parameter in self.adapter.named_parameters():
            start = f"{STATE}{name}."
            found = {key.removeprefix(start): tensors[key] for key in saved if key.startswith(start)}
            if saved and not found:
                raise KeyError(f"the optimiser's state of '{name}' is missing")
            # AdamW keeps its step count on the CPU and its moments on the parameter's device.
            self.optimizer.state[parameter] = {
                key: value.clone() if key == "step" else value.to(parameter.device, copy=True)
                for key, value in found.items()
            }
        if self._scaler.is_enabled() and SCALE in tensors:
            state = self._scaler.state_dict()
            state |= {"scale": tensors[SCALE].item(), "_growth_tracker": int(tensors[TRACKER].item())}
            self._scaler.load_state_dict(state)

    def _summed_loss(self, batch: Batch, most: int | None = None) -> tuple[float, int]:
        """The summed loss of a batch's first `most` samples (None: of all), and their label tokens."""
        texts = self.tokenize(batch.samples[:most])
        if not texts:
            return 0.0, 0
        with torch.no_grad():  # per thread, and this may run in the pool
            image_BND = self.adapter(self._features(batch, slice(0, len(texts))))
            return self.loss_fn(image_BND, texts).item(), label_tokens(texts)

    def _count_work(self, batch: Batch, texts: Sequence[Continuations]) -> tuple[Work, int]:
        """The work of this step in all processes, and how many samples they skipped."""
        photos = len(batch.samples)
        positions = sum(map(packed_length, texts)) + photos * self._image_tokens(batch)
        encoded = photos if batch.pixels_BCHW is not None else 0
        counts = torch.tensor(
            [photos, encoded, positions, label_tokens(texts), len(batch.skipped)],
            dtype=torch.float64,
            device=self.process_group.device,
        )
        self.process_group.all_reduce(counts)
        *work, skipped = (int(count) for count in counts.tolist())
        return Work(*work), skipped

    def _forward_backward(self, features_BND: Tensor, texts: Sequence[Continuations], tokens: int) -> Tensor:
        """Accumulate one micro-batch's gradients; returns its part of the mean over `tokens` label tokens.

        On a CPU the language model runs on groups of samples in parallel threads. The graph is cut at the
        image embeddings: each group's backward pass ends there, and one backward pass of the adapter
        follows for all of them.
        """
        image_BND = self.adapter(features_BND)
        image_grad_BND = torch.zeros_like(image_BND)

        def forward_backward_group(group: list[int]) -> Tensor:
            embeddings_GND = image_BND[group].detach().requires_grad_()
            loss: Tensor = self.loss_fn(embeddings_GND, [texts[row] for row in group]) / tokens
            self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            assert embeddings_GND.grad is not None
            image_grad_BND[group] = embeddings_GND.grad
            return loss.detach()

        groups = [list(range(len(texts)))]
        if image_BND.device.type == "cpu":
            lengths = [packed_length(one) + features_BND.shape[1] for one in texts]
            groups = balanced_groups(lengths, self._threads)
        losses = list(self._map(forward_backward_group, groups))
        image_BND.backward(image_grad_BND)
        return torch.stack(losses).sum()

    def _features(self, batch: Batch, rows: slice) -> Tensor:
        """The adapter's input for some rows of a batch (B, N, D), float32, after feature dropout."""
        device = self.process_group.device
        if batch.features_BND is not None:
            features_BND = batch.features_BND[rows].to(device, torch.float32, copy=True)
        else:
            assert batch.pixels_BCHW is not None
            assert self._tower is not None
            pixels_BCHW = batch.pixels_BCHW[rows].to(device, non_blocking=True)
            # Autograd refuses inference tensors; a copy is a normal one.
            features_BND = self._tower.encode(pixels_BCHW).clone()
        change_features(features_BND, batch.samples[rows], self.recipe, self._feature_columns)
        return features_BND

    def _all_reduce(self, loss: Tensor) -> None:
        """Sum the loss and the gradients over all processes, in place."""
        if self.process_group.world_size == 1:
            return
        gradients = [parameter.grad for parameter in self.adapter.parameters() if parameter.grad is not None]
        # One flat buffer: an all-reduce between machines costs latency rather than the bandwidth of 20 MB.
        flat = parameters_to_vector([*gradients, loss])
        self.process_group.all_reduce(flat)
        vector_to_parameters(flat, [*gradients, loss])

    def _check_finite(self, number: int, loss: float, grad_norm: float) -> None:
        """Raise TrainingError if training diverged; fp16 gradients may overflow: that step is skipped."""
        recipe, is_fp16 = self.recipe, self._scaler.is_enabled()
        if math.isfinite(loss) and (math.isfinite(grad_norm) or is_fp16):
            return
        advice = f"Begin again with a 'learning_rate' below {recipe.learning_rate:g}"
        if is_fp16:
            advice += ", or with --set precision=bf16: fp16 ends at 65504"
        raise TrainingError(
            f"Training has diverged: at step {number + 1} the loss is {loss:g} and the gradient's norm "
            f"{grad_norm:g}. {advice}."
        )

    def _check_scale(self, number: int) -> None:
        if self._scaler.get_scale() < LEAST_SCALE:
            raise TrainingError(
                f"The gradients overflow in fp16 at step {number + 1} even without loss scaling; resume with "
                "--set precision=bf16, or fp32 if the GPU has no bfloat16."
            )

    def _out_of_memory_message(self, number: int) -> str:
        recipe = self.recipe
        at_once = recipe.micro_batch or -(-recipe.batch_size // self.process_group.world_size)
        ways = [f"--set micro_batch={at_once // 2}, which changes no loss"] if at_once > 1 else []
        ways += ["--set precision=nf4"] if recipe.precision not in QUANTS else []
        return (
            f"GPU memory ran out at step {number + 1} (photos at once: {at_once}); resume with "
            f"{' or '.join(ways) or 'a GPU that has more'}. `--estimate` shows what a run needs."
        )

    def _image_tokens(self, batch: Batch) -> int:
        """Tokens of one image."""
        if self.adapter.qformer is not None:
            return int(self.adapter.qformer.query_tokens.shape[1])
        if batch.features_BND is not None:
            return batch.features_BND.shape[1]
        return self._tower.tokens if self._tower is not None else 0

    def _map(self, call: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
        """Map in the thread pool on a CPU, sequentially on a GPU, which has a single stream."""
        return self._pool.map(call, items) if self.process_group.device.type == "cpu" else map(call, items)


def _no_usable_sample(number: int, batch: Batch, skipped: int) -> str:
    reasons = " ".join(sorted({f"{one.key}: {one.reason}." for one in batch.skipped[:3]}))
    return (
        f"No sample of step {number + 1} could be used: all its {skipped} photos were skipped; "
        f"check the data with `minigpt4 data inspect`. {reasons}"
    ).rstrip()


def _peak_memory(device: torch.device) -> int:
    """Peak bytes so far, of the GPU or else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return most_held()
