"""Every end of the app: quick, with the terminal as it was found, and without an engine left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from minigpt4.tui.history.store import Store

Start = Any
Terminal = Any

STORY = "Write an essay about the history of the sea."
"""What mini has no end of, in words that are always the same with --greedy."""

QUIT_S = 0.5
"""Longest that leaving may take. The machine may be busy, so the best of a few tries counts."""

NO_CONTROL = """
import fcntl, signal, termios
before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
fcntl.ioctl(0, termios.TIOCNOTTY)
signal.signal(signal.SIGHUP, before)
"""
"""Give up the terminal as the one that controls the program, as `setsid` does: no signal tells of its end."""

MISTAKE = """
from minigpt4.tui.app.app import MiniGPT4App
def action_help(self):
    raise ValueError('seven [/] \\x1b[31mis no colour')
MiniGPT4App.action_help = action_help
"""


def paint(terminal: Terminal) -> None:
    """Wait for the moment from which on the app has the keyboard; nothing is drawn yet."""
    terminal.until(lambda: b"\x1b[?25l" in terminal.received)


def load(terminal: Terminal) -> None:
    terminal.until("loading mini")


def rest(terminal: Terminal) -> None:
    terminal.until("● mini")


def look(terminal: Terminal) -> None:
    """The engine encodes the picture from the moment it is ready."""
    terminal.until("▣ large.png")
    terminal.until("● mini")


def write(terminal: Terminal) -> None:
    terminal.until("● mini")
    terminal.ask(STORY)
    terminal.until("writing")


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A photo that takes its time to be looked at, and that was never seen before."""
    path = tmp_path / "large.png"
    pixels = os.urandom(16)
    Image.frombytes("RGB", (4, 4), pixels * 3).resize((6000, 6000)).save(path, compress_level=1)
    return path


@pytest.mark.parametrize("during", [paint, load, rest, look, write])
def test_leaving_takes_no_half_second_at_any_moment(
    start: Start, large: Path, during: Callable[[Terminal], None]
) -> None:
    def leave() -> float:
        terminal = start("--greedy", *[large] * (during is look))
        during(terminal)
        engines = terminal.engines()
        took: float = terminal.seconds_to_end(lambda: terminal.press("ctrl+q"))
        assert terminal.ended() == 0
        assert terminal.left_set == set()
        assert "Traceback" not in terminal.text
        for engine in engines:
            terminal.until_gone(engine)
        return took

    assert any(leave() < QUIT_S for _ in range(3))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_a_signal_during_an_answer_leaves_the_conversation_to_be_gone_on_with(
    start: Start, kept: Store, number: signal.Signals
) -> None:
    terminal = start("--greedy")
    write(terminal)
    (conversation,) = kept.conversations(10)
    terminal.until(lambda: kept.path(conversation.id)[-1].text)
    (engine,) = terminal.engines()
    os.kill(terminal.pid, number)
    if number is signal.SIGKILL:
        assert terminal.ended() == -number
    else:
        assert terminal.ended() == 128 + number
        assert terminal.left_set == set()
    terminal.until_gone(engine)

    again = start("--resume", conversation.id)
    again.until("Stopped")
    question, answer = kept.path(conversation.id)
    assert question.text == STORY
    assert answer.state == "stopped"
    assert answer.text
    assert " ".join(answer.text.split()[:3]) in again.text
    again.press("ctrl+b")
    again.until("Conversations")
    assert again.text.count(STORY[:20]) >= 2  # in the list, too


@pytest.mark.parametrize("code", ["", NO_CONTROL], ids=["told by a signal", "told by nobody"])
def test_a_window_that_closes_ends_app_and_engine(start: Start, kept: Store, code: str) -> None:
    terminal = start("--greedy", code=code)
    write(terminal)
    (engine,) = terminal.engines()
    terminal.hang_up()
    assert terminal.ended() == 128 + signal.SIGHUP
    terminal.until_gone(engine)
    assert kept.path(kept.conversations(1)[0].id)[-1].state == "stopped"


def test_a_stopped_program_gives_the_terminal_back_and_takes_it_again(start: Start) -> None:
    terminal = start()
    rest(terminal)
    os.kill(terminal.pid, signal.SIGTSTP)
    terminal.until(lambda: not terminal.left_set)
    terminal.until(terminal.is_stopped)  # a SIGCONT that came before the stop would be lost
    terminal.send("typed into the shell")
    os.kill(terminal.pid, signal.SIGCONT)
    terminal.until(lambda: "other screen" in terminal.left_set)
    terminal.until("● mini")


def test_a_mistake_in_the_app_is_one_sentence_and_the_way_back(start: Start, kept: Store) -> None:
    terminal = start("--greedy", code=MISTAKE)
    write(terminal)
    (engine,) = terminal.engines()
    terminal.press("f1")
    assert terminal.ended() == 1
    assert terminal.left_set == set()
    terminal.until_gone(engine)
    output = " ".join(terminal.text.split())
    (conversation,) = kept.conversations(10)
    assert f"`minigpt4 chat --resume {conversation.id}` continues the conversation." in output
    assert "This is a bug in minigpt4 (ValueError: seven [/] ?[31mis no colour)" in output
    assert "Traceback" not in output
    assert kept.path(conversation.id)[-1].state == "stopped"


def test_debug_shows_where_the_mistake_was(start: Start) -> None:
    terminal = start(code=MISTAKE, before=("--debug",), size=(100, 60))
    rest(terminal)
    terminal.press("f1")
    assert terminal.ended() == 1
    assert "in action_help" in terminal.text


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/null", ">/dev/null"])
def test_a_stream_that_leads_nowhere_means_no_app_and_no_mistake(start: Start, closed: str) -> None:
    terminal = start(shell=f"{{program}} {closed}; echo code $?")
    terminal.send("/quit\n")
    terminal.until("code ")
    # Answers to a closed output would be lost, so the chat does not begin.
    assert ("code 1" if ">&-" in closed.replace("2>&-", "") else "code 0") in terminal.text
    assert "bug" not in terminal.text
    assert b"\x1b[?1049h" not in terminal.received


def test_a_reader_that_goes_away_ends_the_chat_without_a_word(start: Start) -> None:
    pipe = "printf 'Say much.\\n%.0s' {1..20} | {program} | head -c 20"
    terminal = start(shell=f'{pipe}; codes="${{PIPESTATUS[@]}}"; echo; echo codes $codes')
    terminal.until("codes")
    assert "codes 0 0 0" in terminal.text
    assert "Traceback" not in terminal.text
    assert "bug" not in terminal.text
