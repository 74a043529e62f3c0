"""Training on a CUDA device equals training on the CPU. Run with `pytest -m gpu` on a machine with a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaForCausalLM

from minigpt4.train.distributed.process_group import ProcessGroup
from minigpt4.train.packing.loss import LanguageModelLoss, label_tokens
from minigpt4.train.packing.sequence import Continuation
from minigpt4.train.recipe import Recipe
from minigpt4.train.trainer import Trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

MakeRecipe = Callable[..., Recipe]
MakeTrainer = Callable[..., Trainer]

LIKENESS = {torch.float32: 0.99999, torch.float16: 0.999, torch.bfloat16: 0.995}
"""Least cosine between gradients and those of a CPU in float32."""


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_steps_on_a_gpu_equal_those_on_a_cpu(
    tiny_recipe: MakeRecipe, tiny_trainer: MakeTrainer, precision: str
) -> None:
    recipe = tiny_recipe(batch_size=6, micro_batch=4, precision=precision)
    here, there = tiny_trainer(recipe), tiny_trainer(recipe, ProcessGroup(torch.device("cuda")))
    for number in range(4):
        ours, theirs = there.step(number), here.step(number)
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-4)
        assert ours.label_tokens == theirs.label_tokens
        assert ours.memory > 0
    assert there.validation_loss() == pytest.approx(here.validation_loss(), rel=1e-4)


@pytest.mark.parametrize("key_heads", [2, 4])
@pytest.mark.parametrize("dtype", LIKENESS)
def test_packed_gradients_on_a_gpu_equal_those_on_a_cpu(dtype: torch.dtype, key_heads: int) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=200,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=key_heads,
        initializer_range=0.05,
    )
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    trees = [
        [Continuation((1, 2, 3), tuple(range(4, 4 + at))), Continuation((1, 5), (6, 7))] for at in range(1, 9)
    ]
    image_BND = torch.randn(len(trees), 5, 256)

    def gradient(model: Any, device: str) -> tuple[float, torch.Tensor]:
        vectors = image_BND.to(device).requires_grad_()
        loss = LanguageModelLoss(model, (1, 9, 8))(vectors, trees) / label_tokens(trees)
        (found,) = torch.autograd.grad(loss, vectors)
        return loss.item(), found.float().cpu().flatten()

    plain_loss, plain = gradient(model, "cpu")
    loss, found = gradient(model.to("cuda", dtype), "cuda")
    assert loss == pytest.approx(plain_loss, rel=1e-2)
    assert float(F.cosine_similarity(found, plain, dim=0)) > LIKENESS[dtype]


def test_a_run_resumes_exactly_on_a_gpu(tiny_recipe: MakeRecipe, tiny_trainer: MakeTrainer) -> None:
    def new_trainer() -> Trainer:
        return tiny_trainer(tiny_recipe(precision="fp16"), ProcessGroup(torch.device("cuda")))

    first, again = new_trainer(), new_trainer()
    for number in range(3):
        first.step(number)
    saved = {name: tensor.cpu() for name, tensor in first.state().items()}
    again.adapter.load_state_dict(first.adapter.state_dict())
    again.restore(saved)
    losses = [[trainer.step(number).loss for number in range(3, 6)] for trainer in (first, again)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
