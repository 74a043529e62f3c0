"""The KV cache across conversations, branches and edits, over a model whose cache is a list of keys."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from minigpt4.core.language.base import Cancelled, LanguageModel, Positions
from minigpt4.core.language.kept_states import LEAST_GAIN, KeptState, KeptStates, Key, pays, shared_length
from minigpt4.core.types import ImageEmbedding, PromptPiece, ResolvedSampling, Text

VOCABULARY = 7
GREEDY = ResolvedSampling(max_tokens=4).greedy()


class Keys(LanguageModel):
    """The logits follow from all keys in the cache."""

    width = 2

    def __init__(self) -> None:
        super().__init__(CONTEXT)
        self.cache: list[Key] = []

    def tokenize(self, *texts: Text) -> list[int]:
        raise NotImplementedError

    def piece(self, token: int) -> bytes:
        raise NotImplementedError

    def is_end(self, token: int) -> bool:
        return token == 0

    def close(self) -> None: ...

    def _crop_cache(self, length: int) -> None:
        del self.cache[length:]

    def _copy_cache(self) -> list[Key]:
        return list(self.cache)

    def _restore_cache(self, copy: list[Key]) -> bool:
        self.cache = list(copy)
        return True

    def _forward(self, positions: Positions, cancelled: Cancelled) -> NDArray[np.float32]:
        self.cache += positions.keys
        seed = sum(hash(key) * place for place, key in enumerate(self.cache, 1))
        return np.random.default_rng(abs(seed)).normal(size=VOCABULARY).astype(np.float32)

    def is_consistent(self) -> bool:
        return self.cache == self._cached


CONTEXT = 400
COPIED = 40
"""Positions of a block that are worth a copy."""


def block(letter: int, length: int = COPIED) -> list[PromptPiece]:
    """A message of a conversation; equal letters give equal ones."""
    return [(letter + place) % 7 for place in range(length)]


def talk(*letters: int) -> list[PromptPiece]:
    return [piece for letter in letters for piece in block(letter)]


blocks = st.one_of(
    st.integers(0, 2).map(block),
    st.integers(0, 2).map(lambda letter: block(letter, length=3)),
    st.sampled_from(["cat", "dog"]).map(
        lambda key: [ImageEmbedding(np.zeros((COPIED, 2), dtype=np.float32), key)]
    ),
)
conversations = st.lists(blocks, min_size=1, max_size=7).map(
    lambda parts: [piece for part in parts for piece in part]
)


@given(st.lists(conversations, min_size=2, max_size=8))
def test_kept_states_change_nothing_but_the_work(prompts: list[list[PromptPiece]]) -> None:
    kept = Keys()
    for prompt in prompts:
        fresh = Keys()
        assert list(kept.generate(prompt, GREEDY)) == list(fresh.generate(prompt, GREEDY))
        assert kept.computed <= fresh.computed
        assert kept.is_consistent()
        assert kept._states.positions <= CONTEXT // 2


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=60), max_size=9))
def test_no_kept_state_holds_only_the_beginning_of_another(added: list[list[Key]]) -> None:
    states = KeptStates(100)
    for keys in added:
        states.keep(KeptState(keys, None))
        assert states.positions <= 100
        assert states._states[-1].keys == keys, "the newest is never the one that is dropped"
    for one in states._states:
        shared = [shared_length(one.keys, other.keys) for other in states._states if other is not one]
        later = states._states[states._states.index(one) + 1 :]
        assert all(shared_length(one.keys, other.keys) < len(one.keys) for other in later)
        found = states.nearest(one.keys)
        assert found is not None and found[1] == len(one.keys) >= max(shared, default=0)


def test_a_conversation_that_is_opened_again_computes_only_what_is_new() -> None:
    model = Keys()
    model.logits(talk(1, 2))
    model.logits(talk(3))
    model.logits([*talk(1, 2), 5, 5, 5])
    assert model.computed == 3
    model.logits([*talk(3), 5])
    assert model.computed == 1


def test_both_branches_of_a_conversation_are_kept() -> None:
    model = Keys()
    model.logits(talk(1, 2, 3))
    model.logits(talk(1, 4))
    assert model.computed == COPIED
    for branch in ((1, 2, 3), (1, 4), (1, 2, 3)):
        model.logits([*talk(*branch), 6])
        assert model.computed == 1


def test_an_edit_that_is_taken_back_costs_nothing() -> None:
    model = Keys()
    model.logits(talk(1, 2, 3))
    model.logits([*talk(1), 6, 6])
    model.logits([*talk(1, 2, 3), 6])
    assert model.computed == 1


def test_what_is_computed_sooner_than_copied_is_not_kept() -> None:
    model = Keys()
    for ending in range(5):
        model.logits([*talk(1, 2), *block(ending, LEAST_GAIN - 1)])
    assert model._states.positions == 0
    assert pays(LEAST_GAIN, copied=1000)
    assert not pays(LEAST_GAIN - 1, copied=LEAST_GAIN - 1)
    assert not pays(LEAST_GAIN, copied=10_000)


def test_the_least_recently_used_conversation_is_forgotten_first() -> None:
    model = Keys()  # room for two of three, beside the one in the cache
    for letter in (1, 2, 3):
        model.logits(talk(letter, letter))
    model.logits(talk(1, 1))
    assert model.computed == 1
    model.logits(talk(4, 4))
    model.logits(talk(1, 1))
    assert model.computed == 1
    model.logits(talk(2, 2))
    assert model.computed == 2 * COPIED


def test_of_a_conversation_longer_than_what_is_kept_the_beginning_is() -> None:
    model = Keys()
    long = talk(1, 2, 3, 4, 5, 6, 1, 2)
    model.logits(long)
    model.logits(talk(6))
    model.logits(long)
    assert model.computed == len(long) - CONTEXT // 2


def test_a_copy_that_cannot_be_restored_is_computed_anew() -> None:
    class Failing(Keys):
        def _restore_cache(self, copy: list[Key]) -> bool:
            self.cache = []
            return False

    model = Failing()
    model.logits(talk(1, 2))
    model.logits(talk(3))
    assert np.array_equal(model.logits(talk(1, 2)), Keys().logits(talk(1, 2)))
    assert model.computed == 2 * COPIED
    assert model.is_consistent()


@pytest.mark.parametrize("broken", ["_copy_cache", "_restore_cache"])
def test_an_interrupt_while_a_state_is_copied_empties_the_cache(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    model = Keys()
    model.logits(talk(1, 2))
    model.logits(talk(3))
    with monkeypatch.context() as patch:
        patch.setattr(model, broken, interrupt)
        with pytest.raises(KeyboardInterrupt):
            model.logits(talk(1, 2))
    assert model.cache == [] and model.is_consistent()
    assert np.array_equal(model.logits(talk(1, 2)), Keys().logits(talk(1, 2)))


def test_forgetting_forgets_everything() -> None:
    model = Keys()
    model.logits(talk(1, 2))
    model.logits(talk(3))
    model.reset()
    model.logits(talk(1, 2))
    assert model.computed == 2 * COPIED
