"""The generated pages of docs/ are up to date, and their examples work."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from minigpt4.tui.settings.file import settings_path
from minigpt4.tui.settings.keys import ACTIONS, bindings
from minigpt4.tui.settings.settings import load_settings, schema

DOCS = Path(__file__).parents[3] / "docs"
_generator = runpy.run_path(str(DOCS / "reference.py"))
settings_page, keys_page = _generator["settings_page"], _generator["keys_page"]
PAGES = {"settings.md": settings_page, "keys.md": keys_page}


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_current(name: str) -> None:
    assert (DOCS / name).read_text("utf-8") == PAGES[name](), "run `python docs/make.py`"


def test_every_setting_and_every_action_is_listed() -> None:
    settings, keys = settings_page(), keys_page()
    assert all(f"### `{entry.name}`\n" in settings and entry.variable in settings for entry in schema())
    assert all(f"| `{action.id}` |" in keys for action in ACTIONS)


@pytest.mark.parametrize("name", PAGES)
def test_the_example_is_a_sound_settings_file(name: str) -> None:
    lines = re.findall(r"^    (.*)$", PAGES[name](), re.MULTILINE)
    settings_path().parent.mkdir(parents=True, exist_ok=True)
    settings_path().write_text("\n".join(lines))
    loaded = load_settings({}, {})
    assert loaded.settings.keys
    assert (loaded.problems, bindings(loaded.settings.keys).clashes) == ((), ())


def test_the_example_of_the_environment_says_the_same_as_that_of_the_file() -> None:
    (example,) = re.findall(r'MINIGPT4_KEYS="(.*)"', keys_page())
    from_environment = load_settings({}, {"MINIGPT4_KEYS": example}).settings.keys
    test_the_example_is_a_sound_settings_file("keys.md")
    assert load_settings({}, {}).settings.keys == from_environment
