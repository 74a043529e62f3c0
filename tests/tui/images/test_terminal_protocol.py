"""How images are drawn follows from the environment or from a query to the terminal, with a timeout."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import termios
import threading
import time
from types import SimpleNamespace

import pytest

from minigpt4.tui.images.terminal_protocol import (
    WAIT_S,
    CellSize,
    TerminalFeatures,
    cell_size,
    parse_features,
    picture_protocol,
    query_terminal,
)


@pytest.mark.parametrize("setting", ["kitty", "sixel", "sextant", "quadrant", "halfblock", "off"])
def test_the_setting_has_precedence(setting: str) -> None:
    assert picture_protocol(setting, {"TERM": "xterm-kitty"}) == setting


@pytest.mark.parametrize(
    ("environment", "protocol"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        # Inside tmux the variables are those of the terminal around it, which tmux does not pass on to.
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1", "TMUX": "/x"}, "quadrant"),
        ({"TERM": "xterm-256color"}, "quadrant"),
        ({"TERM": "screen.xterm-256color"}, "quadrant"),
        # VTE draws sextants itself since 0.62; in tmux its variable may be that of another terminal.
        ({"TERM": "xterm-256color", "VTE_VERSION": "6200"}, "sextant"),
        ({"TERM": "xterm-256color", "VTE_VERSION": "6003"}, "quadrant"),
        ({"TERM": "tmux-256color", "VTE_VERSION": "6200", "TMUX": "/x"}, "quadrant"),
        # They draw block characters with a font, which may lack quadrants.
        ({"TERM": "st-256color"}, "halfblock"),
        ({"TERM": "rxvt-unicode-256color"}, "halfblock"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, "halfblock"),
        ({"TERM": "linux"}, "halfblock"),
        ({"TERM": "dumb"}, "halfblock"),
        ({}, "halfblock"),
    ],
)
def test_auto_follows_the_environment(environment: dict[str, str], protocol: str) -> None:
    assert picture_protocol("auto", environment) == protocol


def test_with_another_encoding_than_utf_8_it_is_half_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "__stdout__", SimpleNamespace(encoding="iso8859-15"))
    assert picture_protocol("auto", {"TERM": "xterm-256color", "VTE_VERSION": "7600"}) == "halfblock"


@pytest.mark.parametrize(
    ("received", "features"),
    [
        (b"\x1b[6;18;9t\x1b[?62;4;22c", TerminalFeatures(True, CellSize(9, 18))),
        (b"\x1b[?62;4c", TerminalFeatures(True)),
        (b"\x1b[?4;6c", TerminalFeatures()),  # a VT132: 4 is its class, not a picture
        (b"\x1b[?1;2c", TerminalFeatures()),
        (b"\x1b[6;0;0t\x1b[?c", TerminalFeatures()),
        (b"typed ahead\x1b[?62;4c", TerminalFeatures(True)),
        (b"", TerminalFeatures()),
        (b"\x1b[?62;4", TerminalFeatures()),
    ],
)
def test_a_reply_is_parsed_or_ignored(received: bytes, features: TerminalFeatures) -> None:
    assert parse_features(received) == features


def test_without_a_terminal_nothing_is_queried() -> None:
    started = time.monotonic()
    query_terminal("auto")()
    assert time.monotonic() - started < WAIT_S
    assert cell_size().width >= 2


QUERY = """
import termios
from minigpt4.tui.images.terminal_protocol import query_terminal, cell_size, picture_protocol
import time
before = termios.tcgetattr(0)
started = time.monotonic()
query_terminal("auto")()
took = time.monotonic() - started
print(picture_protocol("auto"), cell_size().width, took < 0.6, termios.tcgetattr(0) == before)
"""


def queried_in_a_terminal(answer: bytes) -> list[str]:
    """The output of the program in a terminal that gives this answer."""
    ours, its = pty.openpty()
    settings = termios.tcgetattr(its)
    settings[3] &= ~termios.ECHO
    termios.tcsetattr(its, termios.TCSANOW, settings)
    known = ("TERM_PROGRAM", "KITTY_WINDOW_ID", "TMUX", "SSH_CONNECTION", "SSH_TTY")
    environment = {name: value for name, value in os.environ.items() if name not in known}
    environment["TERM"] = "xterm-256color"
    process = subprocess.Popen([sys.executable, "-c", QUERY], stdin=its, stdout=its, env=environment)
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


def test_a_terminal_with_sixels_is_detected_and_its_mode_restored() -> None:
    assert queried_in_a_terminal(b"\x1b[6;18;9t\x1b[?62;4;22c") == ["sixel", "9", "True", "True"]


def test_a_terminal_without_an_answer_costs_only_the_timeout() -> None:
    assert queried_in_a_terminal(b"") == ["quadrant", "10", "True", "True"]


def test_no_thread_is_started_if_the_setting_decides() -> None:
    before = threading.active_count()
    query_terminal("halfblock")()
    assert threading.active_count() == before
