"""The user's own editor: what it leaves is taken, and nothing else stays."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from minigpt4.tui.terminal import editor
from minigpt4.tui.terminal.editor import EditorError, edit

Script = Callable[[str], str]


@pytest.fixture(autouse=True)
def _no_editor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.delenv("EDITOR", raising=False)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """An editor of these lines of shell, to which $1 is the file."""

    def write(lines: str) -> str:
        path = tmp_path / "my editor"
        path.write_text(f"#!/bin/sh\n{lines}\n")
        path.chmod(0o755)
        return f"'{path}'"

    return write


def left(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "temporary").iterdir())


def test_the_text_is_taken_as_it_was_left(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = f"{tmp_path}/seen"
    monkeypatch.setenv("EDITOR", script(f"cp $1 {seen}; touch $1~; echo and more >> $1"))
    assert edit("one\ntwo\n", 100) == "one\ntwo\nand more"
    assert Path(seen).read_text() == "one\ntwo\n"
    assert left(tmp_path) == []


def test_a_byte_order_mark_is_no_letter_of_the_question(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", script("printf '\\357\\273\\277one' > $1"))
    assert edit("", 100) == "one"


def test_visual_comes_before_editor_and_may_have_options(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", "false")
    monkeypatch.setenv("VISUAL", script('echo "$1" > $2') + " --wait")
    assert edit("", 100) == "--wait"


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("no-such-editor -w", "The editor 'no-such-editor -w' cannot be started: No such file or directory."),
        ("false", "The editor 'false' ended with the exit code 1; your text is as it was."),
        ("'vi", "$EDITOR is ''vi', which is no command"),
        ("rm", "The editor 'rm' left no file behind; your text is as it was."),
        ("sh -c 'rm $0 && mkfifo $0'", "The editor 'sh -c 'rm $0 && mkfifo $0'' left no file behind"),
    ],
)
def test_an_editor_that_fails_is_one_sentence(
    command: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", command)
    with pytest.raises(EditorError) as caught:
        edit("text", 100)
    assert str(caught.value).startswith(sentence)
    assert left(tmp_path) == []


def test_no_editor_at_all_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(editor, "INSTALLED", ("no-such-editor",))
    with pytest.raises(EditorError, match="set EDITOR to one"):
        edit("text", 100)


def test_a_text_that_became_too_long_is_kept_in_its_file(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", script("echo 0123456789 > $1"))
    with pytest.raises(EditorError, match="10 characters, and a question at most 9"):
        edit("text", 9)
    (folder,) = left(tmp_path)
    assert (folder / "question.md").read_text() == "0123456789\n"
