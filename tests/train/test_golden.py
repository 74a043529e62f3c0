"""Training equals the original MiniGPT-4's: tokens, labels, losses, gradients and weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.download.fetch import projection_path
from minigpt4.core.language.hf_load import load_causal_lm, load_tokens
from minigpt4.core.prompt import LLAMA2, VICUNA_V0, MiniGPT4Chat
from minigpt4.core.vision.base import VisionTower
from minigpt4.core.vision.tower import load_tower
from minigpt4.train.adapter import initial_adapter
from minigpt4.train.batches.examples import blip_caption
from minigpt4.train.batches.samples import Batch, Sample
from minigpt4.train.packing.loss import LanguageModelLoss
from minigpt4.train.packing.sequence import Layout, layout_for
from minigpt4.train.recipe import Recipe
from minigpt4.train.recipe_file import read_recipe, recipe_path
from minigpt4.train.trainer import Trainer, learning_rate_at

IGNORED = -100
IMAGE = -1
"""Stands for any image embedding when layouts are compared."""

CASES = ("stage1", "stage2", "stage2_llama2")


VECTORS = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    """The original's results for each case."""
    vectors: dict[str, Any] = json.loads((VECTORS / "train.json").read_text())
    return vectors


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    """The pictures, and gradients and weights after steps."""
    return load_file(VECTORS / "train.safetensors")


def schedules() -> dict[str, dict[str, Any]]:
    """Learning rates with their settings, by name."""
    return {one["name"]: one for one in json.loads((VECTORS / "schedule.json").read_text())}


def recipe_of(case: str, **changes: Any) -> Recipe:
    """The shipped recipe of the case's stage."""
    recipe = read_recipe(recipe_path("stage1" if case == "stage1" else "stage2"))
    return replace(recipe, precision="fp32", batch_size=3, **changes)


def template_of(case: str) -> MiniGPT4Chat:
    return LLAMA2 if case == "stage2_llama2" else VICUNA_V0


