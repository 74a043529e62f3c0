"""Themes: ours load, a user's own are added, and an error names file, key and value."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt4.core.errors import UsageError
from minigpt4.core.storage.paths import config_home
from minigpt4.themes import ThemeError, is_color, load_theme, read_theme, theme_names


def write(folder: Path, text: str, name: str = "mine") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_shipped_theme_loads() -> None:
    names = theme_names()
    assert {"harbour", "paper"} <= set(names)
    assert [load_theme(name).name for name in names] == names


def test_there_is_a_theme_for_dark_and_one_for_bright_rooms() -> None:
    assert {load_theme(name).dark for name in theme_names()} == {True, False}


def test_a_users_theme_is_found_and_replaces_ours_of_the_same_name() -> None:
    write(config_home() / "themes", 'name = "mine"\nprimary = "#123456"')
    write(config_home() / "themes", 'name = "paper"\nprimary = "#abcdef"', name="paper")
    assert "mine" in theme_names()
    assert load_theme("mine").primary == "#123456"
    assert load_theme("paper").primary == "#abcdef"


def test_a_broken_user_theme_hides_no_other() -> None:
    write(config_home() / "themes", "primary = ", name="broken")
    assert load_theme("harbour").dark
    with pytest.raises(ThemeError, match="not valid TOML"):
        load_theme("broken")


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'paper'"):
        load_theme("papr")
    with pytest.raises(UsageError, match="there are contrast, ember"):
        load_theme("../secret")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('primry = "#112233"', "'primry' is not a known key; did you mean 'primary'"),
        ('accent = "#12"', "'accent' is '#12'; it must be a colour, written as #RGB"),
        ('accent = "rgb(1, 2, 256)"', r"'accent' is 'rgb\(1, 2, 256\)'; it must be a colour"),
        ("accent = 7", "'accent' is 7; it must be a colour"),
        ('dark = "yes"', "'dark' is 'yes'; it must be true or false"),
        ("text_alpha = 2.0", "'text_alpha' is 2.0; it must be a number from 0 to 1"),
        ("text_alpha = true", "'text_alpha' is True; it must be a number from 0 to 1"),
        ('variables = "none"', "'variables' is 'none'; it must be a table"),
        ("[variables]\nborder = 3", "'variables.border' is 3; it must be a text"),
        ('[variables]\nborder = "red; } Screen { display: none"', "variables.border"),
        ('[variables]\nborder = "#12345 30%"', "variables.border = '#12345 30%' is not a colour"),
        ('[variables]\n"a b" = "none"', "variables.a b"),
    ],
)
def test_an_error_names_file_key_and_value(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path, f'name = "mine"\nprimary = "#123456"\n{line}')
    with pytest.raises(ThemeError, match=message) as caught:
        read_theme(path)
    assert str(path) in str(caught.value)
    assert str(caught.value).endswith((".", "?"))


def test_a_theme_needs_a_name_a_primary_colour_and_the_name_of_its_file(tmp_path: Path) -> None:
    with pytest.raises(ThemeError, match="'primary' is missing"):
        read_theme(write(tmp_path, 'name = "mine"'))
    with pytest.raises(ThemeError, match="'name' is missing"):
        read_theme(write(tmp_path, 'primary = "#123"'))
    with pytest.raises(ThemeError, match="differs from the file's own name"):
        read_theme(write(tmp_path, 'name = "other"\nprimary = "#123"'))


def test_a_file_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ThemeError, match="not UTF-8 text"):
        read_theme(path)
    with pytest.raises(ThemeError, match="cannot be read"):
        read_theme(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    "color", ["#fff", "#ABCDEF", "#12345678", "rgb(0, 0, 255)", "hsl(360, 0%,100%)", "ansi_bright_red"]
)
def test_each_form_of_a_color_is_read(color: str) -> None:
    assert is_color(color)


@given(st.integers(0, 999), st.integers(0, 999), st.integers(0, 999))
def test_rgb_is_a_color_only_if_every_channel_is_a_byte(red: int, green: int, blue: int) -> None:
    assert is_color(f"rgb({red}, {green}, {blue})") == (max(red, green, blue) <= 255)
