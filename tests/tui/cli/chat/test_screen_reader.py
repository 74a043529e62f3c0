"""The plain chat as a screen reader meets it: lines alone, for all that the app does."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from minigpt4.tui.cli.chat.plain_commands import ACTIONS
from minigpt4.tui.conversation.slash_commands import COMMANDS
from minigpt4.tui.history.store import Store


def test_every_command_works_in_lines() -> None:
    in_lines = {one.name for one in COMMANDS if one.plain}
    assert in_lines == {*ACTIONS, "/quit"}
    assert in_lines == {one.name for one in COMMANDS}
    assert all(one.action for one in COMMANDS if one.about), "the app cannot list what it cannot do"


def _editor(folder: Path) -> Path:
    script = folder / "editor"
    script.write_text("#!/bin/sh\nprintf 'Written in\\nmy editor\\n' > \"$1\"\n")
    script.chmod(0o755)
    return script


class Listener:
    """A terminal whose every byte is kept; a turn ends with the prompt."""

    def __init__(self, arguments: list[str], folder: Path) -> None:
        self.heard = io.StringIO()
        self.child = pexpect.spawn(
            sys.executable,
            ["-P", "-m", "minigpt4.tui", "chat", "--plain", "--max-tokens", "6", "--greedy", *arguments],
            env=os.environ | {"NO_COLOR": "1", "TERM": "dumb", "VISUAL": str(_editor(folder))},
            cwd=folder,
            encoding="utf-8",
            timeout=120,
            dimensions=(40, 400),
        )
        self.child.logfile_read = self.heard
        self.child.expect("\n> ")

    def tell(self, line: str) -> str:
        """What is said after a line, up to the next prompt."""
        self.child.sendline(line)
        self.child.expect_exact(f"{line}\r\n")
        self.child.expect("(^|\r\n)> ")
        return str(self.child.before).replace("\r\n", "\n")


@pytest.fixture
def listener(own_home: Path, tmp_path: Path, examples: Path) -> Iterator[Listener]:
    opened = Listener([str(examples)], tmp_path)
    yield opened
    opened.child.close(force=True)


def test_a_whole_evening_is_lines_without_color_or_redrawing(listener: Listener, tmp_path: Path) -> None:
    tell = listener.tell
    assert "\n3. coffee.jpg" in listener.heard.getvalue(), "as the app opens its picker there"
    assert tell("/pick 3").endswith("Added coffee.jpg, 600 x 400 pixels.")
    assert "Answer: " in tell("/poem in two lines")
    assert "Answer: " in tell("/again")
    assert "Answer: " in tell("/continue")
    assert "Answer: " in tell("/edit What is in the cup?")
    picture = "coffee.jpg, 600 x 400 pixels"
    assert f"You asked about {picture}: What is in the cup?\nAnswer: " in tell("/show")
    assert "Answer 3 to 'What is in the cup?', the one that counts: " in tell("/variants")
    assert tell("/variants 2") == "Answer 2 of 3 counts from now on."
    assert tell("/variants 3") == "Answer 3 of 3 counts from now on."
    assert "is called 'Coffee' now" in tell("/title Coffee")
    assert tell("/history").startswith("1. Coffee, 5 messages, ")
    assert tell("/search cup").startswith("1. Coffee: ")
    assert "Continuing 'Coffee'" in tell("/open 1")
    assert tell("/export coffee.html") == "Saved coffee.html."
    assert (tmp_path / "coffee.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    assert "top_p is 0.5 now" in tell("/settings top_p 0.5")
    assert "mini: downloaded, in use." in tell("/models")
    assert tell("/nonsense").startswith("minigpt4: There is no command /nonsense")
    assert "Delete 'Coffee'? y or n" in tell("/delete")
    assert tell("n") == "Not deleted."
    assert "Delete 'Coffee'? y or n" in tell("/delete")
    assert tell("y").startswith("Deleted; /undelete brings it back.")
    assert f"You asked about {picture}: What is in the cup?" in tell("/undelete")
    assert "Answer: " in tell("/editor")
    assert "You asked: Written in\nmy editor\n" in tell("/show")
    listener.child.sendline("/quit")
    listener.child.expect(pexpect.EOF)
    heard = listener.heard.getvalue()
    assert not set(heard) & {"\x1b", "\b"}
    assert "\r" not in heard.replace("\r\n", "")
    assert "Added coffee.jpg, 600 x 400 pixels." in heard


def test_a_script_of_commands_is_carried_out_line_by_line(
    own_home: Path, tmp_path: Path, run_minigpt4
) -> None:
    lines = ("/alt", "/edit And now?", "/title A script", "/nonsense", "/history", "/delete", "/history")
    done = run_minigpt4("chat", "--max-tokens", "4", stdin="\n".join(lines).encode())
    assert done.returncode == 1, "one line was wrong"
    assert len(done.stdout.splitlines()) == 2, "two answers, and nothing else"
    assert "1. A script, 4 messages, " in done.stderr
    assert done.stderr.count("minigpt4: ") == 1
    assert done.stderr.rstrip().endswith("There is no conversation yet.")
    store = Store.open()
    assert [info.title for info in store.deleted()] == ["A script"]
    store.close()
