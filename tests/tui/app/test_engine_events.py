"""Events of the engine's process on their way to the screen: few messages, no text lost or repeated."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.worker.client import Worker
from minigpt4.core.worker.messages import (
    ChatMessage,
    DownloadProgress,
    Event,
    Finished,
    Notice,
    Phase,
    Ready,
    TextDelta,
)
from minigpt4.tui.app.engine_events import EngineEvents
from minigpt4.tui.conversation.updates import PathOpened
from minigpt4.tui.widgets.answer import AnswerText
from minigpt4.tui.widgets.message import MessageView

CHILD = (sys.executable, "-P", str(Path(__file__).parents[2] / "core" / "worker" / "scripted_child.py"))

Play = Any


def test_waiting_words_join_and_waiting_reports_make_way() -> None:
    first = Notice("busy")
    waiting = EngineEvents(first)
    events: list[Event] = [
        *(DownloadProgress("a", done, 3) for done in (1, 2, 3)),
        *(DownloadProgress("b", done, 3) for done in (1, 2)),
        *(TextDelta("1", letter, 0.5, speed) for letter, speed in (("a", None), ("b", 9.0), ("c", 8.0))),
        *(TextDelta("2", letter, is_reasoning=True) for letter in "xy"),
        *(TextDelta("2", letter) for letter in "de"),
        Finished("2", "stop"),
    ]
    assert all(waiting.add(event) for event in events)
    assert waiting.take() == [
        first,
        DownloadProgress("a", 3, 3),
        DownloadProgress("b", 2, 3),
        TextDelta("1", "abc", 0.5, 8.0),
        TextDelta("2", "xy", is_reasoning=True),
        TextDelta("2", "de"),
        Finished("2", "stop"),
    ]
    assert not waiting.add(first), "what was handled takes no more events"
    assert waiting.take() == []


def test_a_slow_screen_gets_fewer_pieces_and_loses_none() -> None:
    """The way from a real process, with a screen that handles nothing until the answer is complete."""
    queue: list[EngineEvents] = []
    is_finished = threading.Event()

    def on_event(event: Event) -> None:
        if not queue or not queue[-1].add(event):
            queue.append(EngineEvents(event))
        if isinstance(event, Finished):
            is_finished.set()

    worker = Worker(on_event, CHILD)
    try:
        worker.load(EngineOptions("scripted"))
        worker.reply("slowly", [ChatMessage("user", "much:10000")])
        assert is_finished.wait(120), "a slow screen held up the process"
        assert len(queue) == 1
        deltas = [event for event in queue[0].take() if isinstance(event, TextDelta)]
        assert [delta.text for delta in deltas] == ["é€😀 " * 1_000]
    finally:
        worker.stop()


async def test_text_that_arrives_while_the_screen_is_busy_reaches_the_widget_as_one(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the thread at the pipe to the widget: one message of the app, one call of the view, one paint."""
    grown: list[str] = []
    painted: list[str] = []
    grow, append = MessageView.grow, AnswerText.append

    def growing(view: MessageView, text: str) -> None:
        grown.append(text)
        grow(view, text)

    def painting(body: AnswerText, text: str) -> Any:
        painted.append(text)
        return append(body, text)

    monkeypatch.setattr(MessageView, "grow", growing)
    monkeypatch.setattr(AnswerText, "append", painting)
    async with play() as now:
        await now.ask("What is this?")
        await now.until(lambda: now.app.chat.transcript.views[-1].is_mounted)
        request = now.engine.request
        post = now.app.post_message
        posted: list[EngineEvents] = []
        monkeypatch.setattr(
            now.app,
            "post_message",
            lambda message: (isinstance(message, EngineEvents) and posted.append(message)) or post(message),
        )
        words = [f"word{number} " for number in range(500)]

        def read_pipe() -> None:
            now.engine.on_event(Phase(request, "decode"))
            for word in words:
                now.engine.on_event(TextDelta(request, word))

        reader = threading.Thread(target=read_pipe)
        reader.start()
        # The screen's own thread is busy here, and the reader must not wait for it.
        reader.join(60)
        assert not reader.is_alive()
        await now.until(lambda: "word499" in now.app.chat.transcript.views[-1].query_one(AnswerText).source)
        assert len(posted) == 1
        assert grown == ["".join(words)]
        assert painted == ["".join(words)]


async def test_a_view_that_is_made_in_the_middle_of_an_answer_shows_each_word_once(play: Play) -> None:
    async with play() as now:
        await now.ask("Count.")
        kept = now.app.conversation.info.id
        expected = ""
        for number in range(30):
            now.engine.begin(f"{number} ")
            expected += f"{number} "
            if number % 10 == 5:
                # Draws all messages anew, while the answer goes on.
                now.app.chat.show_update(PathOpened())
        await now.until(lambda: now.app.conversation.answering.text == expected)
        view = now.app.chat.transcript.view
        last = now.app.conversation.path[-1].id
        await now.until(lambda: view(last) and view(last).query_one(AnswerText).source == expected)
        assert now.app.conversation.info.id == kept


async def test_events_of_a_process_that_is_replaced_are_not_taken_for_the_new_one_s(play: Play) -> None:
    async with play() as now:
        await now.until(lambda: now.app.engine.state == "ready")
        now.engine.loads = False
        now.engine.on_event(Ready("old", "llamacpp", 77, 9, 0.2))
        now.app.restart_engine()
        await now.pilot.pause()
        assert (now.app.engine.state, now.app.engine.bundle) == ("loading", "mini")
