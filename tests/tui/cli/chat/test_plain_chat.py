"""The plain chat's own conduct, with an engine that says what it is told to."""

from __future__ import annotations

import io
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minigpt4.core.download.fetch import FetchProgress
from minigpt4.core.errors import ContextError
from minigpt4.core.prompt import Assistant, System, User
from minigpt4.core.reply import Piece
from minigpt4.core.types import ResolvedSampling
from minigpt4.tui.cli.chat import line_input, plain
from minigpt4.tui.cli.chat.plain import PlainChat
from minigpt4.tui.cli.progress import showing_progress

Scripted = Callable[..., Any]


def chat_with(engine: Any) -> PlainChat:
    return PlainChat(engine, ResolvedSampling())


def test_a_turn_is_remembered_with_its_pictures(
    photo: Path, capsys: pytest.CaptureFixture[str], scripted_engine: Scripted
) -> None:
    engine = scripted_engine()
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


def test_several_pictures_go_with_one_message(photo: Path, scripted_engine: Scripted) -> None:
    engine = scripted_engine()
    chat = chat_with(engine)
    chat.take(f'/image "{photo}" "{photo}"')
    chat.take("Which is older?")
    assert isinstance(engine.asked[0][0], User)
    assert len(engine.asked[0][0].images) == 2


def test_a_dropped_file_is_attached_though_it_begins_with_a_slash(
    photo: Path, scripted_engine: Scripted
) -> None:
    chat = chat_with(scripted_engine())
    chat.take(str(photo).replace(" ", "\\ "))
    assert len(chat.pending) == 1


def test_the_system_prompt_precedes_every_conversation(scripted_engine: Scripted) -> None:
    engine = scripted_engine()
    chat = PlainChat(engine, ResolvedSampling(), system_prompt="Be brief.")
    for line in ("one", "two", "/clear", "three"):
        chat.take(line)
    assert [messages[0] for messages in engine.asked] == [System("Be brief.")] * 3
    assert engine.asked[-1] == [System("Be brief."), User("three")]


@pytest.mark.parametrize("command", ["/clear", "/new"])
def test_clear_begins_a_conversation_without_the_one_before_and_its_pictures(
    command: str, photo: Path, scripted_engine: Scripted
) -> None:
    engine = scripted_engine()
    chat = chat_with(engine)
    chat.take(f"/image {photo}")
    chat.take("What is this?")
    chat.take(f"/image {photo}")
    chat.take(command)
    chat.take("Hello?")
    assert engine.asked[-1] == [User("Hello?")]


def test_an_interrupted_answer_ends_and_is_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch, scripted_engine: Scripted
) -> None:
    monkeypatch.setattr("minigpt4.tui.cli.chat.plain._at_terminal", lambda: True)
    chat = chat_with(scripted_engine(pieces=("It is ", "a^C", " never said")))
    assert chat.take("What is this?")
    out, err = capsys.readouterr()
    assert out == "It is a^C\n"
    assert "Stopped" in err
    assert chat.conversation[-1] == Assistant("It is a^C")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_ends_a_script(
    capsys: pytest.CaptureFixture[str], monkeypatch, scripted_engine: Scripted
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("one\ntwo\n"))
    engine = scripted_engine(pieces=("so^C", " never said"))
    with pytest.raises(KeyboardInterrupt):
        chat_with(engine).run()
    assert capsys.readouterr().out == "so^C\n"
    assert len(engine.asked) == 1


def test_a_trimmed_conversation_is_reported_once_for_each_further_loss(
    capsys: pytest.CaptureFixture[str], scripted_engine: Scripted
) -> None:
    engine = scripted_engine(dropped=2)
    chat = chat_with(engine)
    chat.take("one")
    chat.take("two")
    assert capsys.readouterr().err.count("2 oldest messages were left out") == 1
    engine.dropped = 4
    chat.take("three")
    assert "4 oldest messages were left out" in capsys.readouterr().err


