"""The first key in a list counts, however soon it comes: none is taken only to show the cursor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from minigpt4.tui.history.store import Hit, Store
from minigpt4.tui.screens.export import ExportScreen
from minigpt4.tui.screens.help import HelpScreen
from minigpt4.tui.screens.models import BundleScreen, ModelsScreen
from minigpt4.tui.screens.palette import PaletteScreen
from minigpt4.tui.screens.picker import PickerScreen
from minigpt4.tui.screens.search import SearchScreen
from minigpt4.tui.screens.settings import SettingsScreen, ValueScreen
from minigpt4.tui.screens.themes import ThemesScreen
from minigpt4.tui.widgets.option_rows import OptionRows
from minigpt4.tui.widgets.picture_tree import PictureTree

Play = Any

SCREENS = {
    "ctrl+p": PaletteScreen,
    "f1": HelpScreen,
    "f2": ModelsScreen,
    "f4": SettingsScreen,
    "ctrl+t": ThemesScreen,
    "ctrl+s": ExportScreen,
}


def places(rows: OptionRows) -> list[int]:
    """The rows that can be chosen."""
    return [place for place, row in enumerate(rows.options) if not row.disabled]


def visible(on: Any, rows: OptionRows) -> bool:
    """Whether the row under the cursor is drawn in the cursor's colors."""
    color = rows.get_component_rich_style("option-list--option-highlighted").bgcolor
    strips = on.app.screen._compositor.render_strips()
    return any(part.style is not None and part.style.bgcolor == color for strip in strips for part in strip)


def move(place: int, rows: OptionRows, step: int) -> int:
    enabled = places(rows)
    return enabled[(enabled.index(place) + step) % len(enabled)]


@pytest.mark.parametrize("key", SCREENS)
async def test_down_leaves_the_first_row_at_once(play: Play, key: str) -> None:
    async with play() as on:
        await on.talk("What is this?", "A cat.")
        await on.pilot.press(key)
        await on.until(lambda: isinstance(on.app.screen, SCREENS[key]))
        rows = on.app.screen.query_one(OptionRows)
        await on.until(lambda: rows.highlighted is not None)
        first = rows.highlighted
        assert visible(on, rows)
        await on.pilot.press("down")
        assert rows.highlighted == move(first, rows, 1)
        await on.pilot.press("up")
        assert rows.highlighted == first


@pytest.mark.parametrize("key", [key for key in SCREENS if key != "ctrl+s"])  # a key of the composer's
async def test_down_that_is_pressed_before_the_screen_is_there_counts(play: Play, key: str) -> None:
    async with play() as on:
        await on.talk("What is this?", "A cat.")
        await on.pilot.press(key)
        await on.until(lambda: on.app.screen.query(OptionRows))
        rows = on.app.screen.query_one(OptionRows)
        await on.until(lambda: rows.highlighted is not None)
        first = rows.highlighted
        await on.pilot.press("escape")
        await on.until(lambda: on.app.screen is on.app.chat)
        on.app.simulate_key(key)
        on.app.simulate_key("down")
        await on.until(lambda: isinstance(on.app.screen, SCREENS[key]))
        rows = on.app.screen.query_one(OptionRows)
        await on.until(lambda: rows.highlighted == move(first, rows, 1))


async def test_down_while_the_bundles_are_being_read_waits_for_them(play: Play) -> None:
    async with play() as on:
        await on.until(lambda: on.app.engine.state != "off")  # the start has work of its own
        waiting: list[Any] = []
        on.app.in_background = lambda work, then, failed=None: waiting.append((work, then))
        on.app.push_screen(ModelsScreen())
        await on.until(lambda: waiting)
        await on.pilot.press("down", "enter")
        work, then = waiting[0]
        then(work())
        await on.until(lambda: isinstance(on.app.screen, BundleScreen))
        assert on.app.screen.info.name == "gemma-3-4b", "the second one"
        rows = on.app.screen.query_one(OptionRows)
        assert rows.highlighted == 0
        await on.pilot.press("down")
        assert rows.highlighted == 1


async def test_down_in_the_choices_of_a_setting_goes_on_from_the_one_in_force(play: Play) -> None:
    async with play({"images": "kitty"}) as on:
        await on.pilot.press("f4")
        await on.until(lambda: isinstance(on.app.screen, SettingsScreen))
        rows = on.app.screen.rows
        rows.highlighted = rows.get_option_index("images")
        await on.pilot.press("enter")
        await on.until(lambda: isinstance(on.app.screen, ValueScreen))
        choices = on.app.screen.query_one(OptionRows)
        assert choices.chosen == "=kitty" and visible(on, choices)
        await on.pilot.press("down")
        assert choices.chosen == "=sixel"


async def test_down_and_enter_typed_ahead_of_a_search_are_meant_for_what_it_finds(
    store: Store, play: Play
) -> None:
    talks = {}
    for word in ("harbour boats", "harbour gulls", "market", "bread"):
        talk = store.new_conversation()
        store.add_message(talk.id, None, "user", word)
        talks[talk.id] = word
    async with play() as on:
        await on.pilot.press("ctrl+f")
        await on.until(lambda: isinstance(on.app.screen, SearchScreen))
        screen = on.app.screen
        await on.until(lambda: on.app.engine.state != "off")  # the start has work of its own
        waiting: list[Any] = []
        on.app.in_background = lambda work, then, failed=None: waiting.append((work, then))
        await on.pilot.press(*"harbour", "down", "enter")
        found: list[str] = []
        while waiting:
            work, then = waiting.pop(0)
            result = work()
            if isinstance(result, list) and result and isinstance(result[0], Hit):  # not a draft being saved
                found = [talks[hit.conversation] for hit in result]
            then(result)
            await on.pilot.pause()
        assert len(found) == 2
        await on.until(lambda: on.app.screen is on.app.chat)
        assert screen.is_attached is False
        await on.until(lambda: on.shown == [found[1]])


async def test_down_in_the_picker_goes_from_the_first_picture_to_the_second(
    play: Play, tmp_path: Path, png: Any
) -> None:
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(png((4, 4)))
    async with play() as on:
        on.app.push_screen(PickerScreen(tmp_path))
        await on.until(lambda: isinstance(on.app.screen, PickerScreen))
        tree = on.app.screen.query_one(PictureTree)
        await on.until(lambda: tree.highlighted_picture is not None)
        await on.pilot.press("down")
        assert tree.highlighted_picture.name == "b.png"
        await on.until(lambda: on.app.engine.state != "off")  # the start has work of its own
        waiting: list[Any] = []
        on.app.in_background = lambda work, then, failed=None: waiting.append((work, then))
        tree.fill(tmp_path)
        await on.pilot.press("down", "down")
        for work, then in waiting:
            then(work())
        await on.until(lambda: tree.highlighted_picture and tree.highlighted_picture.name == "c.png")


async def test_down_in_the_list_of_conversations_goes_on_from_the_row_that_is_marked(
    store: Store, play: Play
) -> None:
    for number in range(3):
        store.add_message(store.new_conversation().id, None, "user", f"question {number}")
    async with play(size=(110, 30)) as on:
        await on.pilot.press("ctrl+b")
        await on.until(lambda: isinstance(on.app.focused, OptionRows))
        rows = on.app.focused
        first = rows.highlighted
        assert visible(on, rows)
        await on.pilot.press("down")
        assert rows.highlighted == move(first, rows, 1)
