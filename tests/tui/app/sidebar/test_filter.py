"""Letters typed in the list filter it, by title and by the names of pictures."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from minigpt4.tui.history.store import Store, StoredPicture
from minigpt4.tui.screens.search import SearchScreen
from minigpt4.tui.sidebar.conversation_list import NEW
from minigpt4.tui.sidebar.listing import PAGE
from minigpt4.tui.sidebar.sidebar import Sidebar

Opened = Any


@pytest.fixture
def talks(store: Store, picture: StoredPicture) -> dict[str, str]:
    """The id of each conversation by its title; the last one is about `cat.png`."""
    ids = {}
    for title in ("The harbour", "Which bird is this?", "What is this?"):
        ids[title] = store.new_conversation().id
        store.add_message(ids[title], None, "user", title, [picture] if title == "What is this?" else [])
    return ids


def listed(sidebar: Sidebar) -> list[str]:
    return [str(row.prompt) for row in sidebar.rows.options if row.id not in (None, NEW)]


async def test_typing_finds_titles_and_pictures_and_says_how_many(
    opened: Opened, talks: dict[str, str]
) -> None:
    async with opened() as (on, sidebar):
        await on.pilot.press(*"th")
        await on.until(lambda: listed(sidebar) == ["What is this?", "Which bird is this?", "The harbour"])
        await on.until(lambda: "th▏ 3 found" in on.text())
        assert NEW not in [row.id for row in sidebar.rows.options], "there is no row that does not match"
        await on.pilot.press(*"is", "space", *"BIRD")
        await on.until(lambda: listed(sidebar) == ["Which bird is this?"])
        assert "this BIRD▏ 1 found" in on.text()
        await on.pilot.press(*["backspace"] * 9, *"cat.")
        await on.until(lambda: listed(sidebar) == ["What is this?"])
        await on.pilot.press(*"x")
        await on.until(lambda: "cat.x▏ none" in on.text())
        assert listed(sidebar) == []


async def test_escape_clears_the_filter_and_then_returns_to_the_composer(
    opened: Opened, talks: dict[str, str]
) -> None:
    async with opened() as (on, sidebar):
        await on.pilot.press(*"bird")
        await on.until(lambda: "1 found" in on.text())
        await on.pilot.press("escape")
        await on.until(lambda: len(listed(sidebar)) == 3)
        assert sidebar.rows.has_focus
        assert sidebar.rows.chosen == talks["Which bird is this?"], "the cursor stays on what was found"
        assert "Conversations" in on.text()
        await on.pilot.press("escape")
        await on.until(lambda: on.app.chat.composer.has_focus)
        assert on.app.chat.composer.text == ""


async def test_enter_opens_what_was_found_however_fast_it_comes(
    opened: Opened, talks: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened() as (on, sidebar):
        may_end = threading.Event()
        count = on.app.store.count
        monkeypatch.setattr(on.app.store, "count", lambda words: may_end.wait(60) and count(words))
        await on.pilot.press(*"harb", "enter")
        assert on.shown == []
        may_end.set()
        await on.until(lambda: on.shown == ["The harbour"])
        await on.until(lambda: len(listed(sidebar)) == 3), "the filter has done its work"


async def test_what_is_found_can_be_renamed_pinned_and_deleted(
    store: Store, opened: Opened, talks: dict[str, str]
) -> None:
    async with opened() as (on, sidebar):
        await on.pilot.press(*"bird")
        await on.until(lambda: listed(sidebar) == ["Which bird is this?"])
        await on.pilot.press("f7")
        await on.until(lambda: store.get(talks["Which bird is this?"]).pinned)
        await on.pilot.press("f12", "end", *" A robin, bird", "enter")
        await on.until(lambda: listed(sidebar) == ["Which bird is this? A robin, bird"])
        await on.pilot.press("delete")
        await on.until(lambda: "bird▏ none" in on.text())
        await on.pilot.press("ctrl+z")
        await on.until(lambda: "bird▏ 1 found" in on.text())


async def test_what_is_found_is_read_a_page_at_a_time(store: Store, opened: Opened) -> None:
    for number in range(2 * PAGE):
        store.add_message(
            store.new_conversation().id, None, "user", f"{'odd' if number % 2 else 'and'} {number}"
        )
        if number % 2 == 0:
            store.add_message(store.new_conversation().id, None, "user", f"odd {number}")
    async with opened() as (on, sidebar):
        await on.pilot.press(*"odd")
        await on.until(lambda: "200 found" in on.text())
        assert len(listed(sidebar)) == PAGE
        await on.pilot.press("end")
        await on.until(lambda: len(listed(sidebar)) == 2 * PAGE)
        assert set(map(len, (title.split() for title in listed(sidebar)))) == {2}


async def test_a_key_of_ones_own_is_no_letter_of_the_filter(opened: Opened, talks: dict[str, str]) -> None:
    async with opened() as (on, sidebar):
        on.app.change_setting("keys.pin_conversation", ("p",))
        await on.pilot.press("down", "p")
        await on.until(lambda: on.store.get(talks["What is this?"]).pinned)
        assert sidebar.letters == ""


async def test_what_was_said_is_searched_from_the_filter(opened: Opened, talks: dict[str, str]) -> None:
    async with opened() as (on, _):
        await on.pilot.press(*"nowhere")
        await on.until(lambda: "none" in on.text())
        assert "Ctrl+F searches texts" in on.text()
        await on.pilot.press("ctrl+f")
        await on.until(lambda: isinstance(on.app.screen, SearchScreen))