@pytest.mark.parametrize(("limit", "reason"), [(2, "/continue goes on"), (50, "the model's context is full")])
def test_an_answer_that_ran_to_a_limit_says_which(
    capsys: pytest.CaptureFixture[str], limit: int, reason: str, scripted_engine: Scripted
) -> None:
    chat = PlainChat(scripted_engine(finish="length"), ResolvedSampling(max_tokens=limit))
    chat.take("Go on")
    assert reason in capsys.readouterr().err


def test_a_refused_message_leaves_no_trace_and_keeps_its_pictures(
    photo: Path, capsys: pytest.CaptureFixture[str], scripted_engine: Scripted
) -> None:
    engine = scripted_engine(error=ContextError("Too long; shorten it."))
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
        ("/xyzzy", "There is no command /xyzzy; /help lists the commands."),
        ("/image", "/image needs the path of a picture, as in `/image photo.jpg`."),
        ("/image no.jpg", "There is no file 'no.jpg'; check the path."),
    ],
)
def test_a_slip_is_one_line_and_the_chat_continues(
    capsys: pytest.CaptureFixture[str], line: str, sentence: str, scripted_engine: Scripted
) -> None:
    chat = chat_with(scripted_engine())
    assert chat.take(line)
    assert capsys.readouterr().err == f"minigpt4: {sentence}\n"
    assert chat.failures == 1


