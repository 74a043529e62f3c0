"""The theme picker: previews themes, saves or restores them, and follows their files."""

from __future__ import annotations

import os
from typing import Any

from textual.widgets import Static

from minigpt4.core.storage.paths import config_home
from minigpt4.themes import own_themes_folder
from minigpt4.tui.screens.themes import ThemesScreen

Play = Any

OWN = 'name = "mine"\nprimary = "{}"\nbackground = "#101010"\nforeground = "#eeeeee"\n'


def write(name: str, text: str) -> None:
    path = own_themes_folder() / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    stamp = path.stat().st_mtime_ns + 1_000_000_000 if path.exists() else None
    path.write_text(text)
    if stamp is not None:
        os.utime(path, ns=(stamp, stamp))


async def open_themes(on: Any) -> ThemesScreen:
    await on.until(lambda: on.app.is_begun)
    await on.pilot.press("ctrl+t")
    await on.until(lambda: isinstance(on.app.screen, ThemesScreen))
    await on.pilot.pause()
    screen = on.app.screen
    assert isinstance(screen, ThemesScreen)
    return screen


def go_to(screen: ThemesScreen, name: str) -> None:
    rows: Any = screen.query_one("#themes")
    rows.highlighted = rows.get_option_index(name)


async def test_the_theme_under_the_cursor_is_tried_and_escape_takes_it_back(play: Play) -> None:
    async with play() as on:
        screen = await open_themes(on)
        assert on.app.theme == "harbour"
        go_to(screen, "paper")
        await on.until(lambda: on.app.theme == "paper")
        await on.pilot.press("escape")
        await on.until(lambda: on.app.theme == "harbour")
        assert on.app.screen is on.app.chat
        assert not (config_home() / "settings.toml").exists()


async def test_enter_keeps_the_theme(play: Play) -> None:
    async with play() as on:
        screen = await open_themes(on)
        go_to(screen, "paper")
        await on.pilot.press("enter")
        await on.until(lambda: on.app.screen is on.app.chat)
        assert (on.app.theme, on.app.settings.theme) == ("paper", "paper")
        assert 'theme = "paper"' in (config_home() / "settings.toml").read_text()


async def test_a_theme_that_is_edited_is_repainted_meanwhile(play: Play) -> None:
    write("mine", OWN.format("#ff0000"))
    async with play() as on:
        screen = await open_themes(on)
        go_to(screen, "mine")
        await on.until(lambda: on.app.theme == "mine")
        write("mine", OWN.format("#00ff00"))
        await on.until(lambda: on.app.get_theme("mine").primary == "#00ff00")
        await on.until(lambda: on.app.theme == "mine")


async def test_a_theme_that_is_wrong_says_why_and_changes_nothing(play: Play) -> None:
    write("mine", 'name = "mine"\nprimary = "bluish"\n')
    async with play() as on:
        screen = await open_themes(on)
        go_to(screen, "mine")
        problem = screen.query_one("#problem", Static)
        await on.until(lambda: "'primary' is 'bluish'" in str(problem.render()))
        await on.pilot.press("enter")
        assert on.app.screen is screen
        assert on.app.theme == "harbour"
        write("mine", OWN.format("#00ff00"))
        await on.until(lambda: on.app.theme == "mine")
        assert str(problem.render()) == ""


async def test_a_new_file_appears_in_the_list(play: Play) -> None:
    async with play() as on:
        screen = await open_themes(on)
        write("mine", OWN.format("#ff0000"))
        rows: Any = screen.query_one("#themes")
        await on.until(lambda: "mine" in [row.id for row in rows.options])
        assert rows.chosen == "harbour", "the cursor stays"
