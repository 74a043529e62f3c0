"""Nothing that is typed is lost, and what was asked before comes back with Up."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from minigpt4.tui.history.store import Store, StoredPicture
from minigpt4.tui.widgets.chips import Chip
from minigpt4.tui.widgets.message import MessageView

Play = Any
Now = Any
MakePng = Any


def composer(now: Now) -> Any:
    return now.app.chat.composer


def chips(now: Now) -> list[str]:
    return [chip.picture.name for chip in now.app.chat.query(Chip)]


def said(now: Now) -> str:
    return "\n".join(note.message for note in now.app._notifications)


async def press(now: Now, *keys: str) -> str:
    await now.pilot.press(*keys)
    await now.pilot.pause()
    text: str = composer(now).text
    return text


@pytest.fixture
def past(store: Store) -> Store:
    """Questions in two conversations, the newest twice."""
    for question in ("oldest", "two\nlines"):
        store.add_message(store.new_conversation().id, None, "user", question)
    last = store.add_message(store.new_conversation().id, None, "user", "newest")
    store.add_message(store.conversations(1)[0].id, last.id, "user", "newest")
    return store


async def test_up_brings_back_earlier_questions_and_down_returns_to_the_draft(
    play: Play, past: Store
) -> None:
    async with play() as now:
        await press(now, *"draft")
        assert await press(now, "up") == "newest"
        assert await press(now, "up") == "two\nlines"
        assert await press(now, "up") == "two\nlines"  # within the question, to its first line
        assert await press(now, "up") == "oldest"
        assert await press(now, "up") == "oldest"
        assert await press(now, "down") == "two\nlines"
        assert await press(now, "down") == "newest"
        assert await press(now, "down") == "draft"
        assert await press(now, "down") == "draft"
        assert await press(now, "!") == "draft!"


async def test_up_and_down_move_within_a_draft_of_several_lines_first(play: Play, past: Store) -> None:
    async with play() as now:
        composer(now).replace_text("one\ntwo")
        assert await press(now, "up", "X") == "oneX\ntwo"
        assert await press(now, "down", "Y") == "oneX\ntwoY"
        assert await press(now, "up", "up") == "newest"


async def test_a_question_that_was_brought_back_is_sent_and_the_draft_returns(
    play: Play, past: Store
) -> None:
    async with play() as now:
        await press(now, *"draft")
        await press(now, "up", "?", "enter")
        await now.until(lambda: now.engine.asked)
        assert now.shown[0] == "newest?"
        assert composer(now).text == "draft"
        now.engine.answer("Yes.")
        await now.until(lambda: now.app.conversation.answering is None)
        assert await press(now, "up") == "newest?"


async def test_a_deleted_conversations_questions_are_not_brought_back(play: Play, past: Store) -> None:
    past.delete(past.conversations(1)[0].id)
    async with play() as now:
        assert await press(now, "up") == "two\nlines"


async def test_alt_up_goes_to_the_messages(play: Play) -> None:
    async with play() as now:
        await now.talk("One?", "1")
        await press(now, *"draft", "alt+up")
        await now.until(lambda: isinstance(now.app.focused, MessageView))


async def test_ctrl_c_keeps_the_text_and_says_how_to_leave(play: Play) -> None:
    async with play() as now:
        await press(now, *"half", "ctrl+c")
        assert composer(now).text == ""
        assert "Up brings the text back. Ctrl+C again, or Ctrl+Q, leaves." in said(now)
        assert await press(now, "up") == "half"
        assert now.app.is_running


async def test_text_given_to_a_command_that_takes_none_is_kept(play: Play) -> None:
    async with play() as now:
        composer(now).replace_text("/help me with this")
        await press(now, "enter")
        await now.until(lambda: type(now.app.screen).__name__ == "HelpScreen")
        await press(now, "escape")
        await now.until(lambda: now.app.screen is now.app.chat)
        assert await press(now, "up") == "/help me with this"


@pytest.mark.parametrize("content", [None, b"no picture"], ids=["missing", "not a picture"])
async def test_a_picture_command_that_fails_comes_back_with_what_failed(
    play: Play, png: MakePng, tmp_path: Path, content: bytes | None
) -> None:
    (tmp_path / "good.png").write_bytes(png((20, 20)))
    bad = tmp_path / "a bad.png"
    if content is not None:
        bad.write_bytes(content)
    async with play() as now:
        composer(now).replace_text(f"/image {tmp_path}/good.png '{bad}' {tmp_path}/none.png")
        await press(now, "enter")
        await now.until(lambda: chips(now) == ["good.png"] and "none.png" in composer(now).text)
        await now.until(lambda: len(now.app.chat.footer.pictures) == 1)
        assert sorted(composer(now).text.split(" ", 1)[1].replace("a bad", "a_bad").split()) == sorted(
            [f"'{str(bad).replace('a bad', 'a_bad')}'", f"{tmp_path}/none.png"]
        )
        bad.write_bytes(png((20, 20)))
        (tmp_path / "none.png").write_bytes(png((20, 20)))
        await press(now, "enter")
        await now.until(lambda: len(now.app.chat.footer.pictures) == 3)
        assert composer(now).text == ""


async def test_a_picture_command_that_fails_while_more_is_typed_is_brought_back_by_up(
    play: Play, tmp_path: Path
) -> None:
    async with play() as now:
        os.mkfifo(tmp_path / "slow.png")
        composer(now).replace_text(f"/image {tmp_path}/slow.png")
        await press(now, "enter", *"What")
        (tmp_path / "slow.png").write_bytes(b"no picture")
        await now.until(lambda: "slow.png" in said(now))
        assert composer(now).text == "What"
        assert await press(now, "up") == f"/image {tmp_path}/slow.png"


async def test_a_picture_command_without_a_path_stays(play: Play) -> None:
    async with play() as now:
        composer(now).replace_text("/image ")
        await press(now, "enter")
        await now.until(lambda: "needs the path" in said(now))
        assert composer(now).text == "/image "


async def test_editing_a_message_keeps_the_draft_and_the_edit(play: Play) -> None:
    async with play() as now:
        await now.talk("One?", "1")
        await press(now, *"draft", "ctrl+up")
        await now.until(lambda: composer(now).text == "One?")
        await press(now, "!", "escape")
        assert composer(now).text == "draft"
        assert await press(now, "up") == "One?!"
        await press(now, "down", "ctrl+up", "?", "enter")
        await now.until(lambda: len(now.engine.asked) == 2)
        await now.until(lambda: now.shown[:1] == ["One??"])
        assert composer(now).text == "draft"


async def test_each_conversation_has_its_own_draft_with_its_pictures(
    play: Play, picture: StoredPicture
) -> None:
    async with play() as now:
        await now.talk("One?", "1")
        first = now.app.conversation.info.id
        await press(now, *"about one")
        now.app.attach([picture])
        await now.until(lambda: chips(now) == ["cat.png"])
        await press(now, "ctrl+n")
        await now.until(lambda: now.shown == [] and chips(now) == [])
        assert composer(now).text == ""
        await press(now, *"about none")
        now.app.open_conversation(first)
        await now.until(lambda: composer(now).text == "about one" and chips(now) == ["cat.png"])
        await press(now, "ctrl+n")
        await now.until(lambda: composer(now).text == "about none" and chips(now) == [])


async def test_a_picture_that_opens_meanwhile_is_open_on_return(
    play: Play, png: MakePng, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "slow.png")
    async with play() as now:
        await now.talk("One?", "1")
        first = now.app.conversation.info.id
        now.app.attach([tmp_path / "slow.png"])
        await press(now, "ctrl+n")
        (tmp_path / "slow.png").write_bytes(png((20, 20)))
        await now.until(lambda: now.shown == [] and chips(now) == [])
        now.app.open_conversation(first)
        await now.until(lambda: [one.name for one in now.app.chat.footer.pictures] == ["slow.png"])


async def test_what_was_not_sent_is_there_again_at_the_next_start(play: Play, picture: StoredPicture) -> None:
    async with play() as now:
        await now.talk("One?", "1")
        first = now.app.conversation.info.id
        await press(now, *"about one")
        await press(now, "ctrl+n")
        now.app.attach([picture])
        await press(now, *"new", "ctrl+c", *"newer", "ctrl+q")
    async with play() as now:
        await now.until(lambda: composer(now).text == "newer")
        await now.until(lambda: now.app.chat.footer.pictures == [picture])
        assert "is back" in said(now)
        assert await press(now, "up") == "new"
        now.app.open_conversation(first)
        await now.until(lambda: composer(now).text == "about one")


async def test_a_start_with_a_picture_is_not_mixed_with_an_old_draft(
    play: Play, png: MakePng, tmp_path: Path
) -> None:
    (tmp_path / "new.png").write_bytes(png((20, 20)))
    async with play() as now:
        await press(now, *"old draft", "ctrl+q")
    async with play(pictures=[tmp_path / "new.png"]) as now:
        await now.until(lambda: chips(now) == ["new.png"])
        assert composer(now).text == ""
        await press(now, "ctrl+q")
    async with play() as now:
        await now.until(lambda: composer(now).text == "old draft")
        assert chips(now) == []
