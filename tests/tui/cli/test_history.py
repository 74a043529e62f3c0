"""`minigpt4 history` as a person or a script calls it."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from minigpt4.core.pixels import open_picture
from minigpt4.tui.history.store import Store

Call = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def history(call_minigpt4: Call) -> Call:
    def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return call_minigpt4("history", *arguments)

    return call


@pytest.fixture
def talk() -> str:
    """A conversation of the home's own: a question with a picture, an answer of two variants."""
    file = io.BytesIO()
    Image.new("RGB", (3, 2)).save(file, "PNG")
    store = Store.open()
    info = store.new_conversation()
    photo = store.keep_picture(open_picture(file.getvalue()), "dog\x1b[31m.png")
    question = store.add_message(info.id, None, "user", "What is\nthis?", [photo])
    store.add_message(info.id, question.id, "assistant", "A cat")
    store.add_message(
        info.id, question.id, "assistant", "A \x1b]0;title\x07 brown\u202e dog", state="stopped"
    )
    store.close()
    return info.id


def test_help_names_the_commands(history: Call) -> None:
    output = history("--help").stdout
    assert all(
        f" {name} " in output for name in "list search show export import delete restore rename".split()
    )


def test_an_empty_history_is_no_error(history: Call) -> None:
    done = history("list")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert json.loads(history("list", "--json").stdout) == []


def test_list_shows_id_time_count_and_title(history: Call, talk: str) -> None:
    words = history("list").stdout.split()
    assert (words[0], words[3:]) == (talk[:8], ["3", "What", "is", "this?"])
    assert json.loads(history("list", "--json").stdout)[0]["id"] == talk


def test_search_says_where_and_fails_where_there_is_nothing(history: Call, talk: str) -> None:
    done = history("search", "bro", "DOG")
    assert (done.returncode, done.stdout.split()[0]) == (0, talk[:8])
    assert "\x1b" not in done.stdout and "\u202e" not in done.stdout
    assert history("search", "brown dog").returncode == 0
    found = json.loads(history("search", "what", "--json").stdout)
    assert (found[0]["conversation"], found[0]["snippet"]) == (talk, "What is this?")
    nothing = history("search", 'zebra"')
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (1, "", "Nothing was found.\n")


def test_show_prints_the_path_with_nothing_that_a_terminal_obeys(history: Call, talk: str) -> None:
    done = history("show", talk[:6])
    lines = done.stdout.split("\n")
    assert lines[0] == "What is this?"
    assert lines[3:6] == ["> What is", "> this?", ""]
    assert lines[2].startswith("[dog") and lines[2].endswith(".png, 3 x 2]")
    assert lines[6].endswith("brown dog [stopped]")
    assert "cat" not in done.stdout
    assert not set(done.stdout) & {"\x1b", "\x07", "\u202e"}
    path = json.loads(history("show", talk, "--json").stdout)["path"]
    assert [message["role"] for message in path] == ["user", "assistant"]


def test_export_and_import_in_every_form(history: Call, talk: str, tmp_path: Path) -> None:
    page = history("export", talk, "--format", "html").stdout
    assert page.startswith("<!DOCTYPE html>") and "data:image/png" in page
    out = tmp_path / "out"
    written = history("export", "--all", "-o", out).stdout.strip()
    assert written == str(out / f"what-is-this-{talk[:8]}.md")
    assert len(list((out / "pictures").iterdir())) == 1
    file = tmp_path / "all.json"
    assert history("export", "--all", "--output", file).stdout == f"{file}\n"
    assert history("delete", "--for-good", talk).returncode == 0
    assert history("list").stdout == ""
    assert history("import", file).stdout == f"{talk}\n"
    again = history("import", file)
    assert (again.stdout, again.stderr) == ("", "1 of them were here already.\n")
    assert json.loads(history("export", talk, "--format", "json").stdout) == json.loads(
        file.read_text("utf-8")
    )
    pages = history("export", talk, talk, "--format", "html", "-o", out).stdout.splitlines()
    assert [Path(name).suffix for name in pages] == [".html", ".html"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["export"], "Give the ids of conversations, or --all"),
        (["export", "--all", "--format", "pdf"], "There is no format 'pdf'; choose markdown, html or json."),
        (["export", "--all", "--format", "md", "-o", "x.md"], "Markdown is written into a folder"),
        (["show", "zzz"], "There is no conversation 'zzz'; `minigpt4 history list` shows them."),
        (["restore", "zzz"], "There is no deleted conversation 'zzz'"),
        (["import", "nowhere.json"], "'nowhere.json' cannot be used: No such file"),
        (["rename", "zzz", "x"], "There is no conversation 'zzz'"),
    ],
)
def test_mistakes_are_one_line_with_the_way_out(history: Call, arguments: list[str], sentence: str) -> None:
    done = history(*arguments)
    assert done.returncode in (1, 2)
    assert sentence in done.stderr and done.stderr.count("\n") == 1


def test_delete_can_be_undone_and_rename_takes_several_words(history: Call, talk: str) -> None:
    done = history("delete", talk)
    assert f"`minigpt4 history restore {talk[:8]}` brings it back" in done.stderr
    assert history("list").stdout == ""
    assert talk[:8] in history("list", "--deleted").stdout
    assert history("restore", talk[:8]).returncode == 0
    assert history("rename", talk, "Our", "dog").returncode == 0
    assert history("list").stdout.rstrip().endswith("Our dog")


def test_an_answer_of_a_dead_process_is_shown_as_stopped(history: Call) -> None:
    store = Store.open()
    talk = store.new_conversation()
    store.add_message(talk.id, None, "assistant", "A d", state="writing")
    assert "[writing]" in history("show", talk.id).stdout
    store.close()
    assert "[stopped]" in history("show", talk.id).stdout


def test_a_damaged_history_is_reported_once_and_set_aside(history: Call, talk: str) -> None:
    store = Store.open()
    store.close()
    store.file.write_bytes(b"not a database " * 100)
    done = history("list")
    assert (done.returncode, done.stdout) == (0, "")
    assert "moved aside, unchanged" in done.stderr and done.stderr.count("\n") == 1
    assert history("list").stderr == ""
