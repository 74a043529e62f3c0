"""Watching: a theme that is new, edited, broken or gone is told once, with what it holds now."""

from __future__ import annotations

import os
from pathlib import Path

from minigpt4.themes import own_themes_folder
from minigpt4.themes.watch import ThemeWatch


def write(name: str, color: str = "#123456") -> Path:
    own_themes_folder().mkdir(parents=True, exist_ok=True)
    path = own_themes_folder() / f"{name}.toml"
    path.write_text(f'name = "{name}"\nprimary = "{color}"')
    return path


def test_nothing_has_changed_until_something_does() -> None:
    write("mine")
    assert ThemeWatch().poll() == []


def test_a_new_theme_is_told_once() -> None:
    watch = ThemeWatch()
    write("mine")
    (change,) = watch.poll()
    assert change.name == "mine" and change.theme is not None and change.problem is None
    assert watch.poll() == []


def test_an_edit_of_the_same_length_is_seen() -> None:
    path = write("mine")
    before = path.stat()
    watch = ThemeWatch()
    write("mine", "#654321")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    (change,) = watch.poll()
    assert change.theme is not None and change.theme.primary == "#654321"


def test_an_editor_that_puts_a_new_file_in_its_place_is_seen() -> None:
    path = write("mine")
    watch = ThemeWatch()
    facts = path.stat()
    other = path.with_suffix(".tmp")
    other.write_text('name = "mine"\nprimary = "#654321"')
    os.utime(other, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    other.replace(path)
    assert [change.name for change in watch.poll()] == ["mine"]


def test_a_slip_is_told_and_the_next_save_mends_it() -> None:
    path = write("mine")
    watch = ThemeWatch()
    path.write_text('name = "mine"\nprimary = "blau"')
    (change,) = watch.poll()
    assert change.theme is None
    assert change.problem is not None and str(path) in change.problem and "'blau'" in change.problem
    write("mine", "#abcdef")
    (change,) = watch.poll()
    assert change.theme is not None and change.theme.primary == "#abcdef"


def test_a_theme_that_goes_away_is_told_and_ours_of_that_name_comes_back() -> None:
    write("mine")
    write("paper")
    watch = ThemeWatch()
    for path in own_themes_folder().glob("*.toml"):
        path.unlink()
    gone, back = watch.poll()
    assert (gone.name, gone.theme, gone.problem) == ("mine", None, None)
    assert back.name == "paper" and back.theme is not None and back.theme.background == "#f7f3ea"
