"""The store fails during a conversation: the app says so, does not freeze, and loses nothing."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minigpt4.core.storage.paths import config_home, data_home
from minigpt4.core.worker.messages import Failed
from minigpt4.tui.cli.chat.app import open_store
from minigpt4.tui.history.store import Store

Play = Any


def is_shown(now: Any, part: str) -> bool:
    return any(part in note.message for note in now.app._notifications)


async def send(now: Any, question: str) -> None:
    now.app.chat.composer.replace_text(question)
    await now.pilot.press("enter")
    await now.pilot.pause()


async def test_a_question_that_could_not_be_kept_stays_in_the_composer(play: Play, store: Store) -> None:
    async with play() as now:
        other = sqlite3.connect(store.file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await send(now, "What is this?")
        await now.until(lambda: is_shown(now, "locked by another program for over 0.3 s"))
        assert now.app.chat.composer.text == "What is this?"
        assert now.engine.asked == []
        other.execute("ROLLBACK")
        other.close()
        await now.pilot.press("enter")
        await now.until(lambda: now.engine.asked)


async def test_an_answer_that_ended_while_the_file_was_locked_is_kept_afterwards(
    play: Play, store: Store
) -> None:
    async with play() as now:
        await now.ask("What is this?")
        other = sqlite3.connect(store.file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        now.engine.answer("A c", "at.")
        await now.until(lambda: now.app.conversation.answering is None)
        await now.until(lambda: "A cat." in now.text() and is_shown(now, "locked"))
        other.execute("ROLLBACK")
        other.close()
        conversation = now.app.conversation.info.id
        await now.until(lambda: [one.text for one in store.path(conversation)][1:] == ["A cat."])
        assert store.path(conversation)[1].state == "done"


async def test_an_answer_that_could_not_be_kept_is_kept_at_the_latest_when_the_app_is_left(
    play: Play, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from minigpt4.tui.conversation import autosave as keeping

    monkeypatch.setattr(keeping, "RETRY_S", 1e9)
    async with play() as now:
        await now.ask("What is this?")
        other = sqlite3.connect(store.file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        now.engine.answer("A cat.")
        await now.until(lambda: is_shown(now, "locked"))
        other.execute("ROLLBACK")
        other.close()
        conversation = now.app.conversation.info.id
        await now.pilot.press("ctrl+q")
        await now.until(lambda: now.engine.stopped)
    assert [one.text for one in store.path(conversation)] == ["What is this?", "A cat."]


async def test_a_file_that_became_read_only_is_reported(play: Play, store: Store) -> None:
    async with play(size=(110, 30)) as now:
        await now.talk("What is this?", "A cat.")
        connection = store._database._connection()
        connection.execute("PRAGMA query_only = ON")
        await send(now, "And this?")
        await now.until(lambda: is_shown(now, "read-only"))
        assert now.app.chat.composer.text == "And this?"
        await now.pilot.press("ctrl+b")
        await now.until(lambda: now.app.focused.id == "conversations")
        now.app._notifications.clear()
        await now.pilot.press("f7", "delete")
        await now.until(lambda: is_shown(now, "read-only"))
        connection.execute("PRAGMA query_only = OFF")
        assert len(store.conversations(10)) == 1
        await now.pilot.press("escape", "enter")
        await now.until(lambda: now.engine.asked[1:])


async def test_a_file_that_was_damaged_meanwhile_stops_nothing(play: Play, store: Store) -> None:
    for number in range(300):
        store.add_message(store.new_conversation().id, None, "user", f"question {number} " * 50)
    async with play({"sidebar": "open"}, size=(110, 30)) as now:
        await now.talk("What is this?", "A cat.")
        kept = now.app.conversation.info.id
        store._database._connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with store.file.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * 200_000)
        store._database._connection().execute("PRAGMA shrink_memory")
        now.app.new_conversation()
        now.app.open_conversation(kept)
        await send(now, "Anybody there?")
        await now.pilot.press("ctrl+f", *"question")
        await now.pilot.press("escape")
        await now.until(lambda: is_shown(now, "damaged"))
        now.app.new_conversation()
        await now.pilot.press(*"still here")
        assert now.app.chat.composer.text.endswith("still here")
        await now.pilot.press("ctrl+q")
        await now.until(lambda: now.engine.stopped)


def make_newer(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA user_version = 999")


def make_another_programs(file: Path) -> None:
    file.unlink()
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")


@pytest.mark.parametrize("spoil", [make_newer, make_another_programs])
async def test_an_unusable_file_is_left_unchanged_with_a_notice_and_the_conversation_is_temporary(
    play: Play, spoil: Callable[[Path], None]
) -> None:
    Store.open().close()
    file = data_home() / "conversations.sqlite3"
    spoil(file)
    before = file.read_bytes()
    kept = open_store(None)
    async with play(kept=kept) as now:
        await now.until(lambda: is_shown(now, "What is said now is not kept."))
        await now.talk("What is this?", "A cat.")
        assert now.shown == ["What is this?", "A cat."]
    kept[0].close()
    assert file.read_bytes() == before


async def test_a_damaged_file_is_moved_aside_with_a_notice(play: Play) -> None:
    file = data_home() / "conversations.sqlite3"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    kept = open_store(None)
    async with play(kept=kept) as now:
        await now.until(lambda: is_shown(now, "moved aside, unchanged"))
        await now.talk("What is this?", "A cat.")
        assert len(now.store.conversations(10)) == 1
    kept[0].close()
    aside = [one for one in file.parent.iterdir() if one.is_file() and b"\xff" * 5000 in one.read_bytes()]
    assert len(aside) == 1


async def test_invalid_settings_are_reported_and_left_unchanged(play: Play) -> None:
    file = config_home() / "settings.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('theme = "paper\n[[')
    async with play() as now:
        await now.until(lambda: is_shown(now, "settings.toml"))
        assert now.app.theme == "harbour"
        await now.pilot.press("f4", *"reduced", "enter")
        await now.until(lambda: len(now.app._notifications) > 1)
        assert file.read_text() == 'theme = "paper\n[['


async def test_a_picture_that_is_deleted_after_it_was_attached(play: Play, png: Any, tmp_path: Path) -> None:
    photo = tmp_path / "cat.png"
    photo.write_bytes(png((40, 30)))
    async with play(pictures=[photo], size=(100, 40)) as now:
        await now.until(lambda: now.app.chat.footer.pictures)
        photo.unlink()
        now.app.chat.footer.pictures[0].path.unlink()
        await now.ask("What is this?")
        now.engine.on_event(Failed(now.engine.request, "cat.png is gone; add it again."))
        await now.until(lambda: "cat.png is gone" in now.text())
        await now.until(lambda: "its file is gone" in now.text())
        await now.talk("And without it?", "A cat.")
