"""The help screen and the command palette are generated, and therefore complete."""

from __future__ import annotations

from typing import Any

from textual.command import CommandPalette

from minigpt4.tui.conversation.slash_commands import COMMANDS
from minigpt4.tui.screens.help import HelpScreen
from minigpt4.tui.screens.palette import Commands
from minigpt4.tui.screens.search import SearchScreen
from minigpt4.tui.settings.bindings import key_label
from minigpt4.tui.settings.keys import ACTIONS

Play = Any


def lines(on: Any) -> list[str]:
    return [str(row.prompt) for row in on.app.screen.rows.options]


async def open_help(on: Any) -> HelpScreen:
    await on.until(lambda: on.app.is_begun)
    await on.pilot.press("f1")
    await on.until(lambda: isinstance(on.app.screen, HelpScreen))
    await on.pilot.pause()
    screen = on.app.screen
    assert isinstance(screen, HelpScreen)
    return screen


async def test_every_action_and_every_command_is_listed_with_its_keys(play: Play) -> None:
    async with play() as on:
        await open_help(on)
        listed = lines(on)
        for action in ACTIONS:
            assert any(action.about in line and key_label(action.keys[0]) in line for line in listed)
        for command in COMMANDS:
            assert any(line.strip().startswith(command.name) for line in listed)


async def test_keys_of_ones_own_are_shown(play: Play) -> None:
    async with play({"keys": {"search": ["ctrl+y"], "help": ["f1"], "export": []}}) as on:
        await open_help(on)
        assert any("Ctrl+Y" in line and "Search all" in line for line in lines(on))
        assert any("no key" in line and "Save the conversation" in line for line in lines(on))


async def test_typing_finds_a_key_by_what_it_does(play: Play) -> None:
    async with play() as on:
        screen = await open_help(on)
        await on.pilot.press(*"rename")
        await on.until(lambda: len(lines(on)) == 2)
        note: Any = screen.query_one("#note")
        await on.until(lambda: "in the list of conversations" in str(note.render()))
        await on.pilot.press(*"xyz")
        await on.until(lambda: lines(on) == [])
        assert "Nothing" in str(note.render())


async def test_the_palette_runs_what_is_chosen(play: Play) -> None:
    async with play() as on:
        await on.until(lambda: on.app.is_begun)
        await on.pilot.press("ctrl+p")
        await on.until(lambda: isinstance(on.app.screen, CommandPalette))
        await on.pilot.press(*"search all")
        await on.until(lambda: on.app.screen.query_one("CommandList").option_count > 0)
        await on.pilot.press("down", "enter")
        await on.until(lambda: isinstance(on.app.screen, SearchScreen))


async def test_the_palette_offers_every_action_of_app_and_chat_themes_and_bundles(play: Play) -> None:
    async with play() as on:
        await on.until(lambda: on.app.is_begun)
        commands = Commands(on.app.chat)
        names = [str(hit.text) async for hit in commands.search("e")]
        assert {"Theme: paper", "Model: mini", "Change the settings"} <= set(names)
        found = [hit async for hit in commands.search("Theme: paper")]
        await on.app.chat.run_action("stop")
        next(hit for hit in found if hit.text == "Theme: paper").command()
        await on.until(lambda: on.app.theme == "paper")


async def test_every_command_of_the_palette_has_an_action(play: Play) -> None:
    async with play() as on:
        await on.until(lambda: on.app.is_begun)
        offered = [hit async for hit in Commands(on.app.chat).discover()]
        assert offered
        for action in ACTIONS:
            if action.scope == "app":
                assert hasattr(on.app, f"action_{action.id}")
            if action.scope == "chat":
                assert hasattr(on.app.chat, f"action_{action.id}")
