"""Answers that are decoded together are those that are decoded alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from minigpt4.core.batch.replies import BEGUN_AT_ONCE, SLOTS, replies
from minigpt4.core.engine import Engine
from minigpt4.core.errors import ContextError, ImageError, Minigpt4Error
from minigpt4.core.prompt import Message, User
from minigpt4.core.reply import Reply
from minigpt4.core.types import ImageEmbedding, Sampling

pytest.importorskip("llama_cpp")

CONTEXT = 320
LIMIT = 8
GREEDY = Sampling(max_tokens=LIMIT, temperature=0.0, repetition_penalty=1.0)
DRAWN = Sampling(max_tokens=LIMIT, temperature=1.5, top_p=1.0, top_k=0, seed=7)


@pytest.fixture(scope="module")
def engine(mini_home: Path) -> Iterator[Engine]:
    with Engine.load("mini", backend="llamacpp", device="cpu", threads=1, context=CONTEXT) as engine:
        yield engine


@pytest.fixture(scope="module")
def pictures(engine: Engine) -> list[ImageEmbedding]:
    rng = np.random.default_rng(3)
    shape = (engine.bundle.projection.image_tokens, engine.language.width)
    return [
        ImageEmbedding(rng.normal(0, 0.1, shape).astype(np.float32), f"random/{number}")
        for number in range(6)
    ]


def summary(reply: Reply) -> tuple[str, str | None, int, int]:
    return reply.read(), reply.finish, reply.answer_tokens, reply.prompt_tokens


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_answers_are_the_same_together_and_alone(
    engine: Engine, pictures: list[ImageEmbedding], sampling: Sampling
) -> None:
    """Prompts of several lengths: one too long for the slots, one for the context, and more than slots."""
    questions = ["What is it?", "Where?", "Describe it in detail. " * 4, "Who is it, and why?"]
    asked: list[list[Message]] = [
        [User(questions[number % len(questions)], images=[pictures[number % len(pictures)]])]
        for number in range(SLOTS + 3)
    ]
    alone = [summary(engine.reply(one, sampling)) for one in asked]
    assert len({text for text, *_ in alone}) > 3
    too_long = [User("word " * CONTEXT)]
    no_picture = ImageError("It is no picture.")
    given = [no_picture, *asked[:4], too_long, *asked[4:], no_picture]
    with closing(replies(engine, given, sampling)) as made:
        together = [summary(one) if isinstance(one, Reply) else one for one in made]
    assert together[0] is together[-1] is no_picture
    assert isinstance(together.pop(5), ContextError)
    assert together[1:-1] == alone


def test_the_prompts_common_beginning_is_computed_once(
    engine: Engine, pictures: list[ImageEmbedding]
) -> None:
    asked = [[User("What is it?", images=[one])] for one in pictures]
    made = [one for one in replies(engine, asked, GREEDY) if isinstance(one, Reply) and summary(one)]
    first, *others = [reply.computed_tokens - reply.answer_tokens for reply in made]
    assert len(others) == len(pictures) - 1
    assert max(others) < first - 10


def test_the_first_answer_waits_for_few_others(engine: Engine, pictures: list[ImageEmbedding]) -> None:
    taken = []

    def asked() -> Iterator[list[Message] | Minigpt4Error]:
        for number, picture in enumerate(pictures):
            taken.append(number)
            yield [User("What is it?", images=[picture])]

    with closing(replies(engine, asked(), GREEDY)) as made:
        first = next(made)
        assert isinstance(first, Reply)
        assert next(iter(first)).text
        assert len(taken) <= 1 + BEGUN_AT_ONCE


def test_nothing_is_begun_once_it_is_cancelled(engine: Engine, pictures: list[ImageEmbedding]) -> None:
    finished: list[str | None] = []
    asked = [[User("What is it?", images=[one])] for one in pictures * 5]
    for one in replies(engine, asked, GREEDY, cancelled=lambda: bool(finished)):
        assert isinstance(one, Reply)
        one.read()
        finished.append(one.finish)
    assert finished[0] in ("stop", "length")
    assert set(finished[1:]) <= {"cancelled"}
    assert len(finished) < len(asked)


def test_the_times_are_those_of_decoding_and_not_of_reading(
    engine: Engine, pictures: list[ImageEmbedding]
) -> None:
    asked = [[User("Describe it.", images=[one])] for one in pictures[:3]]
    for one in replies(engine, asked, GREEDY):
        assert isinstance(one, Reply) and one.read()
        assert one.first_token_s is not None and one.first_token_s > 0.001
        if one.answer_tokens > 1:
            assert one.tokens_per_s is not None and 0 < one.tokens_per_s < 10_000


def test_without_memory_for_two_they_are_decoded_one_by_one(
    engine: Engine, pictures: list[ImageEmbedding], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [[User("What is it?", images=[one])] for one in pictures[:2]]
    alone = [summary(engine.reply(one, GREEDY)) for one in asked]
    monkeypatch.setattr("minigpt4.core.language.llamacpp_slots.free_memory", lambda: 1 << 20)
    assert engine.language.slots(SLOTS, 100) is None
    assert [summary(one) for one in replies(engine, asked, GREEDY) if isinstance(one, Reply)] == alone
