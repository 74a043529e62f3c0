"""How pictures are drawn is known from the environment or asked of the terminal, never waited for long."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import termios
import threading
import time

import pytest

from minigpt4.tui.images.terminal_protocol import (
    WAIT_S,
    Answer,
    CellSize,
    ask_terminal,
    cell_size,
    picture_protocol,
    read_answer,
)


@pytest.mark.parametrize("setting", ["kitty", "sixel", "halfblock", "off"])
def test_the_setting_is_the_last_word(setting: str) -> None:
    assert picture_protocol(setting, {"TERM": "xterm-kitty"}) == setting


@pytest.mark.parametrize(
    ("environment", "protocol"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        # Inside tmux the variables are those of the terminal around it, which tmux does not pass on to.
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1", "TMUX": "/x"}, "halfblock"),
        ({"TERM": "xterm-256color"}, "halfblock"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, "halfblock"),
        ({"TERM": "linux"}, "halfblock"),
        ({"TERM": "dumb"}, "halfblock"),
        ({}, "halfblock"),
    ],
)
def test_auto_goes_by_the_environment(environment: dict[str, str], protocol: str) -> None:
    assert picture_protocol("auto", environment) == protocol


@pytest.mark.parametrize(
    ("received", "answer"),
    [
        (b"\x1b[6;18;9t\x1b[?62;4;22c", Answer(True, CellSize(9, 18))),
        (b"\x1b[?62;4c", Answer(True)),
        (b"\x1b[?4;6c", Answer()),  # a VT132: 4 is its class, not a picture
        (b"\x1b[?1;2c", Answer()),
        (b"\x1b[6;0;0t\x1b[?c", Answer()),
        (b"typed ahead\x1b[?62;4c", Answer(True)),
        (b"", Answer()),
        (b"\x1b[?62;4", Answer()),
    ],
)
def test_an_answer_is_read_or_is_none(received: bytes, answer: Answer) -> None:
    assert read_answer(received) == answer


def test_without_a_terminal_nobody_is_asked() -> None:
    started = time.monotonic()
    ask_terminal("auto").wait()
    assert time.monotonic() - started < WAIT_S
    assert cell_size().width >= 2


ASK = """
import termios
from minigpt4.tui.images.terminal_protocol import ask_terminal, cell_size, picture_protocol
import time
before = termios.tcgetattr(0)
started = time.monotonic()
ask_terminal("auto").wait()
took = time.monotonic() - started
print(picture_protocol("auto"), cell_size().width, took < 0.6, termios.tcgetattr(0) == before)
"""


def asked_in_a_terminal(answer: bytes) -> list[str]:
    """What the program says in a terminal that answers so."""
    ours, its = pty.openpty()
    settings = termios.tcgetattr(its)
    settings[3] &= ~termios.ECHO
    termios.tcsetattr(its, termios.TCSANOW, settings)
    known = ("TERM_PROGRAM", "KITTY_WINDOW_ID", "TMUX", "SSH_CONNECTION", "SSH_TTY")
    environment = {name: value for name, value in os.environ.items() if name not in known}
    environment["TERM"] = "xterm-256color"
    process = subprocess.Popen([sys.executable, "-c", ASK], stdin=its, stdout=its, env=environment)
    os.close(its)
    received = b""
    end = time.monotonic() + 20
    is_answered = False
    while b"\n" not in received and time.monotonic() < end:
        if select.select([ours], [], [], 0.1)[0]:
            received += os.read(ours, 1024)
        if b"\x1b[c" in received and not is_answered:
            is_answered = True
            os.write(ours, answer)
    process.wait(20)
    os.close(ours)
    return received.split(b"\x1b[c")[1].decode().split()


def test_a_terminal_that_draws_sixels_is_believed_and_gets_its_mode_back() -> None:
    assert asked_in_a_terminal(b"\x1b[6;18;9t\x1b[?62;4;22c") == ["sixel", "9", "True", "True"]


def test_a_terminal_that_answers_nothing_costs_a_moment_only() -> None:
    assert asked_in_a_terminal(b"") == ["halfblock", "10", "True", "True"]


def test_the_question_starts_no_thread_where_the_setting_tells() -> None:
    before = threading.active_count()
    ask_terminal("halfblock").wait()
    assert threading.active_count() == before
