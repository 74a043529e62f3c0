"""A conversation of many messages: few widgets, and the view stays where it is looked at."""

from __future__ import annotations

import time
from typing import Any

import pytest
from textual.widget import Widget
from textual.widgets.markdown import MarkdownBlock

from minigpt4.tui.history.store import Store, StoredPicture
from minigpt4.tui.widgets.answer import AnswerText
from minigpt4.tui.widgets.message import MessageView
from minigpt4.tui.widgets.transcript import WINDOW

Play = Any
MESSAGES = 4 * WINDOW


@pytest.fixture
def long_conversation(store: Store) -> str:
    info = store.new_conversation()
    parent: str | None = None
    for number in range(MESSAGES):
        role = "user" if number % 2 == 0 else "assistant"
        parent = store.add_message(info.id, parent, role, f"Message number {number}.").id  # type: ignore[arg-type]
    return info.id


async def test_only_messages_near_the_view_are_widgets(play: Play, long_conversation: str) -> None:
    async with play(conversation=long_conversation) as now:
        await now.until(lambda: now.shown[-1:] == [f"Message number {MESSAGES - 1}."])
        assert 24 / 4 < len(now.shown) <= WINDOW
        assert f"Message number {MESSAGES - 1}." in now.text()


async def test_scrolling_up_brings_the_earlier_ones_and_holds_the_view(
    play: Play, long_conversation: str
) -> None:
    async with play(conversation=long_conversation) as now:
        app, pilot = now.app, now.pilot
        await now.until(lambda: now.shown[-1:] == [f"Message number {MESSAGES - 1}."])
        transcript = app.chat.transcript
        seen = now.text().splitlines()[1:]
        for _ in range(MESSAGES):
            await pilot.press("pageup")
            await pilot.pause()
            assert len(transcript.views) <= 2 * WINDOW
            # The first line is the conversation's title, which is its first question.
            lines = now.text().splitlines()[1:]
            seen += [line for line in lines if "Message number" in line]
            if any("Message number 0." in line for line in lines):
                break
        numbers = {int(line.split("number ")[1].split(".")[0]) for line in seen if "Message number" in line}
        assert numbers == set(range(MESSAGES)), "some messages were jumped over"
        await pilot.press("ctrl+end")
        await now.until(lambda: f"Message number {MESSAGES - 1}." in now.text())


async def test_messages_are_walked_through_beyond_the_window(play: Play, long_conversation: str) -> None:
    async with play(conversation=long_conversation) as now:
        app, pilot = now.app, now.pilot
        await now.until(lambda: now.shown[-1:] == [f"Message number {MESSAGES - 1}."])
        await pilot.press("alt+up")
        for _ in range(WINDOW + 5):
            await pilot.press("up")
        await pilot.pause()
        assert isinstance(app.focused, MessageView)
        assert app.focused.message.text == f"Message number {MESSAGES - 1 - WINDOW - 5}."


async def test_a_person_who_scrolled_away_is_left_there(play: Play, long_conversation: str) -> None:
    async with play(conversation=long_conversation) as now:
        app, pilot = now.app, now.pilot
        await now.until(lambda: now.shown[-1:] == [f"Message number {MESSAGES - 1}."])
        await now.ask("Tell me a story.")
        now.engine.begin("Once.\n\n")
        await now.until(lambda: "Once." in now.text())
        await pilot.press("pageup")
        await pilot.pause()
        place = app.chat.transcript.scroll_y
        now.engine.begin(*["And then this.\n\n"] * 30)
        await now.until(lambda: app.chat.transcript.max_scroll_y > place + 40)
        assert app.chat.transcript.scroll_y == place
        await pilot.press("ctrl+end")
        now.engine.begin("The end.")
        await now.until(lambda: "The end." in now.text())


async def test_a_found_message_is_landed_on(play: Play, long_conversation: str, store: Store) -> None:
    async with play() as now:
        app = now.app
        wanted = store.path(long_conversation)[100]
        app.open_conversation(long_conversation, message=wanted.id)
        await now.until(lambda: "Message number 100." in now.text())
        assert isinstance(app.focused, MessageView)
        assert app.focused.message.id == wanted.id


