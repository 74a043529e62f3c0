"""`minigpt4 history` in separate processes: with pipes, a terminal, an open app, and closed streams."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest
from PIL import Image

from minigpt4.core.pixels import open_picture
from minigpt4.tui.history.store import Store

Run = Callable[..., "subprocess.CompletedProcess[str]"]

HISTORY = [sys.executable, "-P", "-m", "minigpt4.tui", "history"]


@pytest.fixture
def store() -> Iterator[Store]:
    """The store as an app has it open meanwhile, with one conversation."""
    file = io.BytesIO()
    Image.new("RGB", (3, 2)).save(file, "PNG")
    store = Store.open()
    talk = store.new_conversation()
    photo = store.keep_picture(open_picture(file.getvalue()), "dog.png")
    question = store.add_message(talk.id, None, "user", "What is this?", [photo])
    store.add_message(talk.id, question.id, "assistant", "A \x1b[31m brown \x1b[0m dog.\x07")
    yield store
    store.close()


@pytest.fixture
def talk(store: Store) -> str:
    """The id of the conversation."""
    return store.conversations(1)[0].id


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """The output on a terminal, with escape codes."""
    wanted = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    child = pexpect.spawn(
        HISTORY[0],
        [*HISTORY[1:], *arguments],
        env=wanted | {"TERM": "xterm-256color"} | environment,
        encoding="utf-8",
        timeout=60,
        dimensions=(24, 80),
    )
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    return str(child.before)


def test_everything_can_be_done_through_pipes_while_the_app_is_open(
    run_minigpt4: Run, store: Store, talk: str, tmp_path: Path
) -> None:
    def history(*arguments: str) -> str:
        done = run_minigpt4("history", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    history("rename", talk[:8], "Our", "dog")
    history("pin", "last")
    assert store.get(talk).title == "Our dog" and store.get(talk).pinned
    assert history("list").split()[4:] == ["*", "Our", "dog"]
    history("unpin", "last")
    assert not store.get(talk).pinned
    assert talk[:8] in history("search", "brown")
    assert history("show", "last").startswith("Our dog\n")

    page = Path(history("export", "last", "--output", str(tmp_path / "out")).strip())
    assert "](pictures/" in page.read_text("utf-8")
    assert "data:image/png;base64," in history("export", "last", "--format", "html")
    kept = history("export", "last", "--format", "json")
    history("delete", "last")
    assert store.conversations(1) == [] and history("list") == ""
    history("restore", "last")
    history("delete", "last", "--for-good")
    again = run_minigpt4("history", "import", "-", stdin=kept.encode())
    assert (again.returncode, again.stdout) == (0, f"{talk}\n")
    assert json.loads(history("show", "last", "--json"))["path"][0]["pictures"][0]["name"] == "dog.png"


def test_a_terminal_shows_hits_in_bold_and_nothing_that_the_text_says_to_it(store: Store, talk: str) -> None:
    seen = on_a_terminal("search", "brown")
    assert "\x1b[1mbrown\x1b[22m" in seen
    assert seen.count("\x1b") == 2 and "\x07" not in seen
    assert "\x1b" not in on_a_terminal("search", "brown", NO_COLOR="1")
    assert "\x1b" not in on_a_terminal("show", talk[:8])


def test_a_reader_that_has_seen_enough_ends_it_quietly(store: Store) -> None:
    parent = store.conversations(1)[0].id
    last = store.path(parent)[-1].id
    store.add_message(parent, last, "user", "word\n" * 200_000)
    program = subprocess.Popen(
        [*HISTORY, "show", "last"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ)
    )
    assert program.stdout is not None and program.stderr is not None
    assert program.stdout.readline() == b"What is this?\n"
    program.stdout.close()
    assert program.wait(timeout=60) == 0
    assert program.stderr.read() == b""
    program.stderr.close()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("show", "zzz"), 2),
        (("show",), 2),
        (("list", "--limit", "0"), 2),
        (("search", "zebra"), 1),
        (("import", "nowhere.json"), 1),
    ],
)
def test_failures_have_their_exit_code_and_one_line(
    run_minigpt4: Run, store: Store, arguments: tuple[str, ...], code: int
) -> None:
    done = run_minigpt4("history", *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1)


def test_a_file_of_a_newer_minigpt4_is_one_line_and_stays_as_it_is(run_minigpt4: Run, store: Store) -> None:
    with store._database.writing() as connection:
        connection.execute("PRAGMA user_version = 9999")
    done = run_minigpt4("history", "list")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "newer" in done.stderr
