"""How wide the list is, when it is there, and where its keys are named."""

from __future__ import annotations

from typing import Any

import pytest

from minigpt4.tui.history.store import Store
from minigpt4.tui.sidebar.sidebar import Sidebar

Play = Any
Opened = Any


@pytest.fixture(autouse=True)
def _one(store: Store) -> None:
    store.add_message(store.new_conversation().id, None, "user", "What is this?")


async def test_one_key_focuses_the_list_and_shows_it_if_it_is_hidden(play: Play) -> None:
    async with play(size=(120, 40)) as now:
        assert not now.app.chat.query(Sidebar)
        for _ in range(2):
            await now.pilot.press(*"hm", "ctrl+l")
            await now.until(lambda: now.app.focused is now.app.chat.query_one(Sidebar).rows)
            await now.pilot.press("escape")
            await now.until(lambda: now.app.chat.composer.has_focus)
            assert now.app.chat.query_one(Sidebar).display
        assert now.app.chat.composer.text == "hmhm"


async def test_the_cursor_begins_on_the_open_conversation(play: Play, store: Store) -> None:
    first = store.conversations(1)[0].id
    store.add_message(store.new_conversation().id, None, "user", "And this?")
    async with play(conversation=first, size=(120, 40)) as now:
        await now.pilot.press("ctrl+l")
        await now.until(lambda: now.app.focused is now.app.chat.query_one(Sidebar).rows)
        assert now.app.chat.query_one(Sidebar).rows.chosen == first


async def test_its_width_follows_the_window_when_it_was_opened_by_hand(opened: Opened) -> None:
    async with opened((120, 40)) as (on, sidebar):
        chat = on.app.chat
        for columns, wanted in ((200, 46), (120, 32), (80, 26), (62, 20), (50, 50), (30, 30), (80, 26)):
            await on.pilot.resize_terminal(columns, 24)
            await on.until(lambda wanted=wanted: sidebar.size.width == wanted)
            beside = chat.query_one("#conversation").region
            assert beside.x == (0 if columns < 60 else beside.x)
            assert columns < 60 or beside.x >= wanted
            assert columns >= 60 or beside.width == columns, "it lies over the conversation"


@pytest.mark.parametrize("setting", ["open", "auto", "closed"])
async def test_in_a_window_that_it_covers_it_is_there_only_while_it_is_used(play: Play, setting: str) -> None:
    async with play({"sidebar": setting}, size=(50, 20)) as now:
        chat = now.app.chat
        assert chat.composer.has_focus and not chat.shows_sidebar
        for way in ("escape", "ctrl+b", "tab", "enter"):
            await now.pilot.press("ctrl+l")
            await now.until(lambda: chat.query(Sidebar) and chat.query_one(Sidebar).display)
            await now.until(lambda: now.app.focused is chat.query_one(Sidebar).rows)
            assert "Ask about" not in now.text()
            await now.pilot.press(way)
            await now.until(lambda: not chat.query_one(Sidebar).display), way
            await now.until(lambda: "Ask about" in now.text())
        await now.until(lambda: chat.composer.has_focus)


async def test_a_list_that_hides_with_the_width_does_not_keep_the_focus(play: Play) -> None:
    async with play({"sidebar": "auto"}, size=(120, 40)) as now:
        await now.until(lambda: now.app.chat.query(Sidebar))
        await now.pilot.press("ctrl+l")
        sidebar = now.app.chat.query_one(Sidebar)
        await now.until(lambda: sidebar.has_focus_within)
        await now.pilot.resize_terminal(80, 24)
        await now.until(lambda: not sidebar.display)
        await now.pilot.press(*"hm")
        await now.until(lambda: now.app.chat.composer.text == "hm")


async def test_its_keys_are_named_only_while_they_work(opened: Opened) -> None:
    async with opened((120, 40)) as (on, _):
        await on.until(lambda: "type to filter" in on.text())
        assert "Ctrl+Z undo" in on.text()
        assert "F12 rename" not in on.text(), "there is nothing to rename in the first row"
        await on.pilot.press("down")
        await on.until(lambda: "F12 rename" in on.text() and "Del delete" in on.text())
        await on.pilot.press("f12")
        await on.until(lambda: "Enter keeps it" in on.text() and "Esc leaves it" in on.text())
        assert "F7 pin" not in on.text()
        await on.pilot.press("escape", *"wh")
        await on.until(lambda: "Esc clears" in on.text())
        await on.pilot.press("escape", "escape")
        await on.until(lambda: "F7 pin" not in on.text() and "Ctrl+Z" not in on.text())


async def test_a_key_that_was_taken_away_is_not_named(opened: Opened) -> None:
    async with opened((120, 40)) as (on, _):
        await on.pilot.press("down")
        on.app.change_setting("keys.pin_conversation", ())
        on.app.change_setting("keys.rename_conversation", ("f10",))
        await on.until(lambda: "F10 rename" in on.text())
        assert "pin" not in on.text()
