from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt4.core.errors import ContextError
from minigpt4.core.prompt import Assistant, Message, System, User
from minigpt4.core.trim import LEAST_ANSWER, trim
from minigpt4.core.types import ImageEmbedding

PICTURE = ImageEmbedding(np.zeros((16, 2), np.float32), key="a")


def positions(messages: Sequence[Message]) -> int:
    """As a template would count: 4 for the turn's marks, 1 a letter, 17 a picture."""
    pictures = sum(len(message.images) for message in messages if isinstance(message, User))
    return sum(4 + len(message.text) for message in messages) + 17 * pictures


users = st.builds(User, st.text("a", max_size=40), st.lists(st.just(PICTURE), max_size=2))
assistants = st.builds(Assistant, st.text("b", max_size=40))
systems = st.builds(System, st.text("c", max_size=20))


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    leading: list[Message] = draw(st.lists(systems, max_size=1))
    turns = draw(st.lists(st.tuples(users, assistants), max_size=12))
    last: list[Message] = draw(st.one_of(st.tuples(users), st.tuples(users, assistants)).map(list))
    return [*leading, *(message for turn in turns for message in turn), *last]


limits = st.integers(1, 600), st.integers(1, 600)


@given(conversations(), *limits)
def test_what_is_kept_is_the_system_message_and_an_untouched_end_that_starts_with_the_user(
    conversation: list[Message], context: int, max_tokens: int
) -> None:
    try:
        trimmed = trim(conversation, positions, context=context, max_tokens=max_tokens)
    except ContextError:
        return
    leading = 1 if isinstance(conversation[0], System) else 0
    kept = trimmed.messages[leading:]
    assert list(trimmed.messages[:leading]) == conversation[:leading]
    assert isinstance(kept[0], User)
    expected = conversation[leading + trimmed.dropped :]
    assert len(kept) == len(expected)
    assert all(left is right for left, right in zip(kept, expected, strict=True))


@given(conversations(), *limits)
def test_prompt_and_answer_always_fit_the_context(
    conversation: list[Message], context: int, max_tokens: int
) -> None:
    try:
        trimmed = trim(conversation, positions, context=context, max_tokens=max_tokens)
    except ContextError:
        return
    assert positions(trimmed.messages) + trimmed.room <= context
    assert min(max_tokens, LEAST_ANSWER, context // 2) <= trimmed.room <= max_tokens


@given(conversations(), *limits)
def test_no_more_is_dropped_than_the_answer_needs(
    conversation: list[Message], context: int, max_tokens: int
) -> None:
    try:
        trimmed = trim(conversation, positions, context=context, max_tokens=max_tokens)
    except ContextError:
        return
    if trimmed.dropped:
        leading = 1 if isinstance(conversation[0], System) else 0
        earlier = max(
            index
            for index, message in enumerate(conversation[: leading + trimmed.dropped])
            if isinstance(message, User)
        )
        longer = [*conversation[:leading], *conversation[earlier:]]
        assert positions(longer) > context - min(max_tokens, context // 2)


@given(conversations(), *limits)
def test_only_a_last_message_that_leaves_no_room_for_an_answer_is_refused(
    conversation: list[Message], context: int, max_tokens: int
) -> None:
    leading = 1 if isinstance(conversation[0], System) else 0
    last = max(index for index, message in enumerate(conversation) if isinstance(message, User))
    needed = positions([*conversation[:leading], *conversation[last:]])
    free = context - min(max_tokens, LEAST_ANSWER, context // 2)
    try:
        trim(conversation, positions, context=context, max_tokens=max_tokens)
    except ContextError as error:
        assert needed > free
        assert str(needed) in str(error)
        assert str(free) in str(error)
    else:
        assert needed <= free


def test_a_conversation_that_fits_is_left_as_it_is() -> None:
    conversation: list[Message] = [
        User("What is this?", images=[PICTURE]),
        Assistant("A cat."),
        User("Sure?"),
    ]
    trimmed = trim(conversation, positions, context=1000, max_tokens=100)
    assert (trimmed.messages, trimmed.dropped, trimmed.room) == (tuple(conversation), 0, 100)


def test_the_oldest_turn_goes_first_and_the_pictures_of_the_rest_stay() -> None:
    old, answer = User("o" * 50, images=[PICTURE]), Assistant("A cat.")
    kept = User("And this?", images=[PICTURE, PICTURE])
    trimmed = trim([System("Brief."), old, answer, kept], positions, context=100, max_tokens=20)
    assert trimmed.messages == (System("Brief."), kept)
    assert trimmed.dropped == 2
    assert trimmed.messages[1] is kept


def test_a_long_last_message_takes_from_the_answers_reserve_before_it_is_refused() -> None:
    trimmed = trim([User("q" * 500)], positions, context=600, max_tokens=300)
    assert trimmed.room == 600 - 504
    with pytest.raises(ContextError, match=r"takes 604 positions .* 568 of the model's 600 are free"):
        trim([User("q" * 600)], positions, context=600, max_tokens=300)
