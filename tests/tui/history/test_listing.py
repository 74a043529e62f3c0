"""Pages of the list with the names of pictures, and those that hold the words typed."""

from __future__ import annotations

import io
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from minigpt4.core.pixels import open_picture
from minigpt4.tui.history.records import ConversationInfo, StoredMessage, StoredPicture, WholeConversation
from minigpt4.tui.history.schema import APPLICATION_ID, MIGRATIONS
from minigpt4.tui.history.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "conversations.sqlite3")
    yield opened
    opened.close()


def kept(store: Store, name: str, color: str = "red") -> StoredPicture:
    file = io.BytesIO()
    Image.new("RGB", (3, 2), color).save(file, "PNG")
    return store.keep_picture(open_picture(file.getvalue()), name)


def add(store: Store, question: str, *pictures: StoredPicture) -> str:
    talk = store.new_conversation()
    store.add_message(talk.id, None, "user", question, pictures)
    return talk.id


def titles(store: Store, matching: str) -> list[str]:
    found = [info.title for info in store.conversations(100, None, matching)]
    assert store.count(matching) == len(found)
    return found


def test_pictures_are_named_in_the_order_given_and_each_once(store: Store) -> None:
    cat, dog, bird = (
        kept(store, "cat.png"),
        kept(store, "dog.png", "blue"),
        kept(store, "b\nird.png", "green"),
    )
    talk = add(store, "Which is larger?", cat, dog)
    store.add_message(talk, None, "user", "Which is larger, in words?", [cat, dog])
    store.add_message(talk, None, "user", "And this one?", [bird])
    store.add_message(talk, None, "user", "Twice the same?", [replace(kept(store, "sea.png", "teal"))] * 2)
    (info,) = store.conversations(9)
    assert info.pictures == ("cat.png", "dog.png", "b ird.png", "sea.png", "sea.png")


def test_a_history_of_before_learns_the_names_of_its_pictures(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite3"
    connection = sqlite3.connect(path)
    for script in MIGRATIONS[:2]:
        connection.executescript(script)
    connection.executescript(
        f"""
        PRAGMA user_version = 2;
        PRAGMA application_id = {APPLICATION_ID};
        INSERT INTO conversations (id, title, created, updated)
            VALUES ('c1', 'one', 1, 1), ('c2', 'two', 1, 1);
        INSERT INTO messages (seq, id, conversation, role, text, state, created) VALUES
            (1, 'm1', 'c1', 'user', '', 'done', 1), (2, 'm2', 'c1', 'user', '', 'done', 1);
        INSERT INTO pictures VALUES ('d1', 1, 1, 'PNG', 1), ('d2', 1, 1, 'PNG', 1);
        INSERT INTO message_pictures
            VALUES (1, 0, 'd1', 'b.png'), (1, 1, 'd2', 'a.png'), (2, 0, 'd1', 'b.png');
        """
    )
    connection.close()
    store = Store.open(path)
    assert {info.title: info.pictures for info in store.conversations(9)} == {
        "one": ("b.png", "a.png"),
        "two": (),
    }
    store.close()


def test_every_word_must_be_in_the_title_or_a_pictures_name(store: Store) -> None:
    add(store, "Was ist das?", kept(store, "Müllabfuhr Cafe\u0301.png"))
    add(store, "100% of A_B, [/]")
    for words in ("ist", "MÜLL", "mull", "café", "das cafe", "   png "):
        assert titles(store, words) == ["Was ist das?"], words
    for words in ("100%", "a_b", "[/]"):
        assert titles(store, words) == ["100% of A_B, [/]"], words
    assert titles(store, "ist 100") == titles(store, "a%b") == []
    assert len(titles(store, "")) == len(titles(store, "  ")) == 2


def test_pages_of_what_matches_join_and_leave_out_what_was_deleted(store: Store) -> None:
    ids = [add(store, f"{'cat' if number % 2 else 'dog'} {number}") for number in range(20)]
    store.pin(ids[3])
    store.delete(ids[5])
    first = store.conversations(4, None, "cat")
    rest = store.conversations(99, first[-1], "cat")
    assert [info.title for info in (*first, *rest)] == [
        "cat 3", "cat 19", "cat 17", "cat 15", "cat 13", "cat 11", "cat 9", "cat 7", "cat 1",
    ]  # fmt: skip


def test_among_10000_a_page_takes_under_20_ms_and_a_filter_under_300(store: Store) -> None:
    picture = StoredPicture("0" * 64, "IMG_2026.jpg", 3, 2, "JPEG", Path("x"))

    def whole(number: int) -> WholeConversation:
        question = StoredMessage(f"m{number}", None, "user", "", "done", (picture,), 1, {})
        info = ConversationInfo(f"c{number:05}", f"Wie heißt Bild {number}?", 1, number, False, 1)
        return WholeConversation(info, False, {}, question.id, (question,))

    store.add_whole(whole(number) for number in range(10_000))

    def seconds(matching: str) -> float:
        begin = time.perf_counter()
        assert store.conversations(100, None, matching)
        assert store.count(matching)
        return time.perf_counter() - begin

    assert min(seconds("") for _ in range(5)) < 0.02
    assert min(seconds("bild 99") for _ in range(5)) < 0.3
