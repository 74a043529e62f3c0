"""The plain chat's own conduct, with an engine that says what it is told to."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minigpt4.core.errors import ContextError
from minigpt4.core.language.protocol import ImageEmbedding, Sampling
from minigpt4.core.pixels import Picture
from minigpt4.core.prompt import Assistant, Message, User
from minigpt4.core.reply import Piece
from minigpt4.tui.plain import PlainChat


@dataclass
class ScriptedReply:
    """A reply of given pieces that heeds the cancel signal as a real one does."""

    pieces: Sequence[str]
    finish_with: str
    dropped_messages: int
    cancelled: Callable[[], bool]
    text: str = ""
    finish: str | None = None
    answer_tokens: int = 0

    def __iter__(self) -> Iterator[Piece]:
        for piece in self.pieces:
            if self.cancelled():
                self.finish = "cancelled"
                return
            self.text += piece
            self.answer_tokens += 1
            yield Piece(piece)
            if piece.endswith("^C"):
                os.kill(os.getpid(), signal.SIGINT)
        self.finish = self.finish_with


@dataclass
class ScriptedEngine:
    """Answers with `pieces`; remembers what it was asked."""

    pieces: Sequence[str] = ("A ", "cat.")
    finish: str = "stop"
    dropped: int = 0
    error: Exception | None = None
    asked: list[list[Message]] = field(default_factory=list)

    def look(self, source: Picture) -> ImageEmbedding:
        return ImageEmbedding(np.zeros((1, 1), np.float32), key=source.name)

    def reply(
        self,
        conversation: Sequence[Message],
        sampling: Sampling | None = None,
        *,
        cancelled: Callable[[], bool] | None = None,
    ) -> ScriptedReply:
        del sampling
        if self.error:
            raise self.error
        self.asked.append(list(conversation))
        return ScriptedReply(self.pieces, self.finish, self.dropped, cancelled or (lambda: False))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "my cat.png"
    Image.new("RGB", (30, 20)).save(path)
    return path


def chat_with(engine: ScriptedEngine) -> PlainChat:
    return PlainChat(engine, Sampling())  # type: ignore[arg-type]


def test_a_turn_is_remembered_with_its_pictures(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = ScriptedEngine()
    chat = chat_with(engine)
    assert chat.take(f"/image {photo}\n")
    assert chat.take("What is this?\n")
    assert chat.take("And where?\n")
    out, err = capsys.readouterr()
    assert out == "A cat.\nA cat.\n"
    assert err == "Added my cat.png, 30 x 20 pixels.\n"
    first, answer, second = engine.asked[1]
    assert isinstance(first, User)
    assert isinstance(second, User)
    assert [image.key for image in first.images] == ["my cat.png"]
    assert answer == Assistant("A cat.")
    assert second == User("And where?")


def test_several_pictures_go_with_one_message(photo: Path) -> None:
    engine = ScriptedEngine()
    chat = chat_with(engine)
    chat.take(f'/image "{photo}" "{photo}"')
    chat.take("Which is older?")
    assert isinstance(engine.asked[0][0], User)
    assert len(engine.asked[0][0].images) == 2


def test_a_dropped_file_is_attached_though_it_begins_with_a_slash(photo: Path) -> None:
    chat = chat_with(ScriptedEngine())
    chat.take(str(photo).replace(" ", "\\ "))
    assert len(chat.pending) == 1


def test_clear_forgets_the_conversation_and_pictures(photo: Path) -> None:
    engine = ScriptedEngine()
    chat = chat_with(engine)
    chat.take(f"/image {photo}")
    chat.take("What is this?")
    chat.take(f"/image {photo}")
    chat.take("/clear")
    chat.take("Hello?")
    assert engine.asked[-1] == [User("Hello?")]


def test_an_interrupted_answer_ends_and_is_kept(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setattr("minigpt4.tui.plain._at_terminal", lambda: True)
    chat = chat_with(ScriptedEngine(pieces=("It is ", "a^C", " never said")))
    assert chat.take("What is this?")
    out, err = capsys.readouterr()
    assert out == "It is a^C\n"
    assert "Stopped" in err
    assert chat.conversation[-1] == Assistant("It is a^C")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_ends_a_script(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("one\ntwo\n"))
    engine = ScriptedEngine(pieces=("so^C", " never said"))
    with pytest.raises(KeyboardInterrupt):
        chat_with(engine).run()
    assert capsys.readouterr().out == "so^C\n"
    assert len(engine.asked) == 1


def test_a_trimmed_conversation_is_told_once_for_each_further_loss(
    capsys: pytest.CaptureFixture[str],
) -> None:
    engine = ScriptedEngine(dropped=2)
    chat = chat_with(engine)
    chat.take("one")
    chat.take("two")
    assert capsys.readouterr().err.count("2 oldest messages were left out") == 1
    engine.dropped = 4
    chat.take("three")
    assert "4 oldest messages were left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("limit", "reason"), [(2, "--max-tokens allows more"), (50, "the model's context is full")]
)
def test_an_answer_that_ran_to_a_limit_says_which(
    capsys: pytest.CaptureFixture[str], limit: int, reason: str
) -> None:
    chat = PlainChat(ScriptedEngine(finish="length"), Sampling(max_tokens=limit))  # type: ignore[arg-type]
    chat.take("Go on")
    assert reason in capsys.readouterr().err


def test_a_refused_message_leaves_no_trace_and_keeps_its_pictures(
    photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = ScriptedEngine(error=ContextError("Too long; shorten it."))
    chat = chat_with(engine)
    chat.take(f"/image {photo}")
    assert chat.take("word " * 5000)
    assert capsys.readouterr().err.endswith("minigpt4: Too long; shorten it.\n")
    assert chat.conversation == []
    assert len(chat.pending) == 1


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("/imgae a.jpg", "There is no command /imgae; did you mean /image?"),
        ("/xyzzy", "There is no command /xyzzy; /help lists what there is."),
        ("/image", "/image needs the path of a picture, as in `/image photo.jpg`."),
        ("/image no.jpg", "There is no file 'no.jpg'; check the path."),
    ],
)
def test_a_slip_is_one_line_and_the_chat_goes_on(
    capsys: pytest.CaptureFixture[str], line: str, sentence: str
) -> None:
    chat = chat_with(ScriptedEngine())
    assert chat.take(line)
    assert capsys.readouterr().err == f"minigpt4: {sentence}\n"
    assert chat.failures == 1


@pytest.mark.parametrize(("added", "advice"), [(True, "Ask about what you added"), (False, "/image PATH")])
def test_the_first_line_says_how_to_begin(
    photo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, added: bool, advice: str
) -> None:
    monkeypatch.setattr("minigpt4.tui.plain._at_terminal", lambda: True)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    chat = chat_with(ScriptedEngine())
    if added:
        chat.take(f"/image {photo}")
    assert chat.run() == 0
    assert advice in capsys.readouterr().err


def test_help_names_the_commands_and_blank_lines_are_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    engine = ScriptedEngine()
    chat = chat_with(engine)
    chat.take("/help")
    chat.take("  \n")
    helped = capsys.readouterr().err
    assert all(name in helped for name in ("/image", "/clear", "/help", "/quit"))
    assert engine.asked == []


@pytest.mark.parametrize(("lines", "code"), [("one\n\n/quit\ntwo\n", 0), ("/image no.jpg\none\n", 1)])
def test_through_a_pipe_answers_alone_are_on_stdout(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, lines: str, code: int
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    assert chat_with(ScriptedEngine()).run() == code
    assert capsys.readouterr().out == "A cat.\n"
