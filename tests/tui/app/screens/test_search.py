"""The search screen: searches while typing, marks matches, and opens the message."""

from __future__ import annotations

from typing import Any

from textual.widgets import Static

from minigpt4.tui.history.store import Store, StoreError
from minigpt4.tui.screens.search import PAGE, SearchScreen

Play = Any


def say(store: Store, question: str, answer: str) -> tuple[str, str]:
    talk = store.new_conversation()
    asked = store.add_message(talk.id, None, "user", question)
    store.add_message(talk.id, asked.id, "assistant", answer)
    return talk.id, asked.id


def found(on: Any) -> list[str]:
    return [str(row.prompt) for row in on.app.screen.rows.options]


async def look_for(on: Any, words: str) -> SearchScreen:
    await on.until(lambda: on.app.is_begun)
    await on.pilot.press("ctrl+f")
    await on.until(lambda: isinstance(on.app.screen, SearchScreen))
    on.app.screen.query_one("#query").value = words
    screen = on.app.screen
    assert isinstance(screen, SearchScreen)
    return screen


def note(screen: SearchScreen) -> str:
    return str(screen.query_one("#note", Static).render())


async def test_what_was_found_is_marked_and_enter_lands_on_it(store: Store, play: Play) -> None:
    talk, asked = say(store, "Is this a lighthouse?", "Yes [/], it is.")
    say(store, "Something else?", "No.")
    async with play() as on:
        screen = await look_for(on, "light")
        await on.until(lambda: len(found(on)) == 1)
        row = screen.rows.options[0].prompt
        marked = [str(row)[span.start : span.end] for span in row.spans if "underline" in str(span.style)]
        assert marked == ["lighthouse"] or marked == ["light"]
        assert note(screen) == "1 found"
        await on.pilot.press("enter")
        await on.until(lambda: on.shown == ["Is this a lighthouse?", "Yes [/], it is."])
        assert on.app.conversation.info.id == talk
        await on.until(lambda: on.app.screen is on.app.chat)
        assert on.app.chat.transcript.view(asked) is not None


async def test_a_hit_on_another_branch_opens_that_branch(store: Store, play: Play) -> None:
    talk = store.new_conversation()
    store.add_message(talk.id, None, "user", "the first wording")
    store.add_message(talk.id, None, "user", "another one")
    async with play() as on:
        await look_for(on, "wording")
        await on.until(lambda: len(found(on)) == 1)
        await on.pilot.press("enter")
        await on.until(lambda: on.shown == ["the first wording"])


async def test_the_arrows_move_in_the_list_while_letters_go_to_the_line(store: Store, play: Play) -> None:
    say(store, "dog one", "-")
    say(store, "dog two", "-")
    async with play() as on:
        screen = await look_for(on, "dog")
        await on.until(lambda: len(found(on)) == 2)
        await on.pilot.press("down")
        assert screen.rows.highlighted == 1
        await on.pilot.press("space", "o", "n")
        await on.until(lambda: len(found(on)) == 1)
        assert screen.typed == "dog on"


async def test_more_is_looked_for_when_the_end_of_the_list_is_near(store: Store, play: Play) -> None:
    for number in range(PAGE + 5):
        say(store, f"cat {number}", "-")
    async with play() as on:
        screen = await look_for(on, "cat")
        await on.until(lambda: len(found(on)) == PAGE)
        assert note(screen) == f"{PAGE}+ found"
        await on.pilot.press(*["pagedown"] * 12)
        await on.until(lambda: len(found(on)) == PAGE + 5)
        assert screen.rows.highlighted > 0, "the cursor stays"


async def test_nothing_found_is_reported(store: Store, play: Play) -> None:
    async with play() as on:
        screen = await look_for(on, "unheard-of")
        await on.until(lambda: note(screen) == "Nothing found.")
        await on.pilot.press("enter")
        assert on.app.screen is screen
        await on.pilot.press("escape")
        await on.until(lambda: on.app.screen is on.app.chat)


async def test_a_locked_database_is_reported_and_stops_nothing(
    store: Store, play: Play, monkeypatch: Any
) -> None:
    def locked(*_: object) -> Any:
        raise StoreError("The conversations are locked by another program.")

    monkeypatch.setattr(Store, "search", locked)
    async with play() as on:
        screen = await look_for(on, "dog")
        await on.until(lambda: "locked" in note(screen))
        monkeypatch.undo()
        say(store, "dog", "-")
        await on.pilot.press("backspace")
        await on.until(lambda: len(found(on)) == 1)


async def test_found_text_with_escapes_is_sanitized(store: Store, play: Play) -> None:
    say(store, "evil \x1b[31m [/red] \u202eword", "-")
    async with play() as on:
        await look_for(on, "evil")
        await on.until(lambda: len(found(on)) == 1)
        assert "evil ␛[31m [/red] word" in found(on)[0]


async def test_nothing_is_dim_on_the_ground_of_the_cursor(store: Store, play: Play) -> None:
    say(store, "dog one", "-")
    say(store, "dog two", "-")
    async with play() as on:
        screen = await look_for(on, "dog")
        await on.until(lambda: len(found(on)) == 2)
        on_cursor, below = screen.rows.render_line(0), screen.rows.render_line(2)
        assert not any(part.style and part.style.dim for part in on_cursor)
        assert any(part.style and part.style.dim for part in below)


async def test_with_reduced_motion_no_cursor_blinks(play: Play) -> None:
    async with play({"reduced_motion": True}) as on:
        screen = await look_for(on, "")
        assert not on.app.focused.cursor_blink
        await on.pilot.press("escape")
        await on.until(lambda: on.app.screen is not screen)
        assert not on.app.chat.composer.cursor_blink
    async with play({"reduced_motion": False}) as on:
        await look_for(on, "")
        assert on.app.focused.cursor_blink
