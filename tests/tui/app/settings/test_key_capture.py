"""A key is changed by pressing it: kept in the settings file, in force at once, and nothing else is lost."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from textual.widgets import Static

from minigpt4.core.storage.paths import config_home
from minigpt4.tui.screens.help import HelpScreen
from minigpt4.tui.screens.key_capture import KeyScreen
from minigpt4.tui.screens.palette import PaletteScreen
from minigpt4.tui.screens.search import SearchScreen
from minigpt4.tui.screens.settings import SettingsScreen

Play = Any


def kept() -> Any:
    """The table of keys in the settings file."""
    path = config_home() / "settings.toml"
    return tomllib.loads(path.read_text()).get("keys", {}) if path.exists() else {}


def write(text: str) -> None:
    path = config_home() / "settings.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


async def ask_for_key(on: Any, action: str) -> KeyScreen:
    """Open the help, and Enter on the action's line."""
    if not isinstance(on.app.screen, HelpScreen):
        await on.app.run_action("app.help")
        await on.until(lambda: isinstance(on.app.screen, HelpScreen))
    rows = on.app.screen.rows
    rows.highlighted = rows.get_option_index(action)
    await on.pilot.press("enter")
    await on.until(lambda: isinstance(on.app.screen, KeyScreen))
    screen = on.app.screen
    assert isinstance(screen, KeyScreen)
    return screen


def problem(screen: KeyScreen) -> str:
    return str(screen.query_one("#problem", Static).render())


async def back_in_help(on: Any) -> HelpScreen:
    await on.until(lambda: isinstance(on.app.screen, HelpScreen))
    screen = on.app.screen
    assert isinstance(screen, HelpScreen)
    return screen


async def test_the_key_that_is_pressed_is_kept_shown_and_works_at_once(play: Play) -> None:
    write('# mine\ntheme = "paper" # as on paper\n')
    async with play() as on:
        await ask_for_key(on, "search")
        await on.pilot.press("f10")
        screen = await back_in_help(on)
        assert kept() == {"search": ["f10"]}
        assert (
            (config_home() / "settings.toml")
            .read_text()
            .startswith('# mine\ntheme = "paper" # as on paper\n')
        )
        assert "F10" in str(screen.rows.get_option("search").prompt)
        assert screen.rows.chosen == "search", "the cursor stays"
        await on.pilot.press("escape", "ctrl+f")
        await on.pilot.pause()
        assert on.app.screen is on.app.chat, "the key before is free"
        await on.pilot.press("f10")
        await on.until(lambda: isinstance(on.app.screen, SearchScreen))


@pytest.mark.parametrize("key", ["alt+enter", "ctrl+y", "f11", "ctrl+shift+left", "alt+s"])
async def test_any_key_that_the_app_does_not_use_can_be_taken(play: Play, key: str) -> None:
    async with play() as on:
        await ask_for_key(on, "export")
        await on.pilot.press(key)
        await back_in_help(on)
        assert kept() == {"export": [key]}
        assert on.app.keys_of("export") == (key,)


async def test_escape_leaves_the_key_as_it_is(play: Play) -> None:
    async with play({"keys": {"close": ["ctrl+k"]}}) as on:
        await ask_for_key(on, "search")
        await on.pilot.press("escape")
        await back_in_help(on)
        assert kept() == {} and on.app.keys_of("search") == ("ctrl+f", "f3")


@pytest.mark.parametrize("key", ["backspace", "delete"])
async def test_backspace_and_delete_bring_the_default_back(play: Play, key: str) -> None:
    write('[keys]\nsearch = ["f10"] # faster\nquit = ["f12"]\n')
    async with play() as on:
        await ask_for_key(on, "search")
        await on.pilot.press(key)
        await back_in_help(on)
        assert kept() == {"quit": ["f12"]}
        assert on.app.keys_of("search") == ("ctrl+f", "f3")


async def test_a_key_of_another_action_is_asked_about_and_taken_from_it_with_enter(play: Play) -> None:
    async with play() as on:
        screen = await ask_for_key(on, "export")
        await on.pilot.press("ctrl+f")
        await on.until(lambda: "Ctrl+F is the key of 'Search all conversations'" in problem(screen))
        assert on.app.screen is screen and kept() == {}
        await on.pilot.press("enter")
        await back_in_help(on)
        assert kept() == {"search": ["f3"], "export": ["ctrl+f"]}
        assert on.app.keys_of("search") == ("f3",) and on.app.keys_of("export") == ("ctrl+f",)


