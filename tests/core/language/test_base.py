"""The cache's book-keeping and the decoding loop, over a model that is a few lines of arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from minigpt4.core.errors import BackendError, BundleError, ContextError, UsageError
from minigpt4.core.language.base import CHUNK, Cancelled, LanguageModel, Positions
from minigpt4.core.language.kept_states import Key
from minigpt4.core.types import ImageEmbedding, PromptPiece, ResolvedSampling, Text

VOCABULARY = 7
END = 0
GREEDY = ResolvedSampling(max_tokens=6).greedy()


class Arithmetic(LanguageModel):
    """The logits depend on every position before, as a real model's do."""

    width = 2

    def __init__(self, context: int = 2000) -> None:
        super().__init__(context)
        self.cache: list[Key] = []
        self.break_after: int | None = None

    def tokenize(self, *texts: Text) -> list[int]:
        return [ord(character) % VOCABULARY for text in texts for character in text.text]

    def piece(self, token: int) -> bytes:
        return str(token).encode()

    def is_end(self, token: int) -> bool:
        return token == END

    def close(self) -> None: ...

    def _crop_cache(self, length: int) -> None:
        del self.cache[length:]

    def _copy_cache(self) -> list[Key]:
        return list(self.cache)

    def _restore_cache(self, copy: list[Key]) -> bool:
        self.cache = list(copy)
        return True

    def _forward(self, positions: Positions, cancelled: Cancelled) -> NDArray[np.float32] | None:
        assert len(positions) == len(positions.keys) == sum(map(len, positions.runs)) <= CHUNK
        for key in positions.keys:
            if cancelled():
                return None
            if self.break_after is not None and len(self.cache) >= self.break_after:
                raise KeyboardInterrupt
            self.cache.append(key)
        state = 17
        for key in self.cache:
            number = key if isinstance(key, int) else sum(map(ord, key[0])) * 31 + key[1]
            state = (state * 1103515245 + number + 12345) % 2**31
        return np.random.default_rng(state).normal(size=VOCABULARY).astype(np.float32)

    def is_consistent(self) -> bool:
        return self.cache == self._cached


def picture(key: str, length: int) -> ImageEmbedding:
    return ImageEmbedding(np.zeros((length, 2), dtype=np.float32), key)


pieces = st.one_of(
    st.integers(0, VOCABULARY - 1), st.builds(picture, st.sampled_from(["cat", "dog"]), st.integers(1, 4))
)
prompts = st.lists(pieces, min_size=1, max_size=8)


@given(st.lists(st.tuples(prompts, st.integers(0, 5)), min_size=1, max_size=6))
def test_answers_never_depend_on_what_the_cache_holds(calls: list[tuple[list[PromptPiece], int]]) -> None:
    kept = Arithmetic()
    for prompt, stop_after in calls:
        expected = list(Arithmetic().generate(prompt, GREEDY))[:stop_after]
        answer: list[int] = []
        generator = kept.generate(prompt, GREEDY)
        for token, _ in zip(generator, range(stop_after), strict=False):
            answer.append(token)
        generator.close()  # type: ignore[attr-defined]
        assert answer == expected
        assert kept.is_consistent()
        assert np.array_equal(kept.logits(prompt), Arithmetic().logits(prompt))


def test_only_what_follows_the_shared_prefix_is_computed() -> None:
    model = Arithmetic()
    cat = picture("cat", 4)
    model.logits([1, 2, cat, 3])
    assert model.computed == 7
    model.logits([1, 2, cat, 3, 4, 5])
    assert model.computed == 2
    model.logits([1, 2, cat, 3, 4, 5])
    assert model.computed == 1, "the last position is computed anew, for its logits"
    model.logits([1, 2, picture("dog", 4), 3, 4, 5])
    assert model.computed == 7


def test_the_next_turn_reuses_the_answer_too() -> None:
    model = Arithmetic()
    prompt: list[PromptPiece] = [1, 2, 3]
    answer = list(model.generate(prompt, GREEDY))
    assert model.computed == len(prompt) + min(len(answer), GREEDY.max_tokens - 1)
    model.logits([*prompt, *answer, 5, 5])
    assert model.computed <= 3


@pytest.mark.parametrize("position", [0, 1, CHUNK, 3 * CHUNK - 1])
def test_a_cancel_interrupts_the_prompt_and_leaves_the_chunks_before_it(position: int) -> None:
    model = Arithmetic(context=10 * CHUNK)
    prompt = [1] * (5 * CHUNK)
    assert list(model.generate(prompt, GREEDY, lambda: len(model.cache) >= position)) == []
    assert model.computed == len(model.cache) == position // CHUNK * CHUNK
    assert model.is_consistent()
    assert list(model.generate(prompt, GREEDY)) == list(Arithmetic(10 * CHUNK).generate(prompt, GREEDY))


def test_a_prompt_computed_ahead_is_not_computed_again() -> None:
    model = Arithmetic()
    assert model.prefill([1, 2, 3])
    assert model.computed == 3
    model.logits([1, 2, 3, 4, 5])
    assert model.computed == 2
    assert model.prefill([1, 2, 3])
    assert (model.computed, len(model.cache)) == (0, 5), "it is there, and what follows it stays"
    assert not model.prefill([4] * CHUNK, lambda: True)
    assert model.is_consistent()


