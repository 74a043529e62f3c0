"""Packed rows: positions, attention masks and labels."""

from __future__ import annotations

from itertools import product

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from minigpt4.train.packing.pack import Packed, PadRows, UnpadRows, pack, packed_length
from minigpt4.train.packing.sequence import Continuation

tokens = st.lists(st.integers(0, 9), max_size=5).map(tuple)
answers = st.lists(st.integers(0, 9), min_size=1, max_size=5).map(tuple)
continuations = st.builds(Continuation, prompt=tokens, answer=answers)
some_trees = st.lists(st.lists(continuations, min_size=1, max_size=4), min_size=1, max_size=4)
PREFIX, IMAGE_TOKENS = 3, 2


def read_by(packed: Packed, place: int, trees: int) -> list[int]:
    """The row's positions that the one at `place` attends to, without the prefix."""
    length = packed.visible_BQK.shape[1]
    tree, line = divmod(int(packed.indices_S[place]), length)
    rows = {int(where): row for row, where in enumerate(packed.indices_S)}
    visible = packed.visible_BQK[tree, line, PREFIX:]
    return [rows[tree * length + at] for at in torch.nonzero(visible).flatten().tolist()]


@settings(max_examples=60)
@given(trees=some_trees)
def test_every_answer_attends_only_to_its_own_sequence(
    trees: list[list[Continuation]],
) -> None:
    packed = pack(trees, prefix=PREFIX, image_tokens=IMAGE_TOKENS)
    images = len(trees) * IMAGE_TOKENS
    predicted = iter(zip(packed.predicting_L.tolist(), packed.labels_L.tolist(), strict=True))
    for number, tree in enumerate(trees):
        own_image = [number * IMAGE_TOKENS + at for at in range(IMAGE_TOKENS)]
        for continuation in tree:
            whole = [*continuation.prompt, *continuation.answer]
            for at, label in enumerate(continuation.answer):
                place, found = next(predicted)
                read = read_by(packed, place, len(trees))
                before = whole[: len(continuation.prompt) + at]
                assert found == label
                assert read[:IMAGE_TOKENS] == own_image
                assert [int(packed.tokens_T[row - images]) for row in read[IMAGE_TOKENS:]] == before
                # Positions are consecutive, as if the sequence were alone.
                positions = packed.positions_S[read].tolist()
                assert positions == list(range(PREFIX, PREFIX + IMAGE_TOKENS + len(before)))
    assert next(predicted, None) is None


@given(trees=some_trees)
def test_a_packed_row_has_no_padding(trees: list[list[Continuation]]) -> None:
    packed = pack(trees, prefix=PREFIX, image_tokens=IMAGE_TOKENS)
    assert len(packed.tokens_T) == sum(map(packed_length, trees))
    assert len(packed.positions_S) == len(trees) * IMAGE_TOKENS + len(packed.tokens_T)
    assert len(set(packed.indices_S.tolist())) == len(packed.indices_S)
    assert bool(packed.visible_BQK[:, :, :PREFIX].all())


def test_shared_prompt_tokens_are_packed_once() -> None:
    tree = [Continuation((1, 2, 3), (7, 8)), Continuation((1, 2, 4), (9,)), Continuation((1, 2), (5, 6))]
    packed = pack([tree], prefix=0, image_tokens=1)
    assert packed.tokens_T.tolist() == [1, 2, 3, 7, 4, 5]
    assert packed.positions_S.tolist() == [0, 1, 2, 3, 4, 3, 3]
    assert packed.labels_L.tolist() == [7, 8, 9, 5, 6]
    # The third prompt is the shared one itself, whose last token predicts.
    assert packed.predicting_L.tolist() == [3, 4, 5, 2, 6]


def test_the_image_s_last_position_predicts_the_first_token() -> None:
    packed = pack([[Continuation((), (7, 8)), Continuation((), (9,))]], prefix=0, image_tokens=2)
    assert packed.predicting_L.tolist() == [1, 2, 1]
    assert packed.tokens_T.tolist() == [7]


@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_padding_and_unpadding_is_the_identity_also_for_gradients(lengths: list[int]) -> None:
    longest = max(lengths)
    places = [number * longest + at for number, length in enumerate(lengths) for at in range(length)]
    indices_S = torch.tensor(places)[torch.randperm(len(places))]
    rows_S = torch.randn(len(places), 3, dtype=torch.float64, requires_grad=True)

    def apart(rows: Tensor) -> Tensor:
        return PadRows.apply(rows, indices_S, len(lengths) * longest)  # type: ignore[no-any-return]

    def together(rows: Tensor) -> Tensor:
        return UnpadRows.apply(rows, indices_S)  # type: ignore[no-any-return]

    assert torch.equal(together(apart(rows_S)), rows_S)
    empty = [place for place in range(len(lengths) * longest) if place not in places]
    assert not apart(rows_S)[empty].any()
    assert torch.autograd.gradcheck(apart, (rows_S,))
    rows = torch.randn(len(lengths) * longest, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(together, (rows,))


def test_samples_of_any_lengths_can_be_packed() -> None:
    prompts, counts = ((), (1,), (1, 2)), (1, 3)
    trees = [
        [Continuation(prompt, (5,) * (1 + at)) for at in range(count)]
        for prompt, count in product(prompts, counts)
    ]
    packed = pack(trees, prefix=1, image_tokens=2)
    assert packed.visible_BQK.shape == (
        6,
        2 + max(map(packed_length, trees)),
        1 + 2 + max(map(packed_length, trees)),
    )
