"""The loss of packed samples equals that of their sequences computed one by one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaForCausalLM

from minigpt4.core.projection import Projection
from minigpt4.train.packing.attention import _attend_on_cpu, _attend_on_gpu
from minigpt4.train.packing.loss import LanguageModelLoss, SummedCrossEntropy, label_tokens
from minigpt4.train.packing.sequence import Continuation

VOCABULARY, WIDTH, FEATURES, IMAGE_TOKENS = 61, 32, 7, 3
PREFIX = (5, 9, 2, 40)


def new_language_model() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def language_model() -> Any:
    return new_language_model()


def loss_one_by_one(
    language_model: Any, image_BND: Tensor, trees: list[list[Continuation]], prefix: tuple[int, ...]
) -> Tensor:
    """The same loss, computed by the plain model for each sequence alone."""
    losses = []
    for image_ND, continuations in zip(image_BND, trees, strict=True):
        for continuation in continuations:
            embed = language_model.get_input_embeddings()
            before = torch.tensor(prefix, dtype=torch.long)
            after = torch.tensor([*continuation.prompt, *continuation.answer])
            embeddings = torch.cat([embed(before), image_ND, embed(after)])[None]
            logits_SV = language_model(inputs_embeds=embeddings).logits[0]
            answer = torch.tensor(continuation.answer)
            predicting = logits_SV[-len(answer) - 1 : -1]
            losses.append(F.cross_entropy(predicting, answer, reduction="sum"))
    return torch.stack(losses).sum()


prompts = st.lists(st.integers(0, VOCABULARY - 1), max_size=6).map(tuple)
answers = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=6).map(tuple)
continuations = st.builds(Continuation, prompt=prompts, answer=answers)
some_trees = st.lists(st.lists(continuations, min_size=1, max_size=4), min_size=1, max_size=3)


@settings(max_examples=25)
@given(trees=some_trees, prefix=st.sampled_from([PREFIX, (1,), ()]))
def test_packed_loss_and_gradient_equal_those_of_single_sequences(
    language_model: Any, trees: list[list[Continuation]], prefix: tuple[int, ...]
) -> None:
    torch.manual_seed(1)
    features_BND = torch.randn(len(trees), IMAGE_TOKENS, FEATURES)
    projection = Projection(FEATURES, WIDTH)

    # The model of LanguageModelLoss itself: unpacked inputs use its usual attention.
    loss_fn = LanguageModelLoss(language_model, prefix)
    plain = loss_one_by_one(language_model, projection(features_BND), trees, prefix)
    expected = torch.autograd.grad(plain, list(projection.parameters()))
    loss = loss_fn(projection(features_BND), trees)
    found = torch.autograd.grad(loss, list(projection.parameters()))

    torch.testing.assert_close(loss, plain, rtol=1e-5, atol=1e-4)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-4)


def test_the_loss_is_summed_over_label_tokens(language_model: Any) -> None:
    trees = [[Continuation((1, 2), (3, 4)), Continuation((1,), (5,))], [Continuation((), (6, 7, 8))]]
    assert label_tokens(trees) == 6
    loss_fn, image_BND = LanguageModelLoss(language_model, PREFIX), torch.randn(2, IMAGE_TOKENS, WIDTH)
    apart = [loss_fn(image_BND[place : place + 1], [tree]) for place, tree in enumerate(trees)]
    torch.testing.assert_close(loss_fn(image_BND, trees), sum(apart), rtol=1e-5, atol=1e-5)


def test_a_prepared_model_still_generates_as_before() -> None:
    untouched, learning = new_language_model(), new_language_model()
    loss_fn = LanguageModelLoss(learning, PREFIX)
    loss_fn(torch.randn(1, IMAGE_TOKENS, WIDTH), [[Continuation((1,), (2, 3))]])
    tokens = torch.tensor([[3, 1, 4, 1, 5]])
    torch.testing.assert_close(learning(tokens).logits, untouched(tokens).logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize("key_heads", [1, 2, 4])
def test_cpu_attention_equals_torch_s(key_heads: int) -> None:
    torch.manual_seed(0)
    query, keys, values = (torch.randn(2, heads, 5, 8) for heads in (4, key_heads, key_heads))
    bias = torch.zeros(2, 1, 5, 5).masked_fill_(torch.rand(2, 1, 5, 5) > 0.6, torch.finfo(torch.float32).min)
    ours, theirs = (attend(query, keys, values, bias, 0.3) for attend in (_attend_on_cpu, _attend_on_gpu))
    torch.testing.assert_close(ours, theirs)


def test_summed_cross_entropy_equals_torch_s_with_its_gradient() -> None:
    torch.manual_seed(2)
    hidden_LD = torch.randn(9, WIDTH, requires_grad=True)
    head_VD, labels_L = torch.randn(VOCABULARY, WIDTH), torch.randint(VOCABULARY, (9,))
    plain = F.cross_entropy(hidden_LD @ head_VD.T, labels_L, reduction="sum") / 7
    (expected,) = torch.autograd.grad(plain, hidden_LD)
    loss = SummedCrossEntropy.apply(hidden_LD, head_VD, labels_L) / 7
    (found,) = torch.autograd.grad(loss, hidden_LD)
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(found, expected)


def test_a_float16_gradient_does_not_underflow() -> None:
    torch.manual_seed(2)
    hidden_LD = torch.randn(9, WIDTH, dtype=torch.float16, requires_grad=True)
    head_VD = torch.randn(VOCABULARY, WIDTH, dtype=torch.float16)
    labels_L = torch.randint(VOCABULARY, (9,))
    tokens, scale = 1_000_000, 65536.0

    def gradient(factor: float) -> Tensor:
        loss = SummedCrossEntropy.apply(hidden_LD, head_VD, labels_L) / tokens * factor
        return torch.autograd.grad(loss, hidden_LD)[0].double() / factor

    precise_LD = hidden_LD.detach().double().requires_grad_()
    plain = F.cross_entropy(precise_LD @ head_VD.double().T, labels_L, reduction="sum") / tokens
    (exact,) = torch.autograd.grad(plain, precise_LD)
    assert (gradient(scale) - exact).norm() < 0.01 * exact.norm()
    assert (gradient(1.0) - exact).norm() > 0.01 * exact.norm()