async def test_after_a_clash_another_key_can_be_pressed_or_nothing_changed(play: Play) -> None:
    async with play() as on:
        screen = await ask_for_key(on, "export")
        await on.pilot.press("ctrl+q")
        await on.until(lambda: "'Leave'" in problem(screen))
        await on.pilot.press("f10")
        await back_in_help(on)
        assert kept() == {"export": ["f10"]}
        screen = await ask_for_key(on, "export")
        await on.pilot.press("ctrl+q")
        await on.until(lambda: "'Leave'" in problem(screen))
        await on.pilot.press("escape")
        await back_in_help(on)
        assert kept() == {"export": ["f10"]} and not on.engine.stopped


async def test_one_key_in_two_places_that_are_never_open_together_is_no_clash(play: Play) -> None:
    async with play() as on:
        await ask_for_key(on, "select_picture")
        await on.pilot.press("m")
        await back_in_help(on)
        assert kept() == {"select_picture": ["m"]}


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("x", "could not be typed any more"),
        ("space", "could not be typed any more"),
        ("ctrl+i", "cannot tell that key from Tab"),
        ("ctrl+m", "cannot tell that key from Enter"),
        ("ctrl+h", "cannot tell that key from Backspace"),
        ("ctrl+@", "no name by which every terminal would know it"),
        ("ctrl+c", "Ctrl+C copies, stops and leaves"),
    ],
)
async def test_a_key_that_would_not_work_is_refused_with_the_reason(
    play: Play, key: str, sentence: str
) -> None:
    async with play() as on:
        screen = await ask_for_key(on, "search")
        await on.pilot.press(key)
        await on.until(lambda: sentence in problem(screen))
        assert on.app.screen is screen and kept() == {}
        await on.pilot.press("f10")
        await back_in_help(on)
        assert kept() == {"search": ["f10"]}


async def test_a_letter_is_a_key_where_nothing_is_typed(play: Play) -> None:
    async with play() as on:
        await ask_for_key(on, "copy_message")
        await on.pilot.press("x")
        await back_in_help(on)
        assert kept() == {"copy_message": ["x"]}


async def test_the_default_pressed_again_leaves_no_line_in_the_file(play: Play) -> None:
    write('[keys]\nexport = ["f10"]\n')
    async with play() as on:
        await ask_for_key(on, "export")
        await on.pilot.press("ctrl+s")
        await back_in_help(on)
        assert kept() == {}


async def test_the_settings_and_the_palette_lead_there_too(play: Play) -> None:
    async with play() as on:
        await on.pilot.press("f4")
        await on.until(lambda: isinstance(on.app.screen, SettingsScreen))
        settings = on.app.screen
        settings.rows.highlighted = settings.rows.get_option_index("keys.search")
        await on.pilot.press("enter")
        await on.until(lambda: isinstance(on.app.screen, KeyScreen))
        await on.pilot.press("f10")
        await on.until(lambda: on.app.screen is settings)
        await on.until(lambda: "f10" in str(settings.rows.get_option("keys.search").prompt))
        await on.pilot.press("ctrl+p")
        await on.until(lambda: isinstance(on.app.screen, PaletteScreen))
        await on.pilot.press(*"keys", "enter")
        await on.until(lambda: isinstance(on.app.screen, HelpScreen))


async def test_a_file_that_cannot_be_written_is_one_sentence_and_the_key_stays(play: Play) -> None:
    said: list[str] = []
    async with play() as on:
        write("keys = 3\n")
        on.app.say = lambda sentence, severity="": said.append(sentence)
        await ask_for_key(on, "search")
        await on.pilot.press("f10")
        await back_in_help(on)
        await on.until(lambda: said)
        assert (config_home() / "settings.toml").read_text() == "keys = 3\n"


async def test_the_welcome_shows_the_new_key(play: Play) -> None:
    async with play() as on:
        assert "Ctrl+O" in on.text()
        await ask_for_key(on, "pick_picture")
        await on.pilot.press("f10")
        await back_in_help(on)
        await on.pilot.press("escape")
        await on.until(lambda: on.app.screen is on.app.chat)
        await on.until(lambda: "F10" in on.text() and "Ctrl+O" not in on.text())
