"""`minigpt4 chat` with the real model: in a real terminal, and through pipes."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from minigpt4.tui.history.store import Store

pytestmark = pytest.mark.usefixtures("own_home")

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


def test_ctrl_c_stops_an_answer_and_the_chat_continues(terminal: pexpect.spawn) -> None:
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
    assert "conversation begins" not in done.stdout
    assert "A new conversation begins;" in done.stderr
    assert done.stdout.strip()
    reported = run_minigpt4("history", "list", "--json")
    assert sorted(info["title"] for info in json.loads(reported.stdout)) == [
        "What is this?",
        "What is your name?",
    ]


def test_a_conversation_is_kept_and_gone_on_with_line_by_line(run_minigpt4, examples: Path) -> None:
    short = ("chat", "--max-tokens", "4")
    done = run_minigpt4(*short, examples / "rocket.jpg", stdin=b"What is this?\n")
    assert done.returncode == 0, done.stderr
    again = run_minigpt4(*short, "--resume", "last", stdin=b"And what is around it?\n")
    assert "Continuing 'What is this?', 2 messages." in again.stderr
    reported = json.loads(run_minigpt4("history", "show", "last", "--json").stdout)
    assert [message["role"] for message in reported["path"]] == ["user", "assistant"] * 2
    assert [message["text"] for message in reported["path"][1::2]] == [
        done.stdout.removesuffix("\n"),
        again.stdout.removesuffix("\n"),
    ]
    assert [picture["name"] for picture in reported["path"][0]["pictures"]] == ["rocket.jpg"]
    assert reported["path"][3]["stats"]["prompt_tokens"] > reported["path"][1]["stats"]["prompt_tokens"]
    assert reported["path"][3]["stats"]["bundle"] == "mini"


def test_a_system_prompt_changes_its_answer(run_minigpt4) -> None:
    greedy = ("--greedy", "--max-tokens", "12")
    ask = ("ask", *greedy, "What is your name?")
    plain, reported = (
        run_minigpt4(*ask, *more).stdout for more in ((), ("--system-prompt", "You are a parrot."))
    )
    assert plain != reported
    chat = run_minigpt4(
        "chat", *greedy, "--system-prompt", "You are a parrot.", stdin=b"What is your name?\n"
    )
    assert chat.stdout == reported


def test_a_conversation_that_is_not_there_is_one_line_before_the_model_loads(call_minigpt4) -> None:
    for beginning in ("zzz", "last"):
        done = call_minigpt4("chat", "--plain", "--resume", beginning)
        assert done.returncode == 2
        assert done.stderr.startswith("minigpt4: There is no conversation") and done.stderr.count("\n") == 1


def test_where_nothing_can_be_kept_the_chat_says_so_and_continues(run_minigpt4, own_home: Path) -> None:
    store = Store.open()
    store.close()
    connection = sqlite3.connect(store.file)
    connection.execute("PRAGMA user_version = 9999")
    connection.close()
    done = run_minigpt4("chat", "--max-tokens", "2", stdin=b"What is this?\n")
    assert done.returncode == 0 and done.stdout.strip()
    assert "What is said now is not kept." in done.stderr
    refused = run_minigpt4("chat", "--resume", "last", stdin=b"What is this?\n")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "newer" in refused.stderr and refused.stderr.count("\n") == 1


def test_at_a_terminal_everything_is_reported_in_words_and_nothing_moves_the_cursor(
    tmp_path: Path, run_minigpt4, examples: Path
) -> None:
    run_minigpt4("chat", "--max-tokens", "4", examples / "rocket.jpg", stdin=b"What is this?\n")
    child = pexpect.spawn(
        sys.executable,
        ["-P", "-m", "minigpt4.tui", "chat", "--plain", "--max-tokens", "4", "--resume", "last"],
        env=os.environ | {"NO_COLOR": "1", "TERM": "dumb"},
        cwd=tmp_path,
        encoding="utf-8",
        timeout=120,
        dimensions=(40, 200),
    )
    seen = io.StringIO()
    child.logfile_read = seen
    child.expect("You asked about rocket.jpg, [0-9]+ x [0-9]+ pixels: What is this\\?\r\n")
    child.expect("The answer was: ")
    child.expect(PROMPT)
    child.sendline("And now?")
    child.expect("now\\?\r\n")
    child.expect(PROMPT)
    child.sendline("/quit")
    child.expect("`minigpt4 chat --resume [0-9a-f]{8}` continues this conversation.")
    assert ended_with(child) == 0
    assert not set(seen.getvalue()) & {"\x1b", "\b"} and "\r" not in seen.getvalue().replace("\r\n", "")


def test_a_conversation_that_outgrows_the_context_says_so(run_minigpt4) -> None:
    lines = "".join(f"{number} " + "word " * 150 + "\n" for number in range(2))
    done = run_minigpt4("chat", "--max-tokens", "2", "--context", "300", stdin=lines.encode())
    assert done.returncode == 0, done.stderr
    assert "(The conversation outgrew the model's context:" in done.stderr
