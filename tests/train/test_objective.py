"""The loss of a tree of branches is that of its sequences read one by one."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaForCausalLM

from minigpt4.core.language.protocol import Text
from minigpt4.core.projection import Projection
from minigpt4.core.prompt import SmolLM2, User
from minigpt4.train.objective import IGNORED, AnswerLoss, Branch, ChatLayout, Objective, lay_out

VOCABULARY, WIDTH, FEATURES, IMAGE_TOKENS = 61, 32, 7, 3
PREFIX = (5, 9, 2, 40)


@pytest.fixture(scope="module")
def language_model() -> Any:
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


def loss_one_by_one(language_model: Any, image_BND: Tensor, rows: list[list[Branch]]) -> Tensor:
    """The same loss, each sequence read alone and whole by the plain model."""
    losses = []
    for image_ND, branches in zip(image_BND, rows, strict=True):
        for branch in branches:
            embed = language_model.get_input_embeddings()
            before, after = torch.tensor(PREFIX), torch.tensor([*branch.header, *branch.answer])
            embeddings = torch.cat([embed(before), image_ND, embed(after)])[None]
            logits_SV = language_model(inputs_embeds=embeddings).logits[0]
            answer = torch.tensor(branch.answer)
            predicting = logits_SV[-len(answer) - 1 : -1]
            losses.append(F.cross_entropy(predicting, answer, reduction="none"))
    return torch.cat(losses).mean()


tokens = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=6).map(tuple)
branches = st.builds(Branch, header=tokens, answer=tokens)
some_rows = st.lists(st.lists(branches, min_size=1, max_size=4), min_size=1, max_size=3)


@settings(max_examples=25, deadline=None)
@given(rows=some_rows)
def test_a_tree_has_the_loss_and_the_gradient_of_its_sequences(
    language_model: Any, rows: list[list[Branch]]
) -> None:
    torch.manual_seed(1)
    features_BND = torch.randn(len(rows), IMAGE_TOKENS, FEATURES)
    projection = Projection(FEATURES, WIDTH)

    plain = loss_one_by_one(language_model, projection(features_BND), rows)
    expected = torch.autograd.grad(plain, list(projection.parameters()))
    loss, label_tokens = Objective(language_model, PREFIX)(projection(features_BND), rows)
    found = torch.autograd.grad(loss, list(projection.parameters()))

    assert label_tokens == sum(len(branch.answer) for row in rows for branch in row)
    torch.testing.assert_close(loss, plain, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_branches_with_one_question_share_its_tokens() -> None:
    row = [Branch((1, 2, 3), (4, 5)), Branch((1, 2, 3), (6,))]
    tree = lay_out([row], prefix=4, image_tokens=2)
    assert tree.tokens_BT.tolist() == [[1, 2, 3, 4, 5, 3, 6]]
    assert tree.positions_BS.tolist() == [[4, 5, 6, 7, 8, 9, 10, 8, 9]]


def test_only_answers_are_labels() -> None:
    rows = [[Branch((1, 2, 3), (4, 5)), Branch((1, 7, 8), (6,))], [Branch((1,), (9,))]]
    tree = lay_out(rows, prefix=4, image_tokens=2)
    assert tree.tokens_BT[0].tolist() == [1, 2, 3, 4, 5, 7, 8, 6]
    nothing = IGNORED
    assert tree.labels_BT[0].tolist() == [nothing, nothing, 4, 5, nothing, nothing, 6, nothing]
    assert tree.labels_BT[1].tolist() == [9] + [nothing] * 7


def test_a_branch_sees_neither_its_neighbours_nor_what_is_to_come() -> None:
    row = [Branch((1, 2), (3,)), Branch((1, 4), (5,))]
    tree = lay_out([row], prefix=1, image_tokens=1)
    # Keys: prefix, picture, trunk (1), first branch (2, 3), second branch (4, 5).
    seen = [[place for place, sees in enumerate(line) if sees] for line in tree.visible_BSK[0].tolist()]
    assert seen == [[0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4], [0, 1, 2, 5], [0, 1, 2, 5, 6]]


def test_the_head_loss_is_cross_entropy_with_its_gradient() -> None:
    torch.manual_seed(2)
    hidden_LD = torch.randn(9, WIDTH, requires_grad=True)
    head_VD, labels_L = torch.randn(VOCABULARY, WIDTH), torch.randint(VOCABULARY, (9,))
    plain = F.cross_entropy(hidden_LD @ head_VD.T, labels_L)
    (expected,) = torch.autograd.grad(plain, hidden_LD)
    loss = AnswerLoss.apply(hidden_LD, head_VD, labels_L)
    (found,) = torch.autograd.grad(loss, hidden_LD)
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(found, expected)


def words_as_tokens(*texts: Text) -> list[int]:
    return [
        zlib.crc32(f"{word}/{text.control}".encode())
        for text in texts
        for word in text.text.replace("\n", " \n ").split(" ")
        if word
    ]


def test_questions_are_cut_as_the_chat_template_cuts_them() -> None:
    layout = ChatLayout(SmolLM2(), words_as_tokens)
    branch = layout.branch("What is this?", "A cat.")
    picture_at = SmolLM2().segments([User("What is this?")])
    whole = [token for segment in picture_at for token in words_as_tokens(segment)]  # type: ignore[arg-type]
    line_after_picture = words_as_tokens(Text("\n", control=True))
    assert [*layout.prefix, *branch.header[len(line_after_picture) :]] == whole
    assert list(branch.header[: len(line_after_picture)]) == line_after_picture


def test_an_answer_ends_with_the_end_token() -> None:
    layout = ChatLayout(SmolLM2(), words_as_tokens)
    assert list(layout.branch("", "A cat.").answer) == [
        *words_as_tokens(Text("A cat.")),
        *words_as_tokens(Text("<|im_end|>", control=True)),
    ]
