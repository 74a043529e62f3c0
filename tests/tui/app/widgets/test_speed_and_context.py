"""How quick an answer is, and how much room is left for more, are told while it matters."""

from __future__ import annotations

from typing import Any

from minigpt4.core.worker.messages import ContextUsage, Finished, Phase, TextDelta
from minigpt4.tui.widgets.status import NEARLY_FULL

Play = Any


def said(now: Any, part: str) -> list[str]:
    return [note.message for note in now.app._notifications if part in note.message]


async def test_the_speed_is_shown_while_an_answer_is_written(play: Play) -> None:
    async with play() as now:
        await now.ask("What is this?")
        now.engine.on_event(Phase(now.engine.request, "decode"))
        now.engine.on_event(TextDelta(now.engine.request, "A ", 0.7))
        await now.until(lambda: "first after 0.7 s" in now.text())
        assert "tokens/s" not in now.text()

        def goes_on() -> bool:
            now.engine.on_event(TextDelta(now.engine.request, "cat ", 0.7, 18.4))
            return "18.4 tokens/s · first after 0.7 s" in now.text()

        await now.until(goes_on)
        assert "● writing" in now.text()


async def test_the_speed_of_the_answer_before_is_no_longer_shown(play: Play) -> None:
    async with play() as now:
        await now.talk("What is this?", "A cat.")
        await now.until(lambda: "20.0 tokens/s" in now.text())
        await now.ask("Sure?")
        await now.until(lambda: "tokens/s" not in now.text())


async def test_the_warning_comes_once_before_the_context_is_full_and_once_when_it_is(play: Play) -> None:
    async with play(size=(120, 30)) as now:
        most = round(1000 * NEARLY_FULL)
        await now.ask("What is this?")
        now.engine.on_event(ContextUsage(now.engine.request, most - 1, 1000, 0))
        await now.until(lambda: "849 of 1,000" in now.text())
        assert said(now, "context") == []
        for positions in (most, most + 20):
            now.engine.on_event(ContextUsage(now.engine.request, positions, 1000, 0))
        await now.until(lambda: said(now, "85% full"))
        for dropped in (1, 2):
            now.engine.on_event(ContextUsage(now.engine.request, 990, 1000, dropped))
        await now.until(lambda: said(now, "no longer read"))
        assert len(said(now, "context")) == 2
        assert all("Ctrl+N begins a new conversation" in sentence for sentence in said(now, "context"))


async def test_each_conversation_is_warned_of_by_itself(play: Play) -> None:
    async with play(size=(120, 30)) as now:
        for question in ("One?", "Two?"):
            await now.ask(question)
            now.engine.on_event(ContextUsage(now.engine.request, 900, 1000, 0))
            now.engine.on_event(Finished(now.engine.request, "stop", 900, 1))
            await now.until(lambda: now.app.conversation.answering is None)
            await now.pilot.press("ctrl+n")
            await now.until(lambda: now.shown == [])
        await now.until(lambda: len(said(now, "90% full")) == 2)
