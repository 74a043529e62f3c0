"""The list of conversations: loaded page by page, edited by keyboard."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from textual.widgets import Input

from minigpt4.tui.history.store import Store
from minigpt4.tui.sidebar.conversation_list import NEW
from minigpt4.tui.sidebar.listing import PAGE
from minigpt4.tui.sidebar.sidebar import Sidebar

Opened = Callable[..., AbstractAsyncContextManager[tuple[Any, Sidebar]]]


def add(store: Store, *questions: str) -> list[str]:
    ids = []
    for question in questions:
        talk = store.new_conversation()
        store.add_message(talk.id, None, "user", question)
        ids.append(talk.id)
    return ids


def titles(sidebar: Sidebar) -> list[str]:
    return [str(row.prompt).strip("●+ \n") for row in sidebar.rows.options]


async def test_the_latest_stands_first_and_pinned_ones_above_all(store: Store, opened: Opened) -> None:
    first, _, _ = add(store, "oldest", "middle", "newest")
    store.pin(first)

    async with opened() as (_, sidebar):
        assert titles(sidebar) == ["New conversation", "Pinned", "oldest", "Today", "newest", "middle"]


async def test_enter_opens_the_conversation_under_the_cursor(store: Store, opened: Opened) -> None:
    _, newest = add(store, "older", "newer")

    async with opened() as (on, _):
        await on.pilot.press("down", "enter")
        await on.until(lambda: on.shown == ["newer"])
        assert on.app.conversation.info is not None
        assert on.app.conversation.info.id == newest
        await on.until(lambda: "● newer" in on.text())


async def test_the_first_row_begins_a_new_conversation(store: Store, opened: Opened) -> None:
    (one,) = add(store, "a question")

    async with opened() as (on, sidebar):
        on.app.open_conversation(one)
        await on.until(lambda: on.shown == ["a question"])
        sidebar.rows.focus()
        await on.pilot.press("home", "enter")
        await on.until(lambda: on.app.conversation.info is None)


async def test_ten_thousand_conversations_are_read_a_page_at_a_time(store: Store, opened: Opened) -> None:
    add(store, *(f"question {number}" for number in range(2 * PAGE + 5)))

    async with opened() as (on, sidebar):
        assert sidebar.rows.option_count == PAGE + 2
        await on.pilot.press("end")
        await on.until(lambda: sidebar.rows.option_count == 2 * PAGE + 2)
        await on.pilot.press("end")
        await on.until(lambda: sidebar.rows.option_count == 2 * PAGE + 5 + 2)
        assert titles(sidebar)[-1] == "question 0"


async def test_renaming_keeps_the_new_name_and_escape_the_old_one(store: Store, opened: Opened) -> None:
    (one,) = add(store, "a question")

    async with opened() as (on, sidebar):
        await on.pilot.press("down", "f12")
        line = sidebar.query_one(Input)
        await on.until(lambda: line.has_focus)
        assert line.value == "a question"
        line.value = "Nothing of this"
        await on.pilot.press("escape")
        await on.until(lambda: sidebar.rows.has_focus)
        assert store.get(one).title == "a question"
        await on.pilot.press("f12")
        line.value = "Cats [/] on a couch"
        await on.pilot.press("enter")
        await on.until(lambda: store.get(one).title == "Cats [/] on a couch")
        await on.until(lambda: "Cats [/] on a couch" in titles(sidebar))
        assert sidebar.rows.has_focus


async def test_renaming_the_open_conversation_changes_the_title_above_it(
    store: Store, opened: Opened
) -> None:
    (one,) = add(store, "a question")

    async with opened() as (on, sidebar):
        on.app.open_conversation(one)
        await on.until(lambda: on.shown == ["a question"])
        sidebar.rows.focus()
        await on.pilot.press("down", "f12")
        await on.until(lambda: sidebar.query_one(Input).has_focus)
        sidebar.query_one(Input).value = "Harbour"
        await on.pilot.press("enter")
        await on.until(lambda: str(on.app.chat.query_one("#title").render()) == "Harbour")


async def test_f7_pins_and_lets_go(store: Store, opened: Opened) -> None:
    older, _ = add(store, "older", "newer")

    async with opened() as (on, sidebar):
        sidebar.rows.highlighted = sidebar.rows.get_option_index(older)
        await on.pilot.press("f7")
        await on.until(lambda: titles(sidebar)[1:3] == ["Pinned", "older"])
        assert sidebar.rows.chosen == older, "the cursor stays with it"
        await on.pilot.press("f7")
        await on.until(lambda: not store.get(older).pinned)


async def test_deleting_can_be_undone_one_by_one(store: Store, opened: Opened) -> None:
    add(store, "first", "second", "third")

    async with opened() as (on, sidebar):
        await on.pilot.press("down", "delete")
        await on.until(lambda: "third" not in titles(sidebar))
        assert sidebar.rows.chosen != NEW, "the cursor goes to the next one"
        await on.pilot.press("delete")
        await on.until(lambda: titles(sidebar)[-1] == "first" and "second" not in titles(sidebar))
        await on.pilot.press("ctrl+z")
        await on.until(lambda: "second" in titles(sidebar))
        await on.pilot.press("ctrl+z")
        await on.until(lambda: titles(sidebar)[2:] == ["third", "second", "first"])


async def test_deleting_the_open_conversation_leaves_an_empty_one(store: Store, opened: Opened) -> None:
    (one,) = add(store, "a question")

    async with opened() as (on, sidebar):
        on.app.open_conversation(one)
        await on.until(lambda: on.shown == ["a question"])
        sidebar.rows.focus()
        await on.pilot.press("down", "delete")
        await on.until(lambda: on.app.conversation.info is None)
        await on.until(lambda: sidebar.rows.has_focus)


async def test_what_another_instance_adds_appears_by_itself(store: Store, opened: Opened) -> None:
    other = Store.open(store.file)

    async with opened() as (on, sidebar):
        sidebar._poll()
        add(other, "from elsewhere")
        sidebar._poll()
        await on.until(lambda: "from elsewhere" in titles(sidebar))
    other.close()


async def test_a_title_of_control_characters_is_sanitized(store: Store, opened: Opened) -> None:
    add(store, "[/] \x1b[2J \u202eevil")

    async with opened() as (on, sidebar):
        assert "[/] ␛[2J evil" in titles(sidebar)
        assert "\x1b" not in on.text()


@pytest.mark.parametrize("size", [(80, 24), (40, 8), (20, 5)])
async def test_in_a_narrow_terminal_the_list_goes_once_a_conversation_was_chosen(
    store: Store, opened: Opened, size: tuple[int, int]
) -> None:
    add(store, "a question")

    async with opened(size) as (on, sidebar):
        await on.pilot.press("down", "enter")
        await on.until(lambda: not sidebar.display)
        await on.until(lambda: on.app.chat.composer.has_focus)
