"""Questions that are sent while an answer is being written wait for its end."""

from __future__ import annotations

from typing import Any

import pytest

from minigpt4.core.worker.messages import Failed
from minigpt4.tui.history.store import StoredPicture

Play = Any
Now = Any


async def queue(now: Now, *questions: str) -> None:
    """Ask, and send these questions while the answer is being written."""
    await now.ask("One?")
    now.engine.begin("Beginning")
    for question in questions:
        await now.pilot.press(*question, "enter")
    await now.until(lambda: len(now.app.chat.draft.held) == len(questions))
    await now.until(lambda: f"Sent after this answer: {questions[0]}" in now.text())
    assert now.app.chat.composer.text == ""
    assert len(now.engine.asked) == 1


async def test_questions_are_sent_one_after_another_as_the_answers_end(play: Play) -> None:
    async with play() as now:
        await queue(now, "Two?", "Three?")
        assert "then: Three?" in now.text()
        now.engine.answer(" and end.")
        await now.until(lambda: len(now.engine.asked) == 2)
        assert now.app.conversation.path[-2].text == "Two?"
        await now.until(lambda: "Sent after this answer: Three?" in now.text())
        now.engine.answer("2")
        await now.until(lambda: len(now.engine.asked) == 3)
        now.engine.answer("3")
        await now.until(lambda: now.shown[-2:] == ["Three?", "3"])
        assert "Sent after" not in now.text()


async def test_a_question_waits_with_its_own_pictures(play: Play, picture: StoredPicture) -> None:
    async with play() as now:
        await now.ask("One?")
        now.app.attach([picture])
        await now.until(lambda: now.app.chat.footer.pictures == [picture])
        await now.pilot.press(*"Two?", "enter")
        await now.pilot.press(*"Three?", "enter")
        now.engine.answer("1")
        await now.until(lambda: len(now.engine.asked) == 2)
        now.engine.answer("2")
        await now.until(lambda: len(now.engine.asked) == 3)
        path = now.app.conversation.path
        assert [len(path[place].pictures) for place in (0, 2, 4)] == [0, 1, 0]


@pytest.mark.parametrize("way", ["up", "escape", "ctrl+c", "ctrl+up"])
async def test_the_last_one_is_taken_back_while_the_answer_goes_on(play: Play, way: str) -> None:
    async with play() as now:
        await queue(now, "Two?", "Three?")
        await now.pilot.press(way)
        await now.until(lambda: now.app.chat.composer.text == "Three?")
        assert now.app.conversation.answering is not None
        assert "Sent after this answer: Two?" in now.text()
        now.app.chat.composer.replace_text("")
        await now.pilot.press(way)
        await now.until(lambda: now.app.chat.composer.text == "Two?")
        now.engine.answer(" end.")
        await now.until(lambda: now.app.conversation.answering is None)
        await now.pilot.pause()
        assert len(now.engine.asked) == 1


async def test_after_a_failed_answer_it_is_held_until_enter(play: Play) -> None:
    async with play() as now:
        await queue(now, "Two?")
        now.engine.on_event(Failed(now.engine.request, "The picture is too large."))
        await now.until(lambda: "Not sent: Two?" in now.text() and "Enter sends it" in now.text())
        assert len(now.engine.asked) == 1
        await now.pilot.press("enter")
        await now.until(lambda: len(now.engine.asked) == 2)
        assert now.app.conversation.path[-2].text == "Two?"


async def test_leaving_the_conversation_makes_them_its_draft(play: Play) -> None:
    async with play() as now:
        await queue(now, "Two?", "Three?")
        first = now.app.conversation.info.id
        await now.pilot.press("ctrl+n")
        await now.until(lambda: now.shown == [])
        assert now.app.chat.composer.text == ""
        now.app.open_conversation(first)
        await now.until(lambda: now.app.chat.composer.text == "Two?\nThree?")
        assert len(now.engine.asked) == 1
