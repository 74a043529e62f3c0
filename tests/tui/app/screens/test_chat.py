"""The chat screen: every action, by keyboard, with a scripted engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual import events

from minigpt4.core.worker.messages import (
    ContextUsage,
    DownloadProgress,
    Exited,
    Failed,
    Finished,
    Notice,
    Phase,
    Ready,
)
from minigpt4.tui.app.app import MiniGPT4App
from minigpt4.tui.widgets.answer import AnswerText
from minigpt4.tui.widgets.engine_error import EngineErrorCard
from minigpt4.tui.widgets.message import MessageView

CODE = "Two ways:\n\n```python\nnap()\n```\n\nor\n\n```\nsleep\n```\n"

Play = Any
MakePng = Any


def text_of(view: MessageView) -> str:
    return view.query_one(AnswerText).source


async def focus_last(now: Any) -> MessageView:
    view = now.app.chat.transcript.views[-1]
    view.focus()
    await now.pilot.pause()
    return view


async def test_an_empty_conversation_tells_how_to_begin(play: Play) -> None:
    async with play() as now:
        make = now.app
        await now.until(lambda: now.app.engine.state == "ready")
        assert make.focused is now.app.chat.composer
        assert "Ctrl+O" in now.text()
        assert "● mini" in now.text()


async def test_an_answer_streams_and_is_kept(play: Play) -> None:
    async with play() as now:
        app = now.app
        await now.ask("What is this?")
        now.engine.on_event(Phase(now.engine.request, "encode"))
        await now.until(lambda: "looking at the picture" in now.text())
        now.engine.begin("It is a **", "cat**")
        view = app.chat.transcript.views[-1]
        await now.until(lambda: text_of(view) == "It is a **cat**")
        assert "● writing" in now.text()
        now.engine.on_event(Finished(now.engine.request, "stop", 30, 7, 0.5, 20.0))
        await now.until(lambda: "20.0 tokens/s" in now.text())
        assert "first after 0.5 s" in now.text()
        assert "37 of 1,000" in now.text()
        assert app.conversation.info is not None
        assert [one.text for one in now.store.path(app.conversation.info.id)] == now.shown
        assert app.chat.composer.text == ""


async def test_escape_stops_an_answer_and_it_can_be_continued(play: Play) -> None:
    async with play() as now:
        app, pilot = now.app, now.pilot
        await now.ask("Tell me a story.")
        now.engine.begin("Once upon")
        await now.until(lambda: "Once upon" in now.text())
        await pilot.press("escape")
        await now.until(lambda: "Stopped" in now.text())
        assert now.engine.cancelled == [now.engine.request]
        await pilot.press("ctrl+g")
        await now.until(lambda: len(now.engine.asked) == 2)
        assert now.engine.asked[-1][1][-1].text == "Once upon"
        now.engine.answer(" a time.")
        await now.until(lambda: text_of(app.chat.transcript.views[-1]) == "Once upon a time.")


async def test_variants_are_reached_with_left_and_right(play: Play) -> None:
    async with play() as now:
        app, pilot = now.app, now.pilot
        await now.talk("What is this?", "A cat.")
        await pilot.press("ctrl+r")
        await now.until(lambda: len(now.engine.asked) == 2)
        now.engine.answer("A dog.")
        await now.until(lambda: app.conversation.answering is None)
        assert now.shown == ["What is this?", "A dog."]
        await focus_last(now)
        await pilot.press("left")
        await now.until(lambda: now.shown == ["What is this?", "A cat."])
        await now.until(lambda: "‹ 1 of 2 ›" in now.text())
        assert app.focused is app.chat.transcript.views[-1]
        await pilot.press("right")
        await now.until(lambda: now.shown == ["What is this?", "A dog."])


async def test_an_earlier_question_is_edited_into_a_branch(play: Play) -> None:
    async with play() as now:
        app, pilot = now.app, now.pilot
        await now.talk("What is this?", "A cat.")
        await now.talk("Sure?", "Yes.")
        app.chat.transcript.views[0].focus()
        await pilot.press("e")
        await now.until(lambda: app.chat.composer.text == "What is this?")
        assert "Editing your question" in now.text()
        app.chat.composer.replace_text("What is that?")
        await pilot.press("enter")
        await now.until(lambda: len(now.engine.asked) == 3)
        now.engine.answer("A dog.")
        await now.until(lambda: now.shown == ["What is that?", "A dog."])
        app.chat.transcript.views[0].focus()
        await pilot.press("left")
        await now.until(lambda: now.shown == ["What is this?", "A cat.", "Sure?", "Yes."])


async def test_editing_can_be_left(play: Play) -> None:
    async with play() as now:
        app, pilot = now.app, now.pilot
        await now.talk("What is this?", "A cat.")
        await pilot.press("ctrl+up")
        await now.until(lambda: app.chat.footer.editing is not None)
        await pilot.press("escape")
        await now.until(lambda: app.chat.footer.editing is None)
        assert app.chat.composer.text == ""
        assert len(now.engine.asked) == 1


async def test_messages_are_walked_through_and_copied(play: Play) -> None:
    async with play() as now:
        app, pilot = now.app, now.pilot
        await now.talk("What is this?", CODE)
        await pilot.press("alt+up")
        await now.until(lambda: isinstance(app.focused, MessageView))
        await pilot.press("c")
        await now.until(lambda: app.clipboard == CODE)
        await pilot.press("y")
        await now.until(lambda: app.clipboard.strip() == "nap()")
        await pilot.press("y")
        await now.until(lambda: app.clipboard.strip() == "sleep")
        await pilot.press("up", "c")
        await now.until(lambda: app.clipboard == "What is this?")
        await pilot.press("down", "down")
        await now.until(lambda: app.focused is app.chat.composer)


async def test_a_dead_engine_shows_a_card_and_starts_again(play: Play) -> None:
    async with play(size=(80, 30)) as now:
        app, pilot = now.app, now.pilot
        await now.ask("What is this?")
        now.engine.begin("A c")
        now.engine.on_event(Failed(now.engine.request, "The model's process was killed."))
        now.engine.on_event(
            Exited("The model's process was killed.", "Choose a smaller model.", "[/] Killed")
        )
        await now.until(lambda: any(card.display for card in app.query(EngineErrorCard)))
        assert "Choose a smaller model." in now.text()
        assert "[/] Killed" in now.text()
        assert now.shown == ["What is this?", "A c"]
        await pilot.press(*"more", "enter")
        assert len(now.engine.asked) == 1
        await pilot.press("f8")
        await now.until(lambda: app.engine.state == "ready")
        assert not app.query_one(EngineErrorCard).display
        assert len(now.engine.loaded) == 2
        app.chat.composer.replace_text("")
        await pilot.press("ctrl+g")
        await now.until(lambda: len(now.engine.asked) == 2)


async def test_a_model_that_cannot_be_loaded_shows_the_card(play: Play) -> None:
    async with play(loads=False) as now:
        app = now.app
        await now.until(lambda: now.engine.loaded)
        now.engine.on_event(DownloadProgress("language.gguf", 30_000_000, 100_000_000))
        await now.until(lambda: "30% of 100 MB" in now.text())
        now.engine.on_event(Notice("Quantising for the first time."))
        now.engine.on_event(Failed(None, "It needs 13 GiB, 4 are free."))
        await now.until(lambda: "It needs 13 GiB" in now.text())
        assert any("Quantising" in note.message for note in app._notifications)


async def test_questions_may_be_asked_while_the_model_loads(play: Play) -> None:
    async with play(loads=False) as now:
        await now.until(lambda: "loading mini" in now.text())
        await now.ask("Are you there?")
        now.engine.on_event(Ready("mini", "llamacpp", 1000, 9, 1.0))
        now.engine.answer("Yes.")
        await now.until(lambda: now.shown == ["Are you there?", "Yes."])


async def test_pictures_of_the_command_line_wait_in_the_composer(
    play: Play, png: MakePng, tmp_path: Path
) -> None:
    (tmp_path / "my cat.png").write_bytes(png((40, 30)))
    async with play(pictures=[tmp_path / "my cat.png", tmp_path / "none.png"]) as now:
        app = now.app
        await now.until(lambda: app.chat.footer.pictures)
        await now.until(lambda: "my cat.png" in now.text())
        await now.until(lambda: any("none.png" in note.message for note in app._notifications))
        app.chat.composer.replace_text("What is this?")
        await now.pilot.press("enter")
        await now.until(lambda: any("not sent" in note.message for note in app._notifications))
        await now.pilot.press("enter")  # without the one that does not exist
        await now.until(lambda: now.engine.asked)
        assert [path.suffix for path in now.engine.asked[0][1][0].pictures] == [".png"]
        assert app.chat.footer.pictures == []
        assert app.conversation.path[0].pictures[0].name == "my cat.png"


async def test_a_dropped_file_becomes_a_picture(play: Play, png: MakePng, tmp_path: Path) -> None:
    (tmp_path / "my cat.png").write_bytes(png((40, 30)))
    (tmp_path / "dog.png").write_bytes(png((9, 9)))
    async with play() as now:
        app = now.app
        app.post_message(events.Paste(f"'{tmp_path}/my cat.png' file://{tmp_path}/dog.png\n"))
        await now.until(lambda: len(app.chat.footer.pictures) == 2)
        assert app.chat.composer.text == ""
        app.post_message(events.Paste("/not/a/file.png"))
        await now.until(lambda: app.chat.composer.text == "/not/a/file.png")


async def test_a_picture_is_attached_with_a_command_whose_path_is_completed(
    play: Play, png: MakePng, tmp_path: Path
) -> None:
    (tmp_path / "photo.png").write_bytes(png((40, 30)))
    async with play() as now:
        app, pilot = now.app, now.pilot
        app.chat.composer.replace_text("/ima")
        await pilot.press("tab")
        await now.until(lambda: app.chat.composer.text == "/image ")
        app.chat.composer.type(f"{tmp_path}/pho")
        await pilot.press("tab")
        await now.until(lambda: app.chat.composer.text.endswith("photo.png"))
        await pilot.press("enter")
        await now.until(lambda: len(app.chat.footer.pictures) == 1)
        assert now.engine.asked == []


async def test_commands_of_the_plain_chat_work(play: Play) -> None:
    async with play() as now:
        app, pilot = now.app, now.pilot
        await pilot.press("/")
        await now.until(lambda: "/pick" in now.text())
        await pilot.press("escape")
        await now.until(lambda: "/pick" not in now.text())
        app.chat.composer.replace_text("/imgae x")
        await pilot.press("enter")
        await now.until(lambda: any("did you mean /image" in note.message for note in app._notifications))
        await now.talk("What is this?", "A cat.")
        app.chat.composer.replace_text("/clear")
        await pilot.press("enter")
        await now.until(lambda: now.shown == [])
        assert len(now.store.conversations(10)) == 1
        app.chat.composer.replace_text("/quit")
        await pilot.press("enter")
        await now.until(lambda: now.engine.stopped)


async def test_the_context_warns_before_it_is_full(play: Play) -> None:
    async with play(size=(120, 30)) as now:
        await now.ask("What is this?")
        now.engine.on_event(ContextUsage(now.engine.request, 900, 1000, 0))
        await now.until(lambda: "context nearly full" in now.text())
        now.engine.on_event(ContextUsage(now.engine.request, 990, 1000, 2))
        await now.until(lambda: "2 oldest messages left out" in now.text())


async def test_a_model_that_reads_questions_by_themselves_says_so_with_the_second(
    play: Play, png: MakePng, tmp_path: Path
) -> None:
    def notices(app: MiniGPT4App) -> int:
        return sum("by itself" in note.message for note in app._notifications)

    (tmp_path / "cat.png").write_bytes(png((40, 30)))
    for by_itself in (True, False):
        async with play(pictures=[tmp_path / "cat.png"]) as now:
            now.engine.on_event(Ready("mini", "llamacpp", 1000, 9, 0.2, by_itself=by_itself))
            await now.until(lambda now=now: now.app.chat.footer.pictures)
            await now.talk("What is this?", "A cat.")
            assert notices(now.app) == 0
            await now.talk("Is it grey?", "Yes.")
            assert notices(now.app) == by_itself
            await now.talk("Sure?", "No.")
            assert notices(now.app) == by_itself, "once is enough"


async def test_a_kept_conversation_is_opened_again(play: Play) -> None:
    async with play() as now:
        first = now.app
        await now.talk("What is this?", "A cat.")
        assert first.conversation.info is not None
        kept = first.conversation.info.id
    async with play(conversation=kept) as now:
        await now.until(lambda: now.shown == ["What is this?", "A cat."])
        assert "What is this?" in now.text().splitlines()[0]
        await now.ask("Sure?")
        assert [one.text for one in now.engine.asked[0][1]] == ["What is this?", "A cat.", "Sure?"]


async def test_conversations_are_gone_through_without_the_list(play: Play) -> None:
    async with play() as now:
        pilot = now.pilot
        await now.talk("First?", "1")
        await pilot.press("ctrl+n")
        await now.until(lambda: now.shown == [])
        await now.talk("Second?", "2")
        await pilot.press("ctrl+pagedown")
        await now.until(lambda: now.shown == ["First?", "1"])
        await pilot.press("ctrl+pageup")
        await now.until(lambda: now.shown == ["Second?", "2"])


@pytest.mark.parametrize("doing", ["idle", "writing"])
async def test_leaving_keeps_the_text(play: Play, doing: str) -> None:
    async with play() as now:
        pilot = now.pilot
        if doing == "writing":
            await now.ask("Tell me a story.")
            now.engine.begin("Once upon")
            await now.until(lambda: "Once upon" in now.text())
        await pilot.press("ctrl+q")
        await now.until(lambda: now.engine.stopped)
    if doing == "writing":
        (info,) = now.store.conversations(10)
        assert [(one.text, one.state) for one in now.store.path(info.id)][1] == ("Once upon", "stopped")


async def test_ctrl_c_stops_then_clears_then_leaves(play: Play) -> None:
    async with play() as now:
        app, pilot = now.app, now.pilot
        await now.ask("Tell me a story.")
        await pilot.press("ctrl+c")
        await now.until(lambda: app.conversation.answering is None)
        await pilot.press(*"hm", "ctrl+c")
        await now.until(lambda: app.chat.composer.text == "")
        await pilot.press("ctrl+c")
        await now.until(lambda: now.engine.stopped)
