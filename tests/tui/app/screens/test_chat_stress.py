"""The chat screen under stress: hostile text, tiny terminals, huge pastes, typing without a pause."""

from __future__ import annotations

import time
from typing import Any

import pytest
from textual import events

from minigpt4.core.worker.messages import (
    Exited,
)
from minigpt4.tui.history.store import StoredPicture
from minigpt4.tui.widgets.composer import MAX_CHARACTERS

CODE = "Two ways:\n\n```python\nnap()\n```\n\nor\n\n```\nsleep\n```\n"

Play = Any


async def test_hostile_text_is_shown_and_moves_nothing(play: Play) -> None:
    async with play() as now:
        await now.talk(
            "[/] [bold] \x1b[31m?", "[/red] <b>tag</b> \x1b]0;owned\x07 \u202egpj [x](javascript:1)"
        )
        await now.until(lambda: "<b>tag</b>" in now.text())
        assert "[/] [bold] ␛[31m?" in now.text()
        assert "\x1b]0" not in now.text()
        assert "\u202e" not in now.text()
        nested = ">" * 200 + " deep\n" + "- " * 100 + "\n" + "`" * 99 + "\n|a|\n|-|\n" + "#" * 400
        await now.talk("More", nested, "\n```no-such-language\nx\n```\n[a]: <b\n![p](http://x/y.png)")


@pytest.mark.parametrize("size", [(20, 5), (1, 1), (80, 24), (200, 60)])
async def test_every_size_of_terminal_is_lived_with(
    play: Play, picture: StoredPicture, size: tuple[int, int]
) -> None:
    async with play(size=(80, 24)) as now:
        app, pilot = now.app, now.pilot
        app.attach([picture])
        await now.talk("What is this?", CODE)
        await pilot.resize_terminal(*size)
        await pilot.pause()
        await now.talk("And now?", "It is small.")
        now.engine.on_event(Exited("It was killed.", "Try again.", "why"))
        await pilot.press("/", "escape", "backspace", "f8")
        await now.until(lambda: app.engine.state == "ready")
        await pilot.resize_terminal(80, 24)
        await now.until(lambda: "It is small." in now.text())


async def test_a_book_that_is_pasted_is_cut_and_typing_stays_possible(play: Play) -> None:
    async with play() as now:
        app = now.app
        app.post_message(events.Paste("word \x1b[31m" * 1_000_000))
        await now.until(lambda: app.chat.composer.text)
        assert len(app.chat.composer.text) == MAX_CHARACTERS
        assert "\x1b" not in app.chat.composer.text
        assert any("characters" in note.message for note in app._notifications)


async def test_what_is_typed_right_after_a_question_is_not_lost(play: Play) -> None:
    async with play() as now:
        app = now.app
        for key in [*"one", "enter", *"two"]:
            app.post_message(events.Key(key, key if len(key) == 1 else "\r"))
        await now.until(lambda: now.engine.asked)
        await now.until(lambda: app.chat.composer.text == "two")
        assert now.engine.asked[0][1][0].text == "one"


async def test_a_short_conversation_stands_at_the_top(play: Play) -> None:
    async with play() as now:
        await now.talk("What is this?", "A cat.")
        assert "You" in now.text().splitlines()[3]
        await now.talk("More?", "word\n\n" * 40 + "the end")
        await now.until(lambda: "the end" in now.text())


async def test_an_answer_appears_also_while_somebody_types_without_a_pause(play: Play) -> None:
    async with play() as now:
        await now.ask("Which bird is this?")
        now.engine.begin("A robin.")
        end = time.monotonic() + 20
        while "A robin." not in now.text():
            await now.pilot.press("a")
            assert time.monotonic() < end, "typing held up the answer"
