"""A chat held line by line is kept as the app keeps its own, and keeping it never ends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minigpt4.core.errors import BackendError
from minigpt4.core.pixels import open_picture
from minigpt4.core.prompt import Assistant, User
from minigpt4.core.reply import Piece
from minigpt4.core.types import ResolvedSampling
from minigpt4.tui.cli.chat.plain import PlainChat
from minigpt4.tui.cli.chat.plain_history import Record
from minigpt4.tui.history.store import Store, StoredMessage
from minigpt4.tui.images.attachments import attachment

Chatting = Callable[..., PlainChat]
Scripted = Callable[..., Any]


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store.open()
    yield store
    store.close()


@pytest.fixture
def chatting(store: Store, scripted_engine: Scripted) -> Chatting:
    """A chat that is kept, with a scripted engine."""

    def begin(engine: Any = None, **facts: Any) -> PlainChat:
        record = Record(store, bundle="mini", **facts)
        return PlainChat(engine or scripted_engine(), ResolvedSampling(), record=record)

    return begin


def kept(store: Store) -> list[StoredMessage]:
    """The path of the only conversation."""
    (info,) = store.conversations(10)
    return store.path(info.id)


def said(store: Store) -> list[tuple[str, str, str]]:
    return [(message.role, message.text, message.state) for message in kept(store)]


def test_questions_answers_and_pictures_are_kept(chatting: Chatting, store: Store, photo: Path) -> None:
    chat = chatting()
    assert store.conversations(1) == [], "nothing is kept before something is said"
    chat.attach(open_picture(photo), attachment(str(photo)))
    chat.take("What is this?")
    chat.take("And where?")
    assert said(store) == [
        ("user", "What is this?", "done"),
        ("assistant", "A cat.", "done"),
        ("user", "And where?", "done"),
        ("assistant", "A cat.", "done"),
    ]
    question, answer = kept(store)[:2]
    (picture,) = question.pictures
    assert (picture.name, picture.path.read_bytes()) == ("my cat.png", photo.read_bytes())
    assert answer.stats == {
        "bundle": "mini",
        "finish": "stop",
        "answer_tokens": 2,
        "prompt_tokens": 7,
        "first_token_s": 0.25,
    }


def test_clear_begins_another_conversation_and_keeps_the_one_before(chatting: Chatting, store: Store) -> None:
    chat = chatting()
    for line in ("one", "/clear", "two"):
        chat.take(line)
    assert sorted(info.title for info in store.conversations(10)) == ["one", "two"]
    assert {info.messages for info in store.conversations(10)} == {2}


def test_a_stopped_answer_is_kept_as_stopped(
    chatting: Chatting, store: Store, monkeypatch: pytest.MonkeyPatch, scripted_engine: Scripted
) -> None:
    monkeypatch.setattr("minigpt4.tui.cli.chat.plain._at_terminal", lambda: True)
    chat = chatting(scripted_engine(pieces=("It is ", "a^C", " never said")))
    chat.take("What is this?")
    assert said(store)[-1] == ("assistant", "It is a^C", "stopped")


def test_an_answer_that_failed_is_kept_and_the_next_question_takes_its_place(
    chatting: Chatting, store: Store, scripted_engine: Scripted
) -> None:
    engine = scripted_engine(breaks=BackendError("Out of memory."))
    chat = chatting(engine)
    chat.take("one")
    assert said(store) == [("user", "one", "done"), ("assistant", "A cat.", "failed")]
    assert kept(store)[-1].stats["problem"] == "Out of memory."
    engine.breaks = None
    chat.take("two")
    assert said(store) == [("user", "two", "done"), ("assistant", "A cat.", "done")]


def test_a_killed_process_loses_at_most_a_second_of_an_answer(store: Store) -> None:
    now = [0.0]
    record = Record(store, clock=lambda: now[0])
    record.begin("What is this?", [])
    for second, text in ((0.5, "A"), (1.2, "A dog"), (1.9, "A dog run")):
        now[0] = second
        record.grow(text)
    assert said(store)[-1] == ("assistant", "A dog", "writing")


def test_a_chat_continues_if_it_can_no_longer_be_saved(
    chatting: Chatting, store: Store, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reported: list[str] = []
    chat = chatting(on_error=reported.append)
    chat.take("one")
    store.close()
    chat.take(f"/image '{photo}'")
    chat.take("two")
    assert capsys.readouterr().out == "A cat.\nA cat.\n"
    (sentence,) = reported
    assert sentence.endswith("What is said from now on is not kept.")


def test_a_kept_conversation_is_gone_on_with(
    chatting: Chatting,
    store: Store,
    photo: Path,
    capsys: pytest.CaptureFixture[str],
    scripted_engine: Scripted,
) -> None:
    chat = chatting()
    chat.attach(open_picture(photo), attachment(str(photo)))
    chat.take("What is this?")
    (info,) = store.conversations(1)
    engine = scripted_engine()
    again = PlainChat(engine, ResolvedSampling(), record=Record(store, info))
    again.resume(info.title, store.path(info.id))
    again.take("And where?")
    first, answer, second = engine.asked[0]
    assert isinstance(first, User) and len(first.images) == 1
    assert (answer, second) == (Assistant("A cat."), User("And where?"))
    assert [text for _, text, _ in said(store)] == ["What is this?", "A cat.", "And where?", "A cat."]
    assert "Continuing 'What is this?', 2 messages." in capsys.readouterr().err


def test_a_kept_picture_that_is_gone_is_reported_and_skipped(
    chatting: Chatting,
    store: Store,
    photo: Path,
    capsys: pytest.CaptureFixture[str],
    scripted_engine: Scripted,
) -> None:
    chat = chatting()
    chat.attach(open_picture(photo), attachment(str(photo)))
    chat.take("What is this?")
    (info,) = store.conversations(1)
    kept(store)[0].pictures[0].path.unlink()
    engine = scripted_engine()
    again = PlainChat(engine, ResolvedSampling(), record=Record(store, info))
    again.resume(info.title, store.path(info.id))
    again.take("And where?")
    assert engine.asked[0][0] == User("What is this?")
    assert "The kept picture my cat.png cannot be read any more; it is left out." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pieces", "shown"), [(("A cat.",), "The answer was: A cat."), (("\x1b[31m",), "\u241b[31m")]
)
def test_at_a_terminal_the_last_messages_are_shown(
    chatting: Chatting,
    store: Store,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    pieces: tuple[str, ...],
    shown: str,
    scripted_engine: Scripted,
) -> None:
    monkeypatch.setattr("minigpt4.tui.cli.chat.plain._at_terminal", lambda: True)
    chatting(scripted_engine(pieces=pieces)).take("What is this?")
    (info,) = store.conversations(1)
    capsys.readouterr()
    PlainChat(scripted_engine(), ResolvedSampling()).resume(info.title, store.path(info.id))
    reported = capsys.readouterr().err
    assert "You asked: What is this?" in reported and shown in reported
    assert "\x1b[31m" not in reported


def test_reasoning_is_told_on_stderr_and_kept_beside_the_answer(
    store: Store, scripted_engine: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    thought = Piece("A dog?\x1b[31m", is_reasoning=True), Piece(" No.", is_reasoning=True)
    engine = scripted_engine([*thought, "A ", "cat."])
    chat = PlainChat(engine, ResolvedSampling(), record=Record(store, bundle="mini"))
    chat.take("What is this?")
    chat.take("Sure?")
    out, err = capsys.readouterr()
    assert out == "A cat.\nA cat.\n"
    assert err.count("A dog?") == err.count(" No.\n") == 2
    assert "\x1b" not in err
    assert engine.asked[1][1] == Assistant("A cat.")
    (info,) = store.conversations(1)
    answer = store.path(info.id)[1]
    assert (answer.text, answer.stats["reasoning"]) == ("A cat.", "A dog?\x1b[31m No.")
