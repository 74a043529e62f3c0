"""The command palette lists all that can be done where the person is, with the keys as they are now."""

from __future__ import annotations

from typing import Any

import pytest
from textual.geometry import Region

from minigpt4.tui.history.store import StoredPicture
from minigpt4.tui.screens.palette import PaletteScreen
from minigpt4.tui.screens.search import SearchScreen
from minigpt4.tui.screens.settings import SettingsScreen
from minigpt4.tui.settings.bindings import key_label
from minigpt4.tui.settings.keys import ACTIONS
from minigpt4.tui.widgets.option_rows import OptionRows

Play = Any


async def open_palette(on: Any) -> PaletteScreen:
    await on.pilot.press("ctrl+p")
    await on.until(lambda: isinstance(on.app.screen, PaletteScreen))
    screen = on.app.screen
    assert isinstance(screen, PaletteScreen)
    return screen


def listed(screen: PaletteScreen) -> dict[str, str]:
    """The keys of each command, by its name."""
    return {one.name: one.keys for one in screen._listed if one is not None}


def keys_of(*scopes: str) -> dict[str, str]:
    return {
        action.about: ", ".join(map(key_label, action.keys))
        for action in ACTIONS
        if action.scope in scopes and action.id != "palette"
    }


async def test_every_action_of_the_app_the_chat_and_the_composer_is_there_with_its_keys(play: Play) -> None:
    async with play() as on:
        screen = await open_palette(on)
        wanted = keys_of("app", "chat", "composer")
        assert wanted.items() <= listed(screen).items()
        assert not keys_of("message", "sidebar", "chips", "zoom").keys() & listed(screen).keys()
        rows = [str(row.prompt) for row in screen.rows.options]
        for about, keys in wanted.items():
            assert any(about in row and row.endswith(keys) for row in rows)
        assert listed(screen)["Copy the last answer"] == "/copy", "a command without a key is there, too"


async def test_a_message_in_focus_brings_its_actions_to_the_top(play: Play, picture: StoredPicture) -> None:
    async with play() as on:
        on.app.attach([picture])
        await on.talk("What is this?", "A cat.")
        question, answer = on.app.chat.transcript.views
        answer.focus()
        screen = await open_palette(on)
        there = listed(screen)
        assert next(iter(there)) == "Go to the next message"
        assert there["Copy the message"] == "c"
        assert "Show the next variant" not in there, "there is one variant"
        assert "Show the picture on the whole screen" not in there, "the answer has none"
        await on.pilot.press("escape")
        question.focus()
        screen = await open_palette(on)
        assert listed(screen)["Show the picture on the whole screen"] == "Enter, Space"
        await on.pilot.press(*"copy the message", "enter")
        await on.until(lambda: on.app.clipboard == "What is this?")


async def test_the_keys_are_those_of_the_settings(play: Play) -> None:
    keys = {"search": ["ctrl+y"], "export": [], "copy_message": ["x", "f10"]}
    async with play({"keys": keys}) as on:
        await on.talk("What is this?", "A cat.")
        on.app.chat.transcript.views[-1].focus()
        there = listed(await open_palette(on))
        assert there["Search all conversations"] == "Ctrl+Y"
        assert there["Save the conversation as a file"] == "no key"
        assert there["Copy the message"] == "x, F10"


async def test_the_list_of_conversations_in_focus_brings_its_actions(play: Play) -> None:
    async with play(size=(110, 30)) as on:
        await on.talk("What is this?", "A cat.")
        await on.pilot.press("ctrl+b")
        await on.until(lambda: isinstance(on.app.focused, OptionRows))
        assert keys_of("sidebar").items() <= listed(await open_palette(on)).items()


async def test_over_another_screen_its_actions_are_there_and_those_of_the_conversation_close_it(
    play: Play,
) -> None:
    async with play() as on:
        await on.pilot.press("f4")
        await on.until(lambda: isinstance(on.app.screen, SettingsScreen))
        screen = await open_palette(on)
        assert next(iter(listed(screen))) == "Go back to the conversation"
        await on.pilot.press(*"begin a new line", "enter")
        await on.until(lambda: on.app.screen is on.app.chat)
        assert on.app.chat.composer.text == "\n"


async def test_it_runs_what_is_chosen(play: Play) -> None:
    async with play() as on:
        await open_palette(on)
        await on.pilot.press(*"search all", "enter")
        await on.until(lambda: isinstance(on.app.screen, SearchScreen))


@pytest.mark.parametrize("typed", ["Theme: paper", "thpaper"])
async def test_themes_and_bundles_are_found_by_typing(play: Play, typed: str) -> None:
    async with play() as on:
        screen = await open_palette(on)
        assert "Theme: paper" not in listed(screen)
        await on.pilot.press(*"model")
        assert "Model: mini" in listed(screen)
        screen.query_one("#query").value = typed
        await on.until(lambda: "Theme: paper" in listed(screen))
        await on.pilot.press("enter")
        await on.until(lambda: on.app.theme == "paper")


async def test_nothing_found_is_said(play: Play) -> None:
    async with play() as on:
        screen = await open_palette(on)
        await on.pilot.press(*"zzqq")
        note: Any = screen.query_one("#note")
        await on.until(lambda: "Nothing found." in str(note.render()))
        await on.pilot.press("enter")
        assert on.app.screen is screen


async def test_every_action_of_the_table_exists(play: Play) -> None:
    async with play() as on:
        for action in ACTIONS:
            if action.scope == "app":
                assert hasattr(on.app, f"action_{action.id}")
            if action.scope == "chat":
                assert hasattr(on.app.chat, f"action_{action.id}")


async def test_a_named_prompt_is_asked_and_what_was_typed_stays(play: Play) -> None:
    async with play() as on:
        on.app.chat.composer.replace_text("And then")
        screen = await open_palette(on)
        assert all(listed(screen)), "what only the plain chat has is not there"
        assert listed(screen)["A poem about the picture"] == "/poem"
        await on.pilot.press(*"apoem", "enter")
        await on.until(lambda: on.engine.asked)
        assert on.shown[0] == "Can you craft a beautiful poem about this image?"
        assert on.app.chat.composer.text == "And then"


async def test_a_command_without_a_key_chosen_over_another_screen_closes_that(play: Play) -> None:
    async with play() as on:
        await on.talk("What is this?", "A cat.")
        await on.pilot.press("f4")
        await on.until(lambda: isinstance(on.app.screen, SettingsScreen))
        await open_palette(on)
        await on.pilot.press(*"copy the last answer", "enter")
        await on.until(lambda: on.app.clipboard == "A cat.")
        assert on.app.screen is on.app.chat


@pytest.mark.parametrize("size", [(80, 24), (44, 24)])
async def test_the_keys_are_never_cut(play: Play, picture: StoredPicture, size: tuple[int, int]) -> None:
    async with play({"keys": {"zoom_picture": ["enter", "space", "f10"]}}, size=size) as on:
        on.app.attach([picture])
        await on.talk("What is this?", "A cat.")
        on.app.chat.transcript.views[0].focus()
        screen = await open_palette(on)
        lines = screen.rows.render_lines(Region(0, 0, *screen.rows.size))
        drawn = [line.text.rstrip() for line in lines if line.text.startswith("   ") and line.text.strip()]
        assert any(line.endswith("  Enter, Space, F10") for line in drawn)
        assert all(line.endswith(tuple(f"  {keys}" for keys in listed(screen).values())) for line in drawn)
