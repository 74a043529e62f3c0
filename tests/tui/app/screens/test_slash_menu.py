"""The list above the composer: commands after a slash, and paths after Tab."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from textual import events

from minigpt4.tui.conversation.slash_commands import choices_for
from minigpt4.tui.screens.help import HelpScreen
from minigpt4.tui.widgets.completions import Completions

Play = Any
Now = Any
MakePng = Any


def menu(now: Now) -> Completions:
    found: Completions = now.app.chat.query_one(Completions)
    return found


def chosen(now: Now) -> str:
    choice = menu(now).choice
    return "" if choice is None else choice.label


async def press(now: Now, *keys: str) -> str:
    await now.pilot.press(*keys)
    await now.pilot.pause()
    text: str = now.app.chat.composer.text
    return text


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (40, 10)])
async def test_every_command_is_reached_with_the_arrows_and_seen(play: Play, size: tuple[int, int]) -> None:
    async with play(size=size) as now:
        await press(now, "/")
        names = [one.label for one in choices_for("/")]
        for name in names:
            assert chosen(now) == name
            assert name in now.text()
            await press(now, "down")
        assert chosen(now) == names[0]  # from the end to the beginning
        await press(now, "up")
        assert chosen(now) == names[-1]


async def test_enter_runs_the_command_under_the_cursor(play: Play) -> None:
    async with play() as now:
        await press(now, *"/hlp", "enter")
        await now.until(lambda: isinstance(now.app.screen, HelpScreen))
        await press(now, "escape")
        assert now.app.chat.composer.text == ""


async def test_enter_right_after_a_burst_of_keys_sends_what_is_typed(play: Play) -> None:
    async with play() as now:
        assert await press(now, "/", "t") == "/t"
        assert chosen(now) == "/themes"
        composer = now.app.chat.composer
        # One burst: Enter is handled before the message that the text has changed.
        composer.insert("rip/none.png what is this?")
        await composer._on_key(events.Key("enter", "\r"))
        await now.until(lambda: "/trip/none.png" in now.text())
        assert now.app.screen is now.app.chat


async def test_enter_on_a_command_that_needs_a_path_waits_for_it(play: Play) -> None:
    async with play() as now:
        assert await press(now, *"/ima", "enter") == "/image "
        assert not menu(now).display
        assert await press(now, "ctrl+c", *"/im", "tab") == "/image "


async def test_escape_closes_the_list_and_keeps_the_text(play: Play) -> None:
    async with play() as now:
        assert await press(now, *"/he", "escape") == "/he"
        assert not menu(now).display
        await press(now, "l")
        assert menu(now).display


async def test_paths_are_walked_through_and_chosen_and_folders_go_on(
    play: Play, png: MakePng, tmp_path: Path
) -> None:
    (tmp_path / "trip" / "day").mkdir(parents=True)
    for name in ("a.png", "b c.png", "day/d.png", "day/e.png"):
        (tmp_path / "trip" / name).write_bytes(png((20, 20)))
    async with play(size=(150, 30)) as now:
        now.app.chat.composer.replace_text(f"/image {tmp_path}/tri")
        assert await press(now, "tab") == f"/image {tmp_path}/trip/"
        await press(now, "tab")
        assert (chosen(now), menu(now).option_count) == ("", 3)
        await press(now, "tab")
        assert chosen(now) == "a.png"
        await press(now, "shift+tab")
        assert chosen(now) == "day/"
        assert await press(now, "enter") == f"/image {tmp_path}/trip/day/"
        assert menu(now).option_count == 2
        await press(now, "down", "down")
        assert await press(now, "enter") == f"/image {tmp_path}/trip/day/e.png"
        assert not menu(now).display
        now.app.chat.composer.insert(f" {tmp_path}/trip/")
        await press(now, "tab", "tab", "down")
        second = f"{tmp_path}/trip/b\\ c.png"
        assert await press(now, "enter") == f"/image {tmp_path}/trip/day/e.png {second}"
        await press(now, "enter")
        await now.until(lambda: [one.name for one in now.app.chat.footer.pictures] == ["e.png", "b c.png"])


async def test_the_draft_opens_in_the_editor(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\necho " in my editor" >> "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(editor))
    async with play() as now:
        monkeypatch.setattr(now.app, "suspend", nullcontext)
        await press(now, *"written")
        assert await press(now, "f6") == "written in my editor"
        monkeypatch.setenv("VISUAL", "no-such-editor")
        assert await press(now, "f6") == "written in my editor"
        assert any("cannot be started" in note.message for note in now.app._notifications)


async def test_the_editor_command_opens_an_empty_draft(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\ncat "$1" > "$0.seen"\necho written > "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(editor))
    async with play() as now:
        monkeypatch.setattr(now.app, "suspend", nullcontext)
        await press(now, *"/editor", "enter")
        await now.until(lambda: now.app.chat.composer.text == "written")
        assert (tmp_path / "editor.seen").read_text() == ""


async def test_a_terminal_that_cannot_be_left_to_the_editor_says_so(play: Play) -> None:
    async with play() as now:
        assert await press(now, *"text", "f6") == "text"
        assert any("cannot be left" in note.message for note in now.app._notifications)
