"""The settings screen: every setting and key of the schema, for all conversations or for one."""

from __future__ import annotations

from typing import Any

import pytest
from textual.widgets import Input, Static

from minigpt4.core.storage.paths import config_home
from minigpt4.tui.history.store import Store
from minigpt4.tui.screens.settings import SCOPE, SettingsScreen, ValueScreen
from minigpt4.tui.screens.themes import ThemesScreen
from minigpt4.tui.settings.keys import ACTIONS
from minigpt4.tui.settings.settings import schema

Play = Any


async def open_settings(on: Any) -> SettingsScreen:
    await on.until(lambda: on.app.is_begun)
    await on.pilot.press("f4")
    await on.until(lambda: isinstance(on.app.screen, SettingsScreen))
    await on.pilot.pause()
    screen = on.app.screen
    assert isinstance(screen, SettingsScreen)
    return screen


async def choose(on: Any, screen: SettingsScreen, key: str) -> None:
    screen.rows.highlighted = screen.rows.get_option_index(key)
    await on.pilot.press("enter")
    await on.pilot.pause()


def row(screen: SettingsScreen, key: str) -> str:
    return str(screen.rows.get_option(key).prompt)


def written() -> str:
    path = config_home() / "settings.toml"
    return path.read_text() if path.exists() else ""


async def test_every_setting_and_every_key_is_there(play: Play) -> None:
    async with play() as on:
        screen = await open_settings(on)
        there = {option.id for option in screen.rows.options}
        assert {one.name for one in schema()} - {"keys"} <= there
        assert {f"keys.{action.id}" for action in ACTIONS} <= there


async def test_typing_narrows_the_list_down(play: Play) -> None:
    async with play() as on:
        screen = await open_settings(on)
        await on.pilot.press(*"greedy")
        await on.until(lambda: [one.id for one in screen.rows.options if one.id] == [SCOPE, "temperature"])
        await on.pilot.press("enter")
        await on.until(lambda: isinstance(on.app.screen, ValueScreen))


async def test_yes_and_no_change_places_at_once(play: Play) -> None:
    async with play() as on:
        screen = await open_settings(on)
        await choose(on, screen, "reduced_motion")
        await on.until(lambda: "no" in row(screen, "reduced_motion"))
        assert "reduced_motion = false" in written()
        assert on.app.settings.reduced_motion is False


async def test_a_choice_is_taken_from_its_list(play: Play) -> None:
    async with play() as on:
        screen = await open_settings(on)
        await choose(on, screen, "images")
        await on.until(lambda: isinstance(on.app.screen, ValueScreen))
        await on.pilot.press("end", "enter")
        await on.until(lambda: "off" in row(screen, "images"))
        assert 'images = "off"' in written()
        assert "your settings file" in row(screen, "images")


async def test_a_number_is_typed_and_a_wrong_one_is_reported(play: Play) -> None:
    async with play() as on:
        screen = await open_settings(on)
        await choose(on, screen, "temperature")
        await on.until(lambda: isinstance(on.app.screen, ValueScreen))
        line = on.app.screen.query_one(Input)
        line.value = "hot [/]"
        await on.pilot.press("enter")
        reported = on.app.screen.query_one("#problem", Static)
        await on.until(lambda: "it must be a number from 0 to 10" in str(reported.render()))
        line.value = "0.7"
        await on.pilot.press("enter")
        await on.until(lambda: on.app.settings.temperature == 0.7)
        assert "temperature = 0.7" in written()
        await choose(on, screen, "temperature")
        await on.until(lambda: isinstance(on.app.screen, ValueScreen))
        on.app.screen.query_one(Input).value = ""
        await on.pilot.press("enter")
        await on.until(lambda: on.app.settings.temperature is None)
        assert "temperature" not in written()


async def test_escape_leaves_a_value_as_it_was(play: Play) -> None:
    async with play() as on:
        screen = await open_settings(on)
        await choose(on, screen, "max_tokens")
        await on.until(lambda: isinstance(on.app.screen, ValueScreen))
        on.app.screen.query_one(Input).value = "5"
        await on.pilot.press("escape")
        await on.until(lambda: on.app.screen is screen)
        assert on.app.settings.max_tokens is None


async def test_a_setting_of_this_conversation_is_kept_with_it_and_taken_back(
    store: Store, play: Play
) -> None:
    talk = store.new_conversation()
    store.add_message(talk.id, None, "user", "a question")
    async with play(conversation=talk.id) as on:
        await on.until(lambda: on.shown == ["a question"])
        screen = await open_settings(on)
        await choose(on, screen, SCOPE)
        there = {option.id for option in screen.rows.options if option.id}
        assert "theme" not in there and "temperature" in there
        await choose(on, screen, "temperature")
        await on.until(lambda: isinstance(on.app.screen, ValueScreen))
        on.app.screen.query_one(Input).value = "0.2"
        await on.pilot.press("enter")
        await on.until(lambda: store.settings(talk.id) == {"temperature": 0.2})
        assert "this conversation" in row(screen, "temperature")
        assert written() == ""
        await choose(on, screen, "temperature")
        await on.until(lambda: isinstance(on.app.screen, ValueScreen))
        on.app.screen.query_one(Input).value = ""
        await on.pilot.press("enter")
        await on.until(lambda: store.settings(talk.id) == {})


async def test_the_theme_has_a_screen_of_its_own(play: Play) -> None:
    async with play() as on:
        screen = await open_settings(on)
        await choose(on, screen, "theme")
        await on.until(lambda: isinstance(on.app.screen, ThemesScreen))


@pytest.mark.parametrize("size", [(20, 5), (200, 60)])
async def test_it_stands_any_size(play: Play, size: tuple[int, int]) -> None:
    async with play(size=size) as on:
        screen = await open_settings(on)
        await on.pilot.press("down", "down", "pagedown")
        assert screen.rows.highlighted
        assert on.text().strip()
