"""While a question is typed, the engine computes what comes before its text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from minigpt4.tui.history.store import StoredPicture

Play = Any


@pytest.fixture
def photo(tmp_path: Path, png: Any) -> Path:
    path = tmp_path / "cat.png"
    path.write_bytes(png((40, 30)))
    return path


def prepared(now: Any) -> list[tuple[tuple[str, str, int], ...]]:
    """Role, text and number of pictures of the messages of each request."""
    return [
        tuple((one.role, one.text, len(one.pictures)) for one in messages) for messages in now.engine.prepared
    ]


async def test_the_photo_that_the_app_is_started_with_is_encoded_at_once(play: Play, photo: Path) -> None:
    async with play(pictures=[photo]) as now:
        await now.until(lambda: prepared(now))
        assert prepared(now) == [(("user", "", 1),)]


async def test_the_first_letter_of_a_question_has_the_conversation_computed_once(
    play: Play, picture: StoredPicture
) -> None:
    async with play() as now:
        now.app.attach([picture])
        await now.until(lambda: prepared(now))
        await now.talk("What is it?", "A cat.")
        first = len(prepared(now))
        await now.pilot.press("W", "h", "y")
        said = ("user", "What is it?", 1), ("assistant", "A cat.", 0)
        assert prepared(now)[first:] == [(*said, ("user", "", 0))]
        now.app.attach([picture])
        await now.until(lambda: len(prepared(now)) > first + 1)
        assert prepared(now)[first + 1 :] == [(*said, ("user", "", 1))]


async def test_an_edited_question_is_computed_up_to_its_text_with_its_pictures(
    play: Play, picture: StoredPicture
) -> None:
    async with play() as now:
        await now.talk("Hello", "Hi.")
        now.app.attach([picture])
        await now.talk("What is it?", "A cat.")
        await now.talk("Why?", "It has whiskers.")
        before = len(prepared(now))
        now.app.chat.footer.begin_editing(now.app.conversation.path[2])
        await now.pilot.pause()
        hello = ("user", "Hello", 0), ("assistant", "Hi.", 0)
        assert prepared(now)[before:] == [(*hello, ("user", "", 1))]
        now.app.chat.footer.begin_editing(now.app.conversation.path[3])
        await now.pilot.pause()
        assert len(prepared(now)) == before + 1, "an answer that is edited is not asked"


async def test_nothing_is_computed_ahead_for_a_command_or_during_an_answer(play: Play) -> None:
    async with play() as now:
        await now.pilot.press("slash", "h")
        assert prepared(now) == []
        await now.pilot.press("backspace", "backspace")
        await now.ask("Hello")
        before = len(prepared(now))
        await now.pilot.press("W", "h", "y")
        assert len(prepared(now)) == before
        now.engine.answer("Hi.")
        await now.until(lambda: len(prepared(now)) > before)
        assert prepared(now)[before:] == [(("user", "Hello", 0), ("assistant", "Hi.", 0), ("user", "", 0))]


async def test_another_model_begins_with_the_question_that_is_typed_already(play: Play) -> None:
    async with play() as now:
        await now.pilot.press("W", "h", "y")
        assert prepared(now) == [(("user", "", 0),)]
        now.app.restart_engine()
        await now.until(lambda: len(prepared(now)) == 2)
