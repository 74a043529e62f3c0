"""The help screen is generated, and therefore complete."""

from __future__ import annotations

from typing import Any

from minigpt4.tui.conversation.slash_commands import all_commands
from minigpt4.tui.screens.help import HelpScreen
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
        for command in all_commands():
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