def questions_and_answers(case: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Instructions and captions, as they are before any processing of ours."""
    prompts = case.get("instruction_input") or [""] * len(case["answers"])
    for prompt, answer, raw in zip(
        prompts, case["answers"], case.get("raw_captions", case["answers"]), strict=True
    ):
        question = prompt.partition("</Img> ")[2]
        for end in (" ###Assistant: ", " [/INST] "):
            question = question.removesuffix(end)
        assert blip_caption(raw) == answer or question
        yield question, answer


class OneBatch:
    """The same pictures at every step."""

    def __init__(self, case: dict[str, Any], pixels_BCHW: Tensor) -> None:
        samples = (Sample(0, place, 0, (asked,)) for place, asked in enumerate(questions_and_answers(case)))
        self._batch = Batch(tuple(samples), pixels_BCHW=pixels_BCHW)

    def batch(self, step: int) -> Batch:
        return self._batch


Build = Callable[..., Trainer]


@pytest.fixture
def build(import_tiny: Any, expected: dict[str, Any], tensors: dict[str, Tensor]) -> Build:
    """The trainer of a case, its recipe changed."""
    numbers = count()

    def trainer_of(case: str, **changes: Any) -> Trainer:
        bundle: Bundle = import_tiny(f"{case}-{next(numbers)}", has_qformer=case != "stage2_llama2")
        recipe = recipe_of(case, **changes)
        layout: Layout = layout_for(recipe, template_of(case), load_tokens(bundle).tokenize)
        model = load_causal_lm(bundle, quant="fp32", with_gradients=True)
        tower: VisionTower = load_tower(bundle, dtype="fp32")
        return Trainer(
            recipe,
            initial_adapter(recipe, bundle, projection_path(bundle)),
            LanguageModelLoss(model, layout.prefix),
            layout,
            OneBatch(expected[case], tensors["image"]),
            validation=lambda: (),
            tower=tower,
        )

    return trainer_of


@pytest.mark.parametrize("case", CASES)
def test_tokens_and_labels_are_at_the_original_s_positions(
    import_tiny: Any, expected: dict[str, Any], case: str
) -> None:
    recipe, vectors = recipe_of(case), expected[case]
    assert recipe.text_tokens == vectors["max_txt_len"]
    layout = layout_for(recipe, template_of(case), load_tokens(import_tiny()).tokenize)
    rows = zip(vectors["layout"], vectors["attention_mask"], vectors["labels"], strict=True)
    for (question, answer), (tokens, mask, labels) in zip(questions_and_answers(vectors), rows, strict=True):
        continuation = layout.tokenize_example(question, answer)
        # The original's image slots count down from -1; what its mask hides is padding.
        theirs = [max(token, IMAGE) for token, is_read in zip(tokens, mask, strict=True) if is_read]
        image_tokens = theirs.count(IMAGE)
        ours = [*layout.prefix, *[IMAGE] * image_tokens, *continuation.prompt, *continuation.answer]
        assert ours == theirs
        visible = [label for label, is_read in zip(labels, mask, strict=True) if is_read]
        assert visible == [IGNORED] * (len(ours) - len(continuation.answer)) + list(continuation.answer)
        assert continuation.is_truncated == (len(continuation.answer) == recipe.text_tokens)


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient_of_the_first_step_equal_the_original_s(
    build: Build, expected: dict[str, Any], tensors: dict[str, Tensor], case: str
) -> None:
    trainer = build(case)
    done = trainer.step(0)
    assert done.loss == pytest.approx(expected[case]["loss"], rel=1e-5)
    for name, parameter in trainer.adapter.projection.linear.named_parameters():
        torch.testing.assert_close(parameter.grad, tensors[f"{case}.grad.{name}"], atol=5e-5, rtol=0)


@pytest.mark.parametrize("case", ["stage1", "stage2"])
def test_weights_after_one_and_five_steps_equal_the_original_s(
    build: Build, expected: dict[str, Any], tensors: dict[str, Tensor], case: str
) -> None:
    run = expected["optimiser"][case]["run"]
    trainer = build(case, steps=run["max_epoch"] * run["iters_per_epoch"])
    for number, (rate, loss) in enumerate(expected["optimiser"][case]["lr_and_loss_per_step"]):
        done = trainer.step(number)
        assert done.lr == pytest.approx(rate, abs=1e-12)
        assert done.loss == pytest.approx(loss, rel=1e-5)
        if number in (0, 4):
            for name, parameter in trainer.adapter.projection.linear.named_parameters():
                wanted = tensors[f"{case}.after{number + 1}.{name}"]
                torch.testing.assert_close(parameter.detach(), wanted, atol=1e-7, rtol=0)


SHORT_RATES = {
    "steps": 6,
    "learning_rate": 0.01,
    "floor_rate": 0.002,
    "warmup_rate": 1e-4,
    "warmup_steps": 2,
}


@pytest.mark.parametrize("case", ["stage1", "stage2"])
def test_a_short_run_through_warm_up_and_cosine_equals_the_original_s(
    build: Build, expected: dict[str, Any], tensors: dict[str, Tensor], case: str
) -> None:
    trainer = build(case, **SHORT_RATES)
    for number, (rate, loss) in enumerate(expected["optimiser"][f"{case}_short"]["lr_and_loss_per_step"]):
        done = trainer.step(number)
        assert done.lr == pytest.approx(rate, abs=1e-12)
        assert done.loss == pytest.approx(loss, rel=1e-5)
        if number in (2, 4):
            for name, parameter in trainer.adapter.projection.linear.named_parameters():
                wanted = tensors[f"{case}.short.after{number + 1}.{name}"]
                torch.testing.assert_close(parameter.detach(), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", ["stage1", "stage2"])
def test_micro_batches_equal_one_batch_where_the_original_summed(
    build: Build, tensors: dict[str, Tensor], case: str
) -> None:
    whole, parted = build(case, **SHORT_RATES), build(case, **SHORT_RATES, micro_batch=1)
    for number in range(3):
        once, parts = whole.step(number), parted.step(number)
        assert parts.loss == pytest.approx(once.loss, rel=1e-6)
        assert parts.grad_norm == pytest.approx(once.grad_norm, rel=1e-4)
    for name, parameter in parted.adapter.projection.linear.named_parameters():
        same = whole.adapter.projection.linear.get_parameter(name)
        torch.testing.assert_close(parameter, same, atol=1e-5, rtol=0)
        # Summed gradients give other weights, as in the original.
        theirs = tensors[f"{case}.short_accum2.after3.{name}"]
        assert (parameter - theirs).abs().max() > 1e-4


@pytest.mark.parametrize("name", [name for name in schedules() if name != "warmup_longer_than_epoch"])
def test_every_learning_rate_equals_the_original_s(name: str) -> None:
    # The excluded one restarts its warm-up in every epoch, surely by mistake.
    config = schedules()[name]
    is_unset = config["warmup_lr"] < 0
    recipe = replace(
        read_recipe(recipe_path("stage1")),
        steps=config["max_epoch"] * config["iters_per_epoch"],
        learning_rate=config["init_lr"],
        warmup_rate=config["init_lr"] if is_unset else config["warmup_lr"],
        floor_rate=config["min_lr"],
        warmup_steps=config["warmup_steps"],
    )
    rates = [learning_rate_at(step, recipe) for step in config["steps"]]
    assert rates == pytest.approx(config["lr"], abs=1e-12)


@pytest.mark.parametrize(
    ("recipe", "name"),
    [("stage1", "stage1"), ("stage2", "stage2_2x200"), ("stage2-released", "stage2_5x200")],
)
def test_the_shipped_recipes_have_the_original_s_schedules(recipe: str, name: str) -> None:
    config, shipped = schedules()[name], read_recipe(recipe_path(recipe))
    rates = [learning_rate_at(step, shipped) for step in config["steps"]]
    assert rates == pytest.approx(config["lr"], abs=1e-12)
    assert shipped.steps == config["max_epoch"] * config["iters_per_epoch"]
