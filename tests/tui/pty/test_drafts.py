"""What was typed and not sent is there again, however the program ended, and in one window only."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

Start = Any
Terminal = Any

MISTAKE = """
from minigpt4.tui.app.app import MiniGPT4App
def action_help(self):
    raise ValueError('no help')
MiniGPT4App.action_help = action_help
"""


def saved(home: Path) -> str:
    return "".join(path.read_text() for path in (home / "data" / "drafts").glob("*.json"))


def typed(start: Start, home: Path, text: str, **named: Any) -> Terminal:
    """A program in which a text was typed about a picture, and saved."""
    terminal = start("coffee.jpg", **named)
    terminal.until("▣ coffee.jpg  600 × 400")
    terminal.send(text)
    terminal.until(text)
    terminal.until(lambda: text in saved(home) and "coffee.jpg" in saved(home))
    return terminal


@pytest.mark.parametrize("way", ["kill", "hang up", "mistake", "quit"])
def test_the_draft_is_there_again_with_its_picture(start: Start, home: Path, way: str) -> None:
    terminal = typed(start, home, "Is it still ho", code=MISTAKE)
    match way:
        case "kill":
            os.kill(terminal.pid, signal.SIGKILL)
        case "hang up":
            terminal.hang_up()
        case "mistake":
            terminal.press("f1")
        case "quit":
            terminal.press("ctrl+q")
    terminal.ended()
    again = start()
    again.until("Is it still ho")
    again.until("▣ coffee.jpg  600 × 400")
    again.send("t?")
    again.until("Is it still hot?")
    # For a moment there are both: the ended one's file goes after the new one is written.
    again.until(lambda: len(list((home / "data" / "drafts").glob("*.json"))) == 1)


def test_two_windows_do_not_take_each_others_draft(start: Start, home: Path) -> None:
    one = typed(start, home, "Is it still ho")
    two = start()
    two.until("● mini")
    assert "Is it still ho" not in two.text
    two.send("Something else")
    two.until(lambda: "Something else" in saved(home))
    for terminal in (one, two):
        os.kill(terminal.pid, signal.SIGKILL)
        terminal.ended()
    three = start()
    three.until("Something else")  # the newer one; the other waits for the next new conversation
    assert "Is it still ho" in saved(home)
