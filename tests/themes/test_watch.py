"""Watching theme files: each that is added, edited or deleted is reported once."""

from __future__ import annotations

import os
from pathlib import Path

from minigpt4.themes import load_theme, own_themes_folder
from minigpt4.themes.watch import ThemeWatch


def write(name: str, color: str = "#123456") -> Path:
    own_themes_folder().mkdir(parents=True, exist_ok=True)
    path = own_themes_folder() / f"{name}.toml"
    path.write_text(f'name = "{name}"\nprimary = "{color}"')
    return path


def test_nothing_is_reported_until_something_changes() -> None:
    write("mine")
    assert ThemeWatch().poll() == []


def test_a_new_theme_is_reported_once() -> None:
    watch = ThemeWatch()
    write("mine")
    assert watch.poll() == ["mine"]
    assert watch.poll() == []


def test_an_edit_of_the_same_length_is_seen() -> None:
    path = write("mine")
    before = path.stat()
    watch = ThemeWatch()
    write("mine", "#654321")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert watch.poll() == ["mine"]
    assert load_theme("mine").primary == "#654321"


def test_a_file_replaced_by_an_editor_is_seen() -> None:
    path = write("mine")
    watch = ThemeWatch()
    status = path.stat()
    other = path.with_suffix(".tmp")
    other.write_text('name = "mine"\nprimary = "#654321"')
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)
    assert watch.poll() == ["mine"]


def test_a_broken_file_is_reported_and_so_is_its_correction() -> None:
    path = write("mine")
    watch = ThemeWatch()
    path.write_text('name = "mine"\nprimary = "blau"')
    assert watch.poll() == ["mine"]
    write("mine", "#abcdef")
    assert watch.poll() == ["mine"]


def test_a_deleted_theme_is_reported_and_ours_of_that_name_is_back() -> None:
    write("mine")
    write("paper")
    watch = ThemeWatch()
    for path in own_themes_folder().glob("*.toml"):
        path.unlink()
    assert watch.poll() == ["mine", "paper"]
    assert load_theme("paper").background == "#f7f3ea"