def test_a_cancel_stops_within_one_token() -> None:
    model = Arithmetic()
    seen: list[int] = []
    for token in model.generate([1, 2], ResolvedSampling(max_tokens=50).greedy(), lambda: len(seen) >= 2):
        seen.append(token)
    assert len(seen) == 2
    assert model.is_consistent()


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.integers(0, 20), st.integers(0, 20))
def test_a_part_of_the_positions_holds_the_same_vectors(lengths: list[int], start: int, stop: int) -> None:
    images = [
        ImageEmbedding(np.arange(10 * n, 10 * n + 2 * length, dtype=np.float32).reshape(length, 2), str(n))
        for n, length in enumerate(lengths)
    ]
    whole = Arithmetic()._positions([1, *[piece for image in images for piece in (image, 2, 3)]])
    part = whole[start:stop]

    def flat(positions: Positions) -> list[object]:
        return [tuple(np.atleast_1d(row)) for run in positions.runs for row in run]

    assert part.keys == whole.keys[start:stop]
    assert flat(part) == flat(whole)[start:stop]
    assert len(flat(part)) == len(part)


def test_an_interrupt_in_mid_computation_empties_the_cache() -> None:
    model = Arithmetic()
    model.break_after = 3
    with pytest.raises(KeyboardInterrupt):
        list(model.generate([1, 2, 3, 4, 5], GREEDY))
    assert model.is_consistent()
    model.break_after = None
    assert list(model.generate([1, 2, 3], GREEDY)) == list(Arithmetic().generate([1, 2, 3], GREEDY))


def test_an_interrupt_while_the_cache_is_cut_back_empties_it() -> None:
    class Interrupted(Arithmetic):
        def _crop_cache(self, length: int) -> None:
            super()._crop_cache(length)
            if length:
                raise KeyboardInterrupt

    model = Interrupted()
    model.logits([1, 2, 3])
    with pytest.raises(KeyboardInterrupt):
        model.logits([1, 4, 5])
    assert model.cache == [] and model.is_consistent()


def test_an_answer_ends_where_the_context_does() -> None:
    model = Arithmetic(context=5)
    answer = list(model.generate([1, 2, 3], ResolvedSampling(max_tokens=50, temperature=1.0, seed=2)))
    assert len(answer) <= 3
    assert len(model.cache) <= 5


def test_an_abandoned_answer_cannot_be_continued_over_another() -> None:
    model = Arithmetic()
    first = model.generate([1, 2], ResolvedSampling(max_tokens=9, seed=3))
    next(first)
    model.logits([3, 4])
    with pytest.raises(BackendError, match="another one"):
        list(first)
    assert model.is_consistent()


def test_no_tokens_asked_for_is_no_answer() -> None:
    assert list(Arithmetic().generate([1], ResolvedSampling(max_tokens=0))) == []


def test_prompts_that_cannot_be_answered_are_refused_before_any_token() -> None:
    model = Arithmetic(context=10)
    with pytest.raises(UsageError, match="empty"):
        model.generate([], GREEDY)
    with pytest.raises(ContextError, match=r"takes 11 positions.*has 10"):
        model.generate([1] * 11, GREEDY)
    with pytest.raises(BundleError, match="width 2"):
        model.generate([ImageEmbedding(np.zeros((4, 3), dtype=np.float32), "wide")], GREEDY)


def test_logits_that_are_not_numbers_leave_no_damage_behind() -> None:
    class Broken(Arithmetic):
        def _forward(self, positions: Positions, cancelled: Cancelled) -> NDArray[np.float32]:
            return np.full(VOCABULARY, np.nan, np.float32)

    model = Broken()
    with pytest.raises(BackendError, match="not numbers"):
        list(model.generate([1, 2], GREEDY))
    assert model.cache == [] and model.is_consistent()


def test_a_backend_without_beam_search_names_the_one_that_has_it() -> None:
    with pytest.raises(BackendError, match="torch backend"):
        Arithmetic().beams([1, 2], GREEDY, 3)


def test_a_trace_holds_the_logits_of_the_prompt() -> None:
    model = Arithmetic()
    inputs_SD, logits_V = model.trace([1, 2, picture("cat", 3)])
    assert np.array_equal(logits_V, Arithmetic().logits([1, 2, picture("cat", 3)]))
    assert inputs_SD is None


@given(prompts, st.lists(st.integers(0, VOCABULARY - 1), max_size=4), prompts)
def test_a_likelihood_is_the_product_of_the_tokens_probabilities(
    prompt: list[PromptPiece], continuation: list[int], before: list[PromptPiece]
) -> None:
    expected = 1.0
    for place, token in enumerate(continuation):
        odds = np.exp(Arithmetic().logits([*prompt, *continuation[:place]]).astype(np.float64))
        expected *= odds[token] / odds.sum()
    model = Arithmetic()
    model.logits(before)
    assert np.exp(model.log_likelihood(prompt, continuation)) == pytest.approx(expected)
    assert model.is_consistent()


def test_the_prompt_is_computed_once_for_several_continuations() -> None:
    model = Arithmetic()
    model.log_likelihood([1, 2, picture("cat", 4), 3], [4, 5])
    assert model.computed == 8
    model.log_likelihood([1, 2, picture("cat", 4), 3], [6, 5, 1])
    assert model.computed == 3


def test_a_continuation_that_does_not_fit_is_refused_before_the_work() -> None:
    model = Arithmetic(context=5)
    with pytest.raises(ContextError):
        model.log_likelihood([1, 2, 3], [4, 5, 6])
    assert model.computed == 0
