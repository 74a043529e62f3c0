"""What a model thinks before it answers stands folded above the answer."""

from __future__ import annotations

from typing import Any

from minigpt4.core.worker.messages import Finished, Phase, TextDelta
from minigpt4.tui.widgets.message import MessageView

Play = Any


def think(now: Any, *pieces: str) -> None:
    now.engine.on_event(Phase(now.engine.request, "decode"))
    for piece in pieces:
        now.engine.on_event(TextDelta(now.engine.request, piece, is_reasoning=True))


def answer_view(now: Any) -> MessageView:
    view = now.app.chat.transcript.views[-1]
    assert isinstance(view, MessageView)
    return view


async def test_reasoning_is_counted_while_it_comes_and_folded(play: Play) -> None:
    async with play() as now:
        await now.ask("What is this?")
        think(now, "Maybe a dog? ", "No, [/] whiskers.")
        await now.until(lambda: "▸ Thinking … 6 words" in now.text())
        assert "whiskers" not in now.text()
        now.engine.answer("A cat.")
        await now.until(lambda: "▸ Reasoning, 6 words" in now.text())
        assert "A cat." in now.text()
        assert "whiskers" not in now.text()


async def test_a_key_or_a_click_unfolds_it(play: Play) -> None:
    async with play() as now:
        await now.ask("What is this?")
        think(now, "Maybe a dog? No, [/] whiskers.")
        now.engine.answer("A cat.")
        await now.until(lambda: "Reasoning" in now.text())
        answer_view(now).focus()
        await now.pilot.press("t")
        await now.until(lambda: "Maybe a dog? No, [/] whiskers." in now.text())
        await now.pilot.press("t")
        await now.until(lambda: "whiskers" not in now.text())
        await now.pilot.click(".thought-head", offset=(2, 0))
        await now.until(lambda: "whiskers" in now.text())


async def test_what_was_thought_while_it_is_unfolded_grows(play: Play) -> None:
    async with play() as now:
        await now.ask("What is this?")
        think(now, "Maybe a dog? ")
        await now.until(lambda: "Thinking" in now.text())
        answer_view(now).focus()
        await now.pilot.press("t")
        think(now, "It has whiskers.")
        await now.until(lambda: "whiskers" in now.text())


async def test_it_is_not_sent_back_and_is_there_again_later(play: Play) -> None:
    async with play() as now:
        await now.ask("What is this?")
        think(now, "Whiskers.")
        now.engine.answer("A cat.")
        await now.until(lambda: now.app.conversation.answering is None)
        await now.ask("Sure?")
        assert [one.text for one in now.engine.asked[-1][1]] == ["What is this?", "A cat.", "Sure?"]
        now.engine.answer("Yes.")
        await now.until(lambda: now.app.conversation.answering is None)
        conversation = now.app.conversation.info.id
        kept = now.store.path(conversation)[1]
        assert (kept.text, kept.stats["reasoning"]) == ("A cat.", "Whiskers.")
        await now.pilot.press("ctrl+n")
        now.app.conversation.open(conversation)
        await now.until(lambda: "▸ Reasoning, 1 word" in now.text())


async def test_an_answer_that_was_stopped_while_it_thought_keeps_that(play: Play) -> None:
    async with play() as now:
        await now.ask("What is this?")
        think(now, "Whiskers.")
        await now.until(lambda: "Thinking" in now.text())
        await now.pilot.press("escape")
        await now.until(lambda: "Reasoning, 1 word" in now.text())
        now.engine.on_event(Finished(now.engine.request, "cancelled", 30, 1, 0.5, 20.0))
        await now.pilot.pause()
        message = answer_view(now).message
        assert message.stats["reasoning"] == "Whiskers."
        assert message.state == "stopped"


async def test_an_answer_without_reasoning_has_no_such_line(play: Play) -> None:
    async with play() as now:
        await now.talk("What is this?", "A cat.")
        answer_view(now).focus()
        await now.pilot.press("t")
        assert "Thought" not in now.text()
