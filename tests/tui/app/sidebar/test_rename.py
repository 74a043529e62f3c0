"""A title is edited where it stands."""

from __future__ import annotations

from typing import Any

import pytest

from minigpt4.tui.history.store import Store
from minigpt4.tui.sidebar.rename import RenameInput

Opened = Any


@pytest.fixture
def many(store: Store) -> list[str]:
    ids = [store.new_conversation().id for _ in range(60)]
    for number, conversation in enumerate(ids):
        store.add_message(conversation, None, "user", f"question {number}")
    return ids


def line_of(on: Any, text: str) -> int:
    return next(number for number, line in enumerate(on.text().splitlines()) if text in line)


@pytest.mark.parametrize("size", [(120, 40), (80, 24), (50, 20), (40, 8)])
async def test_it_is_edited_on_its_own_line_and_follows_it(
    opened: Opened, many: list[str], size: tuple[int, int]
) -> None:
    async with opened(size) as (on, sidebar):
        sidebar.rows.highlighted = sidebar.rows.get_option_index(many[30])
        if size[1] >= 14:
            await on.until(lambda: "F12 rename" in on.text())
        await on.until(lambda: "question 30" in on.text())
        before = line_of(on, "question 30")
        await on.pilot.press("f12")
        line = sidebar.query_one(RenameInput)
        await on.until(lambda: line.region.y == before)
        assert "question 30" in on.text().splitlines()[before]
        assert line.region.width == sidebar.rows.region.width
        top = sidebar.rows.scroll_y
        sidebar.rows.scroll_to(y=top + 1, animate=False)
        await on.until(lambda: line.region.y == before - 1)
        await on.pilot.resize_terminal(size[0] + 30, size[1] + 10)
        await on.until(lambda: line.region.width == sidebar.rows.region.width)
        await on.until(lambda: on.text().splitlines()[line.region.y].count("question 30") == 1)
        assert on.text().count("question 30") == 1, "it covers its row"


async def test_a_click_elsewhere_leaves_the_old_title(store: Store, opened: Opened, many: list[str]) -> None:
    async with opened() as (on, sidebar):
        await on.pilot.press("down", "f12", "end", *"!!")
        await on.pilot.click("#composer")
        await on.until(lambda: not sidebar.query_one(RenameInput).display)
        assert on.app.chat.composer.has_focus
        assert store.get(many[-1]).title == "question 59"


async def test_an_empty_title_is_not_kept_and_can_be_mended(
    store: Store, opened: Opened, many: list[str]
) -> None:
    async with opened() as (on, sidebar):
        await on.pilot.press("down", "f12", "ctrl+u", "enter")
        await on.until(lambda: any("title is empty" in note.message for note in on.app._notifications))
        assert sidebar.query_one(RenameInput).has_focus
        await on.pilot.press(*"Boats", "enter")
        await on.until(lambda: store.get(many[-1]).title == "Boats")
        await on.until(lambda: sidebar.rows.has_focus)


async def test_keys_of_the_list_are_not_its_own_while_a_title_is_edited(
    store: Store, opened: Opened, many: list[str]
) -> None:
    async with opened() as (on, sidebar):
        await on.pilot.press("down", "f12", "home", "delete", "ctrl+z", "f7", "f12", "enter")
        await on.until(lambda: store.get(many[-1]).title == "uestion 59")
        await on.until(lambda: sidebar.rows.has_focus)
        assert len(store.conversations(100)) == len(many)
        assert not store.get(many[-1]).pinned


async def test_a_change_elsewhere_moves_it_and_a_deletion_ends_it(
    store: Store, opened: Opened, many: list[str]
) -> None:
    async with opened() as (on, sidebar):
        await on.pilot.press("down", "f12", "end", *" of all")
        line = sidebar.query_one(RenameInput)
        await on.until(lambda: line.value == "question 59 of all")
        y = line.region.y
        store.add_message(store.new_conversation().id, None, "user", "from elsewhere")
        on.app.conversations_changed.publish("")
        await on.until(lambda: line.region.y == y + 1)
        assert line.has_focus and line.value == "question 59 of all"
        store.delete(many[-1])
        on.app.conversations_changed.publish("")
        await on.until(lambda: not line.display and sidebar.rows.has_focus)
