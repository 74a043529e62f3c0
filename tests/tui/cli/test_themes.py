"""`minigpt4 themes`: list, check, begin one's own."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from minigpt4.themes import load_theme, own_themes_folder, theme_names

Call = Callable[..., subprocess.CompletedProcess[str]]


def write(text: str, name: str = "mine") -> Path:
    own_themes_folder().mkdir(parents=True, exist_ok=True)
    path = own_themes_folder() / f"{name}.toml"
    path.write_text(text)
    return path


def test_the_list_tells_kind_and_owner(call_minigpt4: Call) -> None:
    path = write('name = "mine"\nprimary = "#123456"\ndark = false')
    done = call_minigpt4("themes", "list")
    rows = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert ["harbour", "dark", "shipped"] in rows and ["terminal", "terminal", "shipped"] in rows
    assert ["mine", "light", str(path)] in rows
    assert [
        row["name"] for row in json.loads(call_minigpt4("themes", "list", "--json").stdout)
    ] == theme_names()


def test_a_broken_theme_is_listed_and_reported(call_minigpt4: Call) -> None:
    path = write('name = "mine"\nprimary = "blau"')
    done = call_minigpt4("themes", "list")
    assert done.returncode == 1
    assert ["mine", "broken", str(path)] in [line.split() for line in done.stdout.splitlines()]
    assert f"In the theme {path}, 'primary' is 'blau'; it must be a colour" in done.stderr


def test_all_shipped_themes_pass_the_check(call_minigpt4: Call) -> None:
    done = call_minigpt4("themes", "check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"{name} can be used." for name in theme_names()]


def test_a_file_anywhere_can_be_checked(call_minigpt4: Call, tmp_path: Path) -> None:
    path = tmp_path / "new.toml"
    path.write_text('name = "new"\nprimary = "#123456"\n[variables]\nborder = "blau"')
    done = call_minigpt4("themes", "check", path)
    assert done.returncode == 1 and "variables.border = 'blau'" in done.stderr
    assert call_minigpt4("themes", "check", tmp_path / "absent.toml").returncode == 1


def test_what_is_hard_to_read_is_reported_and_no_failure(call_minigpt4: Call) -> None:
    write('name = "mine"\nprimary = "#5fa8d3"\nforeground = "#444444"\nbackground = "#111111"')
    done = call_minigpt4("themes", "check", "mine")
    assert done.returncode == 0
    assert "mine can be used; " in done.stdout and "hard to read." in done.stdout
    assert "'foreground' on 'background' has a contrast of 1.9; text needs 4.5." in done.stderr


def test_a_theme_of_ones_own_begins_as_a_copy(call_minigpt4: Call) -> None:
    done = call_minigpt4("themes", "new", "my-quay", "--from", "paper")
    path = own_themes_folder() / "my-quay.toml"
    assert (done.returncode, done.stdout) == (0, f"{path}\n")
    assert load_theme("my-quay").background == load_theme("paper").background
    assert "# Ink on warm paper" in path.read_text()
    assert tomllib.loads(path.read_text())["name"] == "my-quay"
    again = call_minigpt4("themes", "new", "my-quay")
    assert again.returncode == 2 and "already" in again.stderr


@pytest.mark.parametrize("name", ["", "../x", "Ähm", "-x", "a b"])
def test_a_name_that_is_no_file_name_is_refused(call_minigpt4: Call, name: str) -> None:
    done = call_minigpt4("themes", "new", "--", name)
    assert done.returncode == 2
    assert not own_themes_folder().exists()


def test_paths_are_reported(call_minigpt4: Call) -> None:
    assert call_minigpt4("themes", "path").stdout == f"{own_themes_folder()}\n"
    assert call_minigpt4("themes", "path", "paper").stdout.endswith("paper.toml\n")
    assert "did you mean 'paper'" in call_minigpt4("themes", "path", "papr").stderr