async def test_typing_stays_quick_in_a_long_conversation(play: Play, long_conversation: str) -> None:
    async with play(conversation=long_conversation) as now:
        app, pilot = now.app, now.pilot
        await now.until(lambda: now.shown[-1:] == [f"Message number {MESSAGES - 1}."])
        await now.ask("Tell me a story.")
        spent = time.process_time()
        for letter in "a question typed":
            now.engine.begin("word ")
            await pilot.press(letter if letter != " " else "space")
        assert app.chat.composer.text == "a question typed"
        # The processor's time, of which a busy machine takes none away; all that an answer costs is in it.
        assert (time.process_time() - spent) / 16 < 0.25


async def test_while_an_answer_grows_its_finished_blocks_are_not_asked_for_their_sizes(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: set[Widget] = set()
    for name in ("_get_box_model", "get_content_height"):
        original = getattr(Widget, name)

        def noting(widget: Widget, *sizes: Any, original: Any = original, **options: Any) -> Any:
            asked.add(widget)
            return original(widget, *sizes, **options)

        monkeypatch.setattr(Widget, name, noting)
    async with play() as now:
        await now.ask("Tell me a story.")
        now.engine.begin("\n\n".join(f"Paragraph {number}" for number in range(9)))
        await now.until(lambda: "Paragraph 8" in now.text())
        now.engine.begin(" goes on")
        await now.until(lambda: "Paragraph 8 goes on" in now.text())
        (answer,) = now.app.chat.query(AnswerText)
        *finished, last = answer.query_children(MarkdownBlock)
        asked.clear()
        now.engine.begin(" and on.")
        await now.until(lambda: "Paragraph 8 goes on and on." in now.text())
        assert len(finished) == 8
        assert last in asked
        assert asked.isdisjoint(finished)


async def test_a_conversation_that_leaves_room_stands_at_the_top_while_the_foot_grows_and_shrinks(
    play: Play, picture: StoredPicture
) -> None:
    async with play({"images": "halfblock"}, size=(80, 60)) as now:
        for question in ("Which bird is this?", "And this?"):
            now.app.new_conversation()
            now.app.attach([picture])
            await now.talk(question, "A robin.")
            await now.talk("Where does it live?", "In gardens.")
            assert now.app.chat.transcript.scroll_y == 0
            assert "You" in now.text() and "In gardens." in now.text()


async def test_messages_that_take_less_room_than_it_seems_fill_the_screen_all_the_same(
    play: Play, store: Store
) -> None:
    info = store.new_conversation()
    parent = store.add_message(info.id, None, "user", "Count.").id
    for number in range(60):
        # Many lines as it is kept; one paragraph as Markdown reads it.
        text = "\n".join([f"Answer {number}.", *["so"] * 90])
        parent = store.add_message(info.id, parent, "assistant", text).id
    async with play(conversation=info.id, size=(100, 40)) as now:
        transcript = now.app.chat.transcript
        await now.until(lambda: transcript.max_scroll_y >= transcript.size.height)
        assert "Answer 59." in now.text()
        for _ in range(60):
            await now.pilot.press("pageup")
            await now.pilot.pause()
        await now.until(lambda: "Answer 0." in now.text())


async def test_a_step_to_a_message_above_while_more_are_laid_out_freezes_nothing(
    play: Play, store: Store
) -> None:
    info = store.new_conversation()
    parent: str | None = None
    for role in ("user", "assistant", "user"):
        parent = store.add_message(info.id, parent, role, "word " * 8000).id  # type: ignore[arg-type]
    async with play(conversation=info.id, size=(100, 30)) as now:
        await now.until(lambda: now.app.chat.transcript.views)
        now.app.chat.transcript.views[-1].focus()
        for _ in range(2):
            await now.pilot.press("up")
        await now.pilot.press("escape")
        await now.ask("Are you awake?")
        now.engine.answer("Yes.")
        await now.until(lambda: now.shown[-1:] == ["Yes."])
