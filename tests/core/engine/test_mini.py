"""The engine with the real bundle `mini` and real photographs, on both backends."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from minigpt4.core.engine import Backend, Engine
from minigpt4.core.errors import ContextError
from minigpt4.core.prompt import BY_ITSELF, Assistant, Message, SmolLM2, User
from minigpt4.core.types import Sampling, Text

GREEDY = Sampling(max_tokens=24, temperature=0.0, repetition_penalty=1.0)
CONTEXT = 512

needs_llama = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="the extra `llama` is not installed"
)


@pytest.fixture(scope="module", params=["torch", pytest.param("llamacpp", marks=needs_llama)])
def engine(request: pytest.FixtureRequest, mini_home: Path) -> Iterator[Engine]:
    backend: Backend = request.param
    with Engine.load("mini", backend=backend, threads=1, context=CONTEXT) as engine:
        yield engine


@pytest.fixture(autouse=True)
def _nothing_cached(engine: Engine) -> None:
    engine.language.reset()


def talk(engine: Engine, conversation: list[Message], questions: list[User]) -> list[str]:
    answers = []
    for question in questions:
        conversation.append(question)
        answers.append(engine.reply(conversation, GREEDY).read())
        conversation.append(Assistant(answers[-1]))
    return answers


def test_a_photo_is_answered_with_a_sentence(engine: Engine, examples: Path) -> None:
    cat = engine.look(examples / "chelsea.png")
    reply = engine.reply([User("What is in this picture?", images=[cat])], GREEDY)
    pieces = [piece.text for piece in reply]
    assert len(pieces) > 1
    assert "".join(pieces) == reply.text
    assert any(letter.isalpha() for letter in reply.text)
    assert reply.prompt_tokens > len(cat)
    assert reply.first_token_s is not None
    assert reply.tokens_per_s is not None


def test_another_photo_gets_another_answer(engine: Engine, examples: Path) -> None:
    question = "What is in this picture?"
    answers = {
        engine.reply([User(question, images=[engine.look(examples / name)])], GREEDY).read()
        for name in ("chelsea.png", "rocket.jpg")
    }
    assert len(answers) == 2


@pytest.mark.parametrize("template", [SmolLM2(), BY_ITSELF], ids=lambda one: one.name)
def test_several_turns_and_pictures_give_the_same_answers_with_and_without_the_cache(
    engine: Engine, examples: Path, template: SmolLM2, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "template", template)
    cat, coffee = (engine.look(examples / name) for name in ("chelsea.png", "coffee.jpg"))
    questions = [
        User("What is this?", images=[cat]),
        User("And what is this?", images=[coffee]),
        User("Compare the two pictures.", images=[coffee, cat]),
    ]
    conversation: list[Message] = []
    answers = talk(engine, conversation, questions)
    for turn, answer in enumerate(answers):
        engine.language.reset()
        fresh = engine.reply(conversation[: 2 * turn + 1], GREEDY)
        assert fresh.read() == answer
        assert fresh.computed_tokens >= fresh.prompt_tokens


def test_a_follow_up_computes_only_what_is_new(engine: Engine, examples: Path) -> None:
    cat = engine.look(examples / "chelsea.png")
    conversation: list[Message] = [User("What is this?", images=[cat])]
    first = engine.reply(conversation, GREEDY)
    conversation += [Assistant(first.read()), User("What colour is it?")]
    second = engine.reply(conversation, replace(GREEDY, max_tokens=1))
    second.read()
    # New are the question and the marks after it: never the picture.
    question = len(engine.language.tokenize(Text("What colour is it?")))
    assert second.computed_tokens <= question + 8
    assert first.computed_tokens >= first.prompt_tokens
    again = engine.reply(conversation, replace(GREEDY, max_tokens=1))
    again.read()
    assert again.computed_tokens == 1


def test_what_is_computed_while_the_question_is_typed_is_not_computed_again(
    engine: Engine, examples: Path
) -> None:
    cat = engine.look(examples / "chelsea.png")
    one_token = replace(GREEDY, max_tokens=1)
    conversation: list[Message] = []
    for answered, question in enumerate(("What is this?", "42, or what?")):
        assert engine.prepare([*conversation, User("", images=[cat])], one_token)
        ahead = engine.language.computed
        conversation.append(User(question, images=[cat]))
        reply = engine.reply(conversation, one_token)
        answer = reply.read()
        # The picture is the same in both questions, and mini reads each by itself.
        assert ahead > len(cat) if not answered else ahead == 0
        # The rest is the question and the marks around it.
        assert reply.computed_tokens < 20
        engine.language.reset()
        assert engine.reply(conversation, one_token).read() == answer
        conversation.append(Assistant(answer))
    assert not engine.prepare([User("Another"), User("")], cancelled=lambda: True)


def test_what_depends_on_the_questions_length_is_not_computed_ahead(engine: Engine) -> None:
    long: list[Message] = [User("red green blue " * 60), Assistant("Yes. " * 60), User("")]
    before = engine.reply([User("Hi")], replace(GREEDY, max_tokens=1))
    before.read()
    assert engine.prepare(long)
    assert engine.language.computed == before.computed_tokens, "nothing was computed since"


def test_the_twentieth_turn_computes_little_more_than_the_second(engine: Engine, examples: Path) -> None:
    cat = engine.look(examples / "chelsea.png")
    conversation: list[Message] = []
    computed = []
    for turn in range(20):
        conversation.append(User("And now?", images=[] if turn else [cat]))
        reply = engine.reply(conversation, replace(GREEDY, max_tokens=4))
        conversation.append(Assistant(reply.read()))
        assert reply.dropped_messages == 0
        computed.append(reply.computed_tokens)
    assert max(computed[2:]) <= 1.5 * computed[1] < computed[0]


def test_another_picture_in_the_same_place_is_not_mistaken_for_the_first(
    engine: Engine, examples: Path
) -> None:
    def ask(name: str) -> str:
        picture = engine.look(examples / name)
        return engine.reply([User("What is this?", images=[picture])], GREEDY).read()

    warm = [ask("chelsea.png"), ask("rocket.jpg")]
    engine.language.reset()
    assert ask("rocket.jpg") == warm[1]


def test_a_cancel_is_heeded_within_one_token_and_the_next_answer_is_unharmed(
    engine: Engine, examples: Path
) -> None:
    cat = engine.look(examples / "chelsea.png")
    conversation: list[Message] = [User("Describe this image in detail.", images=[cat])]
    whole = engine.reply(conversation, GREEDY).read()
    heard: list[str] = []
    reply = engine.reply(conversation, GREEDY, cancelled=lambda: len(heard) >= 2)
    for piece in reply:
        heard.append(piece.text)
    assert (len(heard), reply.finish) == (2, "cancelled")
    assert whole.startswith(reply.text)
    assert engine.reply(conversation, GREEDY).read() == whole


def test_an_answer_that_was_cut_short_can_be_continued(engine: Engine, examples: Path) -> None:
    cat = engine.look(examples / "chelsea.png")
    question = User("Describe this image in detail.", images=[cat])
    short = engine.reply([question], replace(GREEDY, max_tokens=2))
    assert (short.read() != "", short.finish, short.answer_tokens) == (True, "length", 2)
    more = engine.reply([question, Assistant(short.text)], GREEDY)
    assert more.read()
    # The words already said are in the cache or read again; either way no turn was added.
    assert more.prompt_tokens <= short.prompt_tokens + 2 + 1


@pytest.mark.parametrize("temperature", [0.7, 1.5])
def test_a_seed_repeats_an_answer(engine: Engine, examples: Path, temperature: float) -> None:
    conversation = [User("Tell me more.", images=[engine.look(examples / "coffee.jpg")])]
    sampling = Sampling(max_tokens=12, temperature=temperature, seed=5)
    assert engine.reply(conversation, sampling).read() == engine.reply(conversation, sampling).read()


def test_a_long_conversation_is_trimmed_and_continues(
    engine: Engine, examples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cat = engine.look(examples / "chelsea.png")
    turns: list[Message] = []
    for _ in range(12):
        turns += [User("What is this, in a few words?", images=[cat]), Assistant("A cat on a blanket.")]
    # Each question is read by itself, whatever came before it; a model that reads all turns has to drop some.
    assert engine.reply([*turns, User("And its colour?", images=[cat])], GREEDY).dropped_messages == 0
    monkeypatch.setattr(engine, "template", SmolLM2())
    reply = engine.reply([*turns, User("And its colour?", images=[cat])], GREEDY)
    assert reply.dropped_messages > 0
    assert reply.read()
    assert reply.prompt_tokens + GREEDY.max_tokens <= CONTEXT


def test_a_question_longer_than_the_context_is_one_sentence(engine: Engine) -> None:
    with pytest.raises(ContextError, match=rf"of the model's {CONTEXT} are free"):
        engine.reply([User("why " * 2 * CONTEXT)])


def test_the_beginning_of_its_own_answer_is_likelier_than_another(engine: Engine, examples: Path) -> None:
    cat = engine.look(examples / "chelsea.png")
    question = [User("What is in this picture?", images=[cat])]
    own = engine.reply(question, GREEDY).read()
    found = engine.log_likelihoods(question, [own, "Zebra soup tax form seven", own])
    assert found[0] > found[1]
    assert found[0] == pytest.approx(found[2], abs=1e-3)
