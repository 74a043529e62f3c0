"""Ten megabytes of text from any source neither freeze the screen nor get lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from textual import events
from textual.widgets import Input

from minigpt4.tui.history.store import Store
from minigpt4.tui.screens.search import SearchScreen
from minigpt4.tui.widgets.composer import MAX_CHARACTERS

Play = Any

BOOK = "word \x1b[31m" * 1_000_000

FREEZE_S = 2.0
"""Generous, as tests share their processor; a book drawn as a whole held the screen up for eight seconds."""


@asynccontextmanager
async def awake() -> AsyncIterator[None]:
    """Fails where the screen's thread spends a second or two in one go."""
    longest = 0.0

    async def beat() -> None:
        nonlocal longest
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.001)
            longest = max(longest, time.thread_time() - before)

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
    assert longest < FREEZE_S


async def test_a_pasted_book_is_cut_and_typing_and_asking_continue(play: Play) -> None:
    async with play() as now, awake():
        now.app.post_message(events.Paste(BOOK))
        await now.until(lambda: now.app.chat.composer.text)
        assert len(now.app.chat.composer.text) == MAX_CHARACTERS
        await now.pilot.press("backspace", "x", "enter")
        await now.until(lambda: now.engine.asked)
        now.engine.answer("Long.")
        await now.until(lambda: now.shown[-1:] == ["Long."])


async def test_a_book_pasted_into_a_line_is_cut(play: Play) -> None:
    async with play() as now, awake():
        await now.pilot.press("ctrl+f")
        await now.until(lambda: isinstance(now.app.screen, SearchScreen))
        now.app.post_message(events.Paste(BOOK))
        await now.until(lambda: now.app.screen.query_one(Input).value)
        assert len(now.app.screen.query_one(Input).value) <= 10_000
        await now.until(lambda: "Nothing found" in now.text())


async def test_a_kept_book_is_shown_by_its_beginning_copied_whole_and_not_edited(
    play: Play, store: Store
) -> None:
    info = store.new_conversation()
    question = store.add_message(info.id, None, "user", BOOK)
    store.add_message(info.id, question.id, "assistant", BOOK)
    async with play(conversation=info.id, size=(100, 30)) as now, awake():
        await now.until(lambda: now.shown[-1:] == [BOOK])
        await now.until(lambda: "more letters are kept" in now.text())
        now.app.chat.transcript.views[-1].focus()
        await now.pilot.press("up")
        await now.until(lambda: now.app.focused.message.role == "user")
        await now.pilot.press("c")
        await now.until(lambda: now.app.clipboard == BOOK)
        await now.pilot.press("e")
        await now.until(lambda: any("too many to edit" in note.message for note in now.app._notifications))
        assert now.app.chat.composer.text == ""
        assert now.app.chat.footer.editing is None


async def test_an_answer_that_never_ends_is_drawn_by_its_beginning_and_kept_whole(play: Play) -> None:
    async with play() as now, awake():
        await now.ask("Tell me everything.")
        for _ in range(10):
            now.engine.begin("words and " * 100_000)
        await now.until(lambda: len(now.app.conversation.answering.text) == 10_000_000)
        await now.pilot.press("escape")
        await now.until(lambda: now.app.conversation.answering is None)
        assert len(now.store.path(now.app.conversation.info.id)[1].text) == 10_000_000
        await now.until(lambda: "more letters are kept" in now.app.chat.transcript.views[-1]._answer.source)