def test_a_fetch_is_reported_in_lines_where_bars_would_be_read_aloud(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with showing_progress("Fetching", bars=False) as progress:
        for done in (0, 50, 100):
            progress(FetchProgress("weights.bin", done, 100))
    assert capsys.readouterr().err == "Fetching weights.bin (100 bytes)\n"


def test_what_takes_its_time_is_reported_in_words_at_a_terminal(
    photo: Path, monkeypatch: pytest.MonkeyPatch, scripted_engine: Scripted
) -> None:
    reported: list[str] = []
    is_told = threading.Event()

    def say(line: str) -> None:
        reported.append(line)
        is_told.set()

    class Slow(scripted_engine):  # type: ignore[misc, valid-type]
        """An engine that takes as long as it takes to be told of."""

        def look(self, source: Any) -> Any:
            assert is_told.wait(10)
            is_told.clear()
            return super().look(source)

        def reply(self, *arguments: Any, **more: Any) -> Any:
            reply = super().reply(*arguments, **more)
            reply.pieces = self.words()
            return reply

        def words(self) -> Iterator[str]:
            assert is_told.wait(10)
            yield "A cat."

    monkeypatch.setattr(plain, "say", say)
    monkeypatch.setattr(line_input, "say", say)
    monkeypatch.setattr(plain, "PATIENCE_S", 0)
    monkeypatch.setattr(plain, "_at_terminal", lambda: True)
    chat = chat_with(Slow())
    chat.take(f"/image '{photo}'")
    is_told.clear()
    chat.take("What is this?")
    assert reported == ["Looking at my cat.png ...", "Added my cat.png, 30 x 20 pixels.", "Thinking ..."]


@pytest.mark.parametrize(("added", "advice"), [(True, "Ask about what you added"), (False, "/image PATH")])
def test_the_first_line_says_how_to_begin(
    photo: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    added: bool,
    advice: str,
    scripted_engine: Scripted,
) -> None:
    monkeypatch.setattr("minigpt4.tui.cli.chat.plain._at_terminal", lambda: True)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    chat = chat_with(scripted_engine())
    if added:
        chat.take(f"/image {photo}")
    assert chat.run() == 0
    assert advice in capsys.readouterr().err


def test_help_names_the_commands_and_blank_lines_are_nothing(
    capsys: pytest.CaptureFixture[str], scripted_engine: Scripted
) -> None:
    engine = scripted_engine()
    chat = chat_with(engine)
    chat.take("/help")
    chat.take("  \n")
    helped = capsys.readouterr().err
    assert all(name in helped for name in ("/image", "/clear", "/help", "/quit"))
    assert engine.asked == []


@pytest.mark.parametrize(("lines", "code"), [("one\n\n/quit\ntwo\n", 0), ("/image no.jpg\none\n", 1)])
def test_through_a_pipe_answers_alone_are_on_stdout(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    lines: str,
    code: int,
    scripted_engine: Scripted,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    assert chat_with(scripted_engine()).run() == code
    assert capsys.readouterr().out == "A cat.\n"


NO_PICTURE = "(No picture is attached, so the model answers without having seen one; /image PATH adds one.)\n"


@pytest.mark.parametrize("line", ["{} what is this?", "what is this? {}", "what is this? '{}'.", "{}"])
def test_a_path_in_a_question_attaches_and_the_rest_is_asked(
    photo: Path, capsys: pytest.CaptureFixture[str], scripted_engine: Scripted, line: str
) -> None:
    engine = scripted_engine()
    chat = chat_with(engine)
    chat.take(line.format(photo))
    assert capsys.readouterr().err == "Added my cat.png, 30 x 20 pixels.\n"
    if line == "{}":
        chat.take("what is this?")
    [[question]] = engine.asked
    assert question.text == "what is this?"
    assert [image.key for image in question.images] == ["my cat.png"]


def test_an_address_in_a_question_is_fetched_once(
    web: Any, photo: Path, capsys: pytest.CaptureFixture[str], scripted_engine: Scripted
) -> None:
    engine = scripted_engine()
    address = web.put("/dog.png", photo.read_bytes())
    chat_with(engine).take(f"Is {address} a dog?")
    assert capsys.readouterr().err == "Added dog.png, 30 x 20 pixels.\n"
    assert engine.asked[0][0].text == "Is dog.png a dog?"
    assert web.asked == ["/dog.png"]


def test_a_picture_that_waits_already_is_not_added_by_naming_it(
    photo: Path, scripted_engine: Scripted
) -> None:
    engine = scripted_engine()
    chat = chat_with(engine)
    chat.take(f"/image {photo}")
    chat.take(f"Is '{photo}' a cat?")
    assert len(engine.asked[0][0].images) == 1


def test_a_question_is_held_if_what_it_names_is_no_picture(
    web: Any, photo: Path, capsys: pytest.CaptureFixture[str], scripted_engine: Scripted
) -> None:
    engine = scripted_engine()
    chat = chat_with(engine)
    address = web.put("/page", b"<html>no picture</html>")
    chat.take(f"What is '{photo}' and {address}?")
    error = capsys.readouterr().err
    assert error.startswith(f"minigpt4: {address} is ")
    assert error.endswith(
        " The question was not asked; correct the path or address in it, or leave it out.\n"
    )
    assert (engine.asked, chat.pending, chat.failures) == ([], [], 1)


def test_a_path_of_no_file_is_not_an_unknown_command(
    capsys: pytest.CaptureFixture[str], scripted_engine: Scripted
) -> None:
    chat = chat_with(scripted_engine())
    chat.take("/no/such.png what is this")
    assert capsys.readouterr().err == "minigpt4: There is no picture file '/no/such.png'; check the path.\n"
    assert chat.failures == 1


def test_a_misspelt_command_before_a_picture_is_not_asked(
    photo: Path, capsys: pytest.CaptureFixture[str], scripted_engine: Scripted
) -> None:
    engine = scripted_engine()
    chat_with(engine).take(f"/imgae '{photo}'")
    assert "There is no command /imgae; did you mean /image?" in capsys.readouterr().err
    assert engine.asked == []


def test_only_a_first_question_without_a_picture_is_told_so(
    photo: Path, capsys: pytest.CaptureFixture[str], scripted_engine: Scripted
) -> None:
    chat = chat_with(scripted_engine())
    chat.take("What is this?")
    assert capsys.readouterr().err == NO_PICTURE
    chat.take("And that?")
    assert capsys.readouterr().err == ""
    chat.take("/clear")
    chat.take(f"/image {photo}")
    chat.take("What is this?")
    assert "No picture" not in capsys.readouterr().err


def test_an_answer_that_was_cut_off_before_it_began_says_so(
    scripted_engine: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = scripted_engine([Piece("Hm", is_reasoning=True)], finish="length")
    PlainChat(engine, ResolvedSampling(max_tokens=1)).take("What is this?")
    assert "(The model was still thinking after 1 tokens; /continue goes on.)" in capsys.readouterr().err
