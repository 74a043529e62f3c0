"""`minigpt4 config`: the path, what holds and why, and a check that says every problem."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Callable

import pytest

from minigpt4.core.storage.paths import config_home
from minigpt4.tui.settings.file import settings_path

Call = Callable[..., subprocess.CompletedProcess[str]]


def write(text: str) -> None:
    settings_path().parent.mkdir(parents=True, exist_ok=True)
    settings_path().write_text(text)


def test_the_path_is_reported_before_there_is_a_file(call_minigpt4: Call) -> None:
    assert call_minigpt4("config", "path").stdout == f"{config_home() / 'settings.toml'}\n"


def test_what_is_shown_is_a_settings_file_that_says_where_values_come_from(
    call_minigpt4: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    write('theme = "paper"\nsystem_prompt = "a\\nb\\u007f"\n[keys]\nsend = "f12"')
    monkeypatch.setenv("MINIGPT4_IMAGES", "off")
    for arguments in (("config", "show"), ("config", "show", "--about")):
        done = call_minigpt4(*arguments)
        assert (done.returncode, done.stderr) == (0, "")
        table = tomllib.loads(done.stdout)
        assert (table["theme"], table["images"], table["system_prompt"]) == ("paper", "off", "a\nb\x7f")
        assert table["keys"] == {"send": ["f12"]}
        assert 'theme = "paper"  # file' in done.stdout
        assert 'images = "off"  # environment' in done.stdout


def test_the_same_as_json(call_minigpt4: Call) -> None:
    write("seed = 4\nseeed = 5")
    done = call_minigpt4("config", "show", "--json")
    reported = json.loads(done.stdout)
    assert reported["settings"]["seed"] == {"value": 4, "from": "file"}
    assert reported["settings"]["keys"] == {"value": {}, "from": "default"}
    assert len(reported["problems"]) == 1 and "did you mean 'seed'" in done.stderr


def test_a_sound_file_is_reported(call_minigpt4: Call) -> None:
    assert "the defaults apply" in call_minigpt4("config", "check").stdout
    write('theme = "paper"')
    done = call_minigpt4("config", "check")
    assert (done.returncode, done.stdout) == (0, f"{settings_path()} is valid.\n")


def test_every_problem_is_a_line_and_the_check_fails(call_minigpt4: Call) -> None:
    write('them = "paper"\nbundle = "minni"\n[keys]\nquit = "ctrl+t"\nsendd = "f12"')
    done = call_minigpt4("config", "check")
    assert (done.returncode, done.stdout) == (1, "")
    for reported in ("'theme'", "There is no bundle 'minni'", "'ctrl+t' is given to", "did you mean 'send'"):
        assert reported in done.stderr
    assert len(done.stderr.splitlines()) == 4


def test_control_characters_of_the_file_do_not_reach_the_terminal(call_minigpt4: Call) -> None:
    write('images = "\\u001b[31m"\nsystem_prompt = "\\u009b31m\\u202e"')
    for command in ("check", "show"):
        done = call_minigpt4("config", command)
        assert not set(done.stdout + done.stderr) & {"\x1b", "\x9b", "\u202e"}
