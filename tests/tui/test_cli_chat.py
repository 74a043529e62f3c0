"""`minigpt4 chat` with the real model: in a real terminal, and through pipes."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

pytestmark = pytest.mark.usefixtures("mini_home")

PROMPT = "\r?\n?> "
STORY = "Tell me a long story about the sea."


@pytest.fixture
def terminal(tmp_path: Path, examples: Path) -> Iterator[pexpect.spawn]:
    """The chat at its first prompt, on a pseudo-terminal without colours."""
    shutil.copy(examples / "chelsea.png", tmp_path / "my cat.png")
    child = pexpect.spawn(
        sys.executable,
        ["-P", "-m", "minigpt4.tui", "chat", "--plain", "--max-tokens", "200", str(examples / "coffee.jpg")],
        env=os.environ | {"NO_COLOR": "1", "TERM": "xterm"},
        cwd=tmp_path,
        encoding="utf-8",
        timeout=120,
        dimensions=(40, 200),
    )
    child.expect("Loading mini")
    child.expect(r"Added coffee.jpg, \d+ x \d+ pixels.")
    child.expect(PROMPT)
    yield child
    child.close(force=True)


def ended_with(child: pexpect.spawn) -> int:
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus is not None
    return int(child.exitstatus)


def test_a_person_talks_adds_a_picture_and_leaves(terminal: pexpect.spawn) -> None:
    terminal.sendline("What is in this picture?")
    terminal.expect("picture\\?\r\n")
    terminal.expect(PROMPT)
    assert any(letter.isalpha() for letter in terminal.before)
    terminal.sendline("/image my cat.png")
    terminal.expect(r"Added my cat.png, \d+ x \d+ pixels.")
    terminal.expect(PROMPT)
    terminal.sendline("/imgae")
    terminal.expect("There is no command /imgae; did you mean /image\\?")
    terminal.expect(PROMPT)
    terminal.sendline("/quit")
    assert ended_with(terminal) == 0


def test_ctrl_c_stops_an_answer_and_the_chat_goes_on(terminal: pexpect.spawn) -> None:
    terminal.sendline(STORY)
    terminal.expect("sea\\.\r\n")
    terminal.expect("[A-Za-z]{3}")  # it has begun to answer
    terminal.sendintr()
    terminal.expect("Stopped; what was said so far stays in the conversation")
    terminal.expect(PROMPT)
    terminal.sendline("And then?")
    terminal.expect("then\\?\r\n")
    terminal.expect(PROMPT)
    terminal.sendeof()
    assert ended_with(terminal) == 0


def test_ctrl_c_at_the_prompt_clears_the_line_and_twice_leaves(terminal: pexpect.spawn) -> None:
    terminal.send("half a thought")
    terminal.expect("thought")
    terminal.sendintr()
    terminal.expect("Ctrl\\+C again")
    terminal.expect(PROMPT)
    terminal.sendline("/help")
    terminal.expect("/clear")  # the half line is gone, or this were no command
    terminal.expect(PROMPT)
    terminal.sendintr()
    terminal.expect("Ctrl\\+C again")
    terminal.expect(PROMPT)
    terminal.sendintr()
    assert ended_with(terminal) == 130


def test_the_line_before_comes_back_with_the_arrow_key(terminal: pexpect.spawn) -> None:
    terminal.sendline("/xyzzy")
    terminal.expect("There is no command /xyzzy")
    terminal.expect(PROMPT)
    terminal.send("\x1b[A\r")
    terminal.expect("There is no command /xyzzy")
    terminal.expect(PROMPT)


def test_through_pipes_answers_alone_are_on_stdout(run_minigpt4, examples: Path) -> None:
    lines = "What is this?\n/clear\n\nWhat is your name?\n/quit\nnever asked\n"
    done = run_minigpt4("chat", "--max-tokens", "6", examples / "rocket.jpg", stdin=lines.encode())
    assert done.returncode == 0, done.stderr
    assert ">" not in done.stdout
    assert "forgotten" not in done.stdout
    assert "The conversation and its pictures are forgotten." in done.stderr
    assert done.stdout.strip()


def test_a_conversation_that_outgrows_the_context_says_so(run_minigpt4) -> None:
    lines = "".join(f"{number} " + "word " * 1050 + "\n" for number in range(2))
    done = run_minigpt4("chat", "--max-tokens", "2", stdin=lines.encode())
    assert done.returncode == 0, done.stderr
    assert "(The conversation outgrew the model's context:" in done.stderr
