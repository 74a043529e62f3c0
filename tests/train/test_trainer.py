"""The training step: independent of how it is divided, restored bit-exactly, and its errors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from minigpt4.core.vision.base import VisionStages
from minigpt4.train.batches.loader import Loader
from minigpt4.train.batches.samples import Batch, FeatureColumns, Skipped
from minigpt4.train.errors import TrainingError
from minigpt4.train.estimate.flops import Work
from minigpt4.train.events import Answer, StepDone
from minigpt4.train.recipe import Recipe
from minigpt4.train.trainer import SCALE, Trainer

MakeRecipe = Callable[..., Recipe]
MakeTrainer = Callable[..., Trainer]


def weights(trainer: Trainer) -> Tensor:
    return trainer.adapter.projection.linear.weight.detach().clone()


def without_clock(done: StepDone) -> StepDone:
    return replace(done, samples_per_s=0.0, data_wait=0.0, memory=0)


class ThreadGroup:
    """One of several processes that are threads here."""

    device = torch.device("cpu")

    def __init__(self, rank: int, size: int, shared: list[Tensor | None], barrier: threading.Barrier) -> None:
        self.rank, self.world_size = rank, size
        self._shared, self._barrier = shared, barrier

    def all_reduce(self, tensor: Tensor) -> None:
        self._shared[self.rank] = tensor.clone()
        self._barrier.wait(60)
        parts = [one for one in self._shared if one is not None]
        self._barrier.wait(60)
        tensor.copy_(torch.stack(parts).sum(0))

    def all_gather(self, items: Sequence[Any]) -> list[Any]:
        """The trainer itself never calls this."""
        raise NotImplementedError

    def barrier(self) -> None:
        self._barrier.wait(60)


def together(size: int) -> list[ThreadGroup]:
    shared: list[Tensor | None] = [None] * size
    barrier = threading.Barrier(size)
    return [ThreadGroup(rank, size, shared, barrier) for rank in range(size)]


def test_training_lowers_the_validation_loss(tiny_recipe: MakeRecipe, tiny_trainer: MakeTrainer) -> None:
    trainer = tiny_trainer(tiny_recipe(steps=30, learning_rate=0.1))
    before = trainer.validation_loss()
    for number in range(30):
        trainer.step(number)
    assert trainer.validation_loss() < before - 0.02


def test_another_seed_draws_other_photos(tiny_recipe: MakeRecipe, tiny_trainer: MakeTrainer) -> None:
    losses = [tiny_trainer(tiny_recipe(seed=seed)).step(0).loss for seed in (3, 4)]
    assert losses[0] != losses[1]


@pytest.mark.parametrize("changes", [{"micro_batch": 1}, {"micro_batch": 2}, {"micro_batch": 50}])
def test_micro_batches_sum_to_the_full_batch(
    tiny_recipe: MakeRecipe, tiny_trainer: MakeTrainer, changes: dict[str, Any]
) -> None:
    recipe = tiny_recipe(batch_size=5)
    whole, parted = tiny_trainer(recipe), tiny_trainer(replace(recipe, **changes))
    for number in range(4):
        once, parts = whole.step(number), parted.step(number)
        assert parts.loss == pytest.approx(once.loss, rel=1e-6)
        assert parts.label_tokens == once.label_tokens
    torch.testing.assert_close(weights(parted), weights(whole), rtol=0, atol=1e-5)


def test_threads_change_no_loss_for_equal_groups(
    tiny_recipe: MakeRecipe, tiny_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minigpt4.train.packing.pack.POSITIONS_PER_GROUP", 100)
    recipe = tiny_recipe(batch_size=6)
    runs = [tiny_trainer(recipe, threads=threads) for threads in (1, 3)]
    done = [[without_clock(trainer.step(number)) for number in range(3)] for trainer in runs]
    assert done[0] == done[1]
    assert torch.equal(weights(runs[0]), weights(runs[1]))


@pytest.mark.parametrize("size", [2, 3, 5])
def test_any_number_of_processes_has_the_same_steps(
    tiny_recipe: MakeRecipe, tiny_trainer: MakeTrainer, size: int
) -> None:
    recipe = tiny_recipe(batch_size=5, steps=3)  # five photos among three: unequal shares

    def run(trainer: Trainer) -> tuple[list[StepDone], float, Tensor]:
        steps = [without_clock(trainer.step(number)) for number in range(3)]
        return steps, trainer.validation_loss(), weights(trainer)

    alone_steps, alone_loss, alone_weights = run(tiny_trainer(recipe))
    with ThreadPoolExecutor(size) as pool:
        found = list(pool.map(run, [tiny_trainer(recipe, process_group) for process_group in together(size)]))
    for steps, loss, weight in found:
        assert loss == pytest.approx(alone_loss, rel=1e-5)
        torch.testing.assert_close(weight, alone_weights, rtol=0, atol=1e-5)
        for ours, theirs in zip(steps, alone_steps, strict=True):
            assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
            assert ours.grad_norm == pytest.approx(theirs.grad_norm, rel=1e-4)
            assert (ours.step, ours.lr, ours.label_tokens) == (theirs.step, theirs.lr, theirs.label_tokens)
    # All of them have bit-identical projections.
    assert all(torch.equal(weight, found[0][2]) for _, _, weight in found)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_restored_trainer_continues_bit_exactly(
    tiny_recipe: MakeRecipe, tiny_trainer: MakeTrainer, precision: str
) -> None:
    recipe = tiny_recipe(precision=precision)
    first = tiny_trainer(recipe)
    for number in range(3):
        first.step(number)
    saved = {name: tensor.clone() for name, tensor in first.state().items()}
    assert (SCALE in saved) == (precision == "fp16")
    again = tiny_trainer(recipe)
    again.adapter.load_state_dict(first.adapter.state_dict())
    again.restore(saved)
    for number in range(3, 6):
        assert without_clock(again.step(number)) == without_clock(first.step(number))
    assert torch.equal(weights(again), weights(first))


def test_a_state_without_a_parameter_s_moments_is_an_error(tiny_trainer: MakeTrainer) -> None:
    trainer = tiny_trainer()
    trainer.step(0)
    saved = {name: value for name, value in trainer.state().items() if "bias" not in name}
    with pytest.raises(KeyError, match=r"the optimiser's state of 'projection\.linear\.bias' is missing"):
        tiny_trainer().restore(saved)


def test_a_step_before_the_first_has_no_state(tiny_trainer: MakeTrainer) -> None:
    trainer = tiny_trainer()
    assert trainer.state() == {}
    trainer.restore({})


def test_the_bias_has_no_weight_decay_and_the_gradient_is_clipped(
    tiny_recipe: MakeRecipe, tiny_trainer: MakeTrainer
) -> None:
    trainer = tiny_trainer(tiny_recipe(gradient_clip=1e-9, weight_decay=0.5, learning_rate=0.1))
    decays = {
        id(parameter): group["weight_decay"]
        for group in trainer.optimizer.param_groups
        for parameter in group["params"]
    }
    linear = trainer.adapter.projection.linear
    assert (decays[id(linear.weight)], decays[id(linear.bias)]) == (0.5, 0.0)
    done = trainer.step(0)
    assert done.grad_norm > 1e-6
    assert float(trainer.optimizer.state[linear.weight]["exp_avg"].norm()) < 1e-9


def test_without_clipping_a_gradient_keeps_its_norm(
    tiny_recipe: MakeRecipe, tiny_trainer: MakeTrainer
) -> None:
    trainer = tiny_trainer(tiny_recipe(gradient_clip=0.0))
    done = trainer.step(0)
    norms = torch.stack([parameter.grad.norm() for parameter in trainer.adapter.parameters()])  # type: ignore[union-attr]
    assert float(norms.norm()) == pytest.approx(done.grad_norm, rel=1e-5)


def test_a_nan_loss_ends_training_before_the_update(tiny_trainer: MakeTrainer) -> None:
    trainer = tiny_trainer()
    with torch.no_grad():
        trainer.adapter.projection.linear.weight[0, 0] = float("nan")
    before = weights(trainer)
    with pytest.raises(TrainingError, match=r"diverged: at step 1 .* 'learning_rate' below 0\.01\.$"):
        trainer.step(0)
    torch.testing.assert_close(weights(trainer), before, rtol=0, atol=0, equal_nan=True)
    assert not trainer.state()


def test_float16_that_overflows_skips_steps_and_scales_less(
    tiny_recipe: MakeRecipe, tiny_trainer: MakeTrainer
) -> None:
    trainer = tiny_trainer(tiny_recipe(precision="fp16"))
    assert trainer.step(0).grad_norm > 0
    scale = 65536.0
    for parameter in trainer.adapter.parameters():
        parameter.register_hook(lambda gradient: torch.full_like(gradient, float("inf")))
    before = weights(trainer)
    done = trainer.step(1)
    assert done.grad_norm == 0.0
    assert np.isfinite(done.loss)
    assert torch.equal(weights(trainer), before)
    assert float(trainer.state()[SCALE]) == scale / 2
    with pytest.raises(TrainingError, match=r"overflow in fp16 at step .* --set precision=bf16"):
        for number in range(2, 30):
            trainer.step(number)


def test_loss_scaling_does_not_change_the_weights(tiny_recipe: MakeRecipe, tiny_trainer: MakeTrainer) -> None:
    plain, scaled = tiny_trainer(tiny_recipe()), tiny_trainer(tiny_recipe(precision="fp16"))
    for number in range(4):
        assert scaled.step(number).loss == pytest.approx(plain.step(number).loss, rel=1e-5)
    torch.testing.assert_close(weights(scaled), weights(plain), rtol=0, atol=1e-5)


def test_running_out_of_gpu_memory_is_an_error_with_advice(
    tiny_recipe: MakeRecipe, tiny_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_much(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    for changes, advice in (
        (
            {"batch_size": 8},
            r"at step 3 \(photos at once: 8\); resume with --set micro_batch=4, .* or --set precision=nf4\.",
        ),
        ({"micro_batch": 1, "precision": "nf4"}, r"\(photos at once: 1\); resume with a GPU that has more\."),
    ):
        trainer = tiny_trainer(tiny_recipe(**changes))
        monkeypatch.setattr(trainer, "loss_fn", too_much)
        with pytest.raises(TrainingError, match=advice):
            trainer.step(2)


class Served:
    """Batches that were created beforehand."""

    def __init__(self, *batches: Batch) -> None:
        self._batches = batches

    def batch(self, step: int) -> Batch:
        return self._batches[step]


def served(*batches: Batch) -> Loader:
    return cast(Loader, Served(*batches))


BAD = Skipped("people", "people-7", "a broken JPEG", 1)


def test_skipped_photos_are_reported_and_the_others_trained_on(tiny_trainer: MakeTrainer) -> None:
    trainer = tiny_trainer()
    batch = trainer.loader.batch(0)
    assert batch.features_BND is not None
    half = Batch(batch.samples[:1], features_BND=batch.features_BND[:1], skipped=(BAD,), waited=1e9)
    trainer.loader = served(half)
    done = trainer.step(0)
    assert trainer.skipped == (BAD,)
    assert (done.left_out, done.data_wait) == (1, 1.0)
    assert done.label_tokens == sum(
        len(continuation.answer) for continuation in trainer.tokenize(half.samples)[0]
    )


def test_a_step_without_a_photo_is_an_error_with_advice(tiny_trainer: MakeTrainer) -> None:
    trainer = tiny_trainer()
    trainer.loader = served(Batch((), skipped=(BAD, BAD)))
    named = rf"all its 2 photos .*data inspect`\. {BAD.key}: {BAD.reason}"
    with pytest.raises(TrainingError, match=named):
        trainer.step(0)


def test_a_process_without_a_usable_photo_takes_part_in_the_step(
    tiny_recipe: MakeRecipe, tiny_trainer: MakeTrainer
) -> None:
    recipe = tiny_recipe(batch_size=2, precision="fp16")

    trainers = [tiny_trainer(recipe, process_group) for process_group in together(2)]
    trainers[1].loader = served(Batch((), skipped=(BAD,)))
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda trainer: trainer.step(0), trainers)
    first_weights, second_weights = map(weights, trainers)
    assert (first.loss, first.left_out) == (second.loss, second.left_out) == (first.loss, 1)
    assert torch.equal(first_weights, second_weights)


class Doubling:
    """A tower whose features are its pixels, doubled."""

    network: nn.Module = nn.Identity()
    width, tokens, class_columns = 6, 2, slice(0, 0)

    def encode(self, pixels_BCHW: Tensor) -> Tensor:
        with torch.inference_mode():
            return pixels_BCHW[:, 0] * 2

    def stages(self, pixels_BCHW: Tensor) -> VisionStages:
        raise NotImplementedError


def rebuilt(trainer: Trainer, **changes: Any) -> Trainer:
    """The same trainer with other settings of its constructor."""
    settings: dict[str, Any] = {"validation": lambda: (), "feature_columns": FeatureColumns(slice(0, 4))}
    return Trainer(
        trainer.recipe,
        trainer.adapter,
        trainer.loss_fn,
        trainer.layout,
        trainer.loader,
        **(settings | changes),
    )


def test_pixels_give_the_losses_of_their_features(tiny_recipe: MakeRecipe, tiny_trainer: MakeTrainer) -> None:
    recipe = tiny_recipe(batch_size=3, micro_batch=2)
    cached, from_pixels = tiny_trainer(recipe), tiny_trainer(recipe)
    batch = cached.loader.batch(0)
    assert batch.features_BND is not None
    pixels_BCHW = batch.features_BND.float()[:, None] / 2
    from_pixels = rebuilt(from_pixels, tower=Doubling())
    from_pixels.batches = served(Batch(batch.samples, pixels_BCHW=pixels_BCHW))
    assert from_pixels.step(0).loss == pytest.approx(cached.step(0).loss, rel=1e-6)
    torch.testing.assert_close(weights(from_pixels), weights(cached))


def test_the_work_of_a_step_excludes_padding(tiny_recipe: MakeRecipe, tiny_trainer: MakeTrainer) -> None:
    counted: list[Work] = []

    def utilisation(work: Work, seconds: float) -> float:
        assert seconds > 0
        counted.append(work)
        return 0.25

    trainer = rebuilt(tiny_trainer(tiny_recipe(batch_size=3)), utilisation=utilisation)
    done = trainer.step(0)
    samples = trainer.loader.batch(0).samples
    assert done.mfu == 0.25
    assert done.memory > 10_000_000
    assert done.samples_per_s > 0
    (work,) = counted
    trees = trainer.tokenize(samples)
    longest = max(
        len(continuation.prompt) + len(continuation.answer) for tree in trees for continuation in tree
    )
    assert (work.photos, work.encoded, work.label_tokens) == (3, 0, done.label_tokens)
    assert 3 * 2 + done.label_tokens <= work.positions < 3 * 2 + longest * sum(map(len, trees))


def test_loss_of_changes_no_weight(tiny_trainer: MakeTrainer) -> None:
    trainer = tiny_trainer()
    batch = trainer.loader.batch(0)
    before = weights(trainer)
    one, whole = trainer.loss_of(batch, 1), trainer.loss_of(batch, 100)
    assert one != whole
    assert trainer.loss_of(Batch(()), 3) == 0.0
    assert torch.equal(before, weights(trainer))
    assert trainer.step(0).loss == pytest.approx(whole, rel=1e-5)


def test_answers_use_the_current_weights(tiny_trainer: MakeTrainer) -> None:
    trainer = tiny_trainer()
    assert trainer.answers() == ()
    answering = rebuilt(
        trainer, sample_answers=lambda adapter: (Answer("a", "", str(adapter.projection.layers)),)
    )
    assert answering.answers() == (Answer("a", "", "1"),)


def test_a_projection_of_three_layers_trains(tiny_recipe: MakeRecipe, tiny_trainer: MakeTrainer) -> None:
    trainer = tiny_trainer(tiny_recipe(layers=3))
    before = [parameter.detach().clone() for parameter in trainer.adapter.parameters()]
    trainer.step(0)
    moved = [
        not torch.equal(one, other) for one, other in zip(before, trainer.adapter.parameters(), strict=True)
    ]
    assert len(moved) == 6
    assert all(moved)
