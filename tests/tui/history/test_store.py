"""The store: branches, variants, deletion with undo, deduplicated pictures, pages of a long list."""

from __future__ import annotations

import hashlib
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from minigpt4.core.errors import ImageError, UsageError
from minigpt4.core.pixels import open_picture
from minigpt4.core.storage.paths import data_home
from minigpt4.tui.history import pictures as store_pictures
from minigpt4.tui.history.store import ConversationInfo, Store, StoredMessage, StoreError, WholeConversation


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "kept" / "conversations.sqlite3")
    yield store
    store.close()


def png(colour: str = "red", size: tuple[int, int] = (3, 2)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


def whole(number: int, text: str = "A question", messages: int = 2) -> WholeConversation:
    """A conversation whose messages follow one another."""
    ids = [f"m{number}-{place}" for place in range(messages)]
    kept = tuple(
        StoredMessage(
            ids[place], ids[place - 1] if place else None, "user", f"{text} {place}", "done", (), 1.0, {}
        )
        for place in range(messages)
    )
    info = ConversationInfo(f"c{number:05}", text, float(number), float(number), False, messages)
    return WholeConversation(info, False, {}, ids[-1] if ids else None, kept)


def test_a_conversation_persists_after_the_store_is_closed(store: Store) -> None:
    talk = store.new_conversation({"bundle": "mini", "temperature": 0.5})
    photo = store.keep_picture(open_picture(png()), "dog.png")
    question = store.add_message(talk.id, None, "user", "What is\x00 this?", [photo])
    answer = store.add_message(talk.id, question.id, "assistant", "", state="writing")
    store.update_text(answer.id, "A d", "writing")
    stats = {"tokens_per_s": 9.5, "finish": "stop", "first_token_s": float("nan")}
    store.update_text(answer.id, "A dog.", "done", stats)
    store.close()

    again = Store.open(store.file)
    first, second = again.path(talk.id)
    assert first == question
    assert (first.text, first.pictures, first.state) == ("What is\ufffd this?", (photo,), "done")
    assert (second.text, second.state, second.parent) == ("A dog.", "done", question.id)
    assert second.stats == {"tokens_per_s": 9.5, "finish": "stop"}
    assert again.message(answer.id) == second
    assert again.settings(talk.id) == {"bundle": "mini", "temperature": 0.5}
    kept = again.get(talk.id)
    assert (kept.title, kept.messages, again.leaf(talk.id)) == ("What is\ufffd this?", 2, answer.id)
    assert again.notice is None and again.integrity() == []
    again.close()


def test_the_default_store_is_in_the_data_folder_and_readable_by_its_owner_only() -> None:
    store = Store.open()
    store.new_conversation()
    assert store.file == data_home() / "conversations.sqlite3"
    assert store.file.stat().st_mode & 0o777 == 0o600
    store.close()
    with pytest.raises(StoreError, match="closed already"):
        store.conversations(1)


def test_a_temporary_store_leaves_nothing_behind() -> None:
    store = Store.temporary()
    store.keep_picture(open_picture(png()), "a.png")
    store.close()
    assert not store.file.parent.exists()


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("What is\n  this?", "What is this?"),
        ("   ", "dog [/b].png"),
        ("word " * 40, "word word word word word word word word word word word…"),
        ("x" * 100, "x" * 59 + "…"),
    ],
)
def test_the_first_question_or_the_pictures_name_becomes_the_title(
    store: Store, text: str, title: str
) -> None:
    talk = store.new_conversation()
    store.add_message(talk.id, None, "user", text, [store.keep_picture(open_picture(png()), "dog [/b].png")])
    store.add_message(talk.id, None, "user", "Another beginning")
    assert store.get(talk.id).title == title


def test_a_title_that_was_given_stays(store: Store) -> None:
    talk = store.new_conversation()
    store.rename(talk.id, " My \n dog ")
    store.add_message(talk.id, None, "user", "What?")
    assert store.get(talk.id).title == "My dog"
    with pytest.raises(UsageError, match="empty"):
        store.rename(talk.id, " \n ")


def test_another_answer_is_a_variant_and_the_first_one_stays_reachable(store: Store) -> None:
    talk = store.new_conversation()
    question = store.add_message(talk.id, None, "user", "What?")
    first = store.add_message(talk.id, question.id, "assistant", "A dog.")
    more = store.add_message(talk.id, first.id, "user", "Its colour?")
    second = store.add_message(talk.id, question.id, "assistant", "A cat.")
    assert store.path(talk.id) == [question, second]
    assert store.variants(first.id) == store.variants(second.id) == [first, second]
    assert store.children(question.id) == [first, second]
    assert store.variants(question.id) == [question]
    assert store.newest_leaf(first.id) == more.id
    store.set_leaf(talk.id, store.newest_leaf(first.id))
    assert store.path(talk.id) == [question, first, more]
    store.set_leaf(talk.id, None)
    assert store.path(talk.id) == []


def test_messages_of_another_conversation_are_refused(store: Store) -> None:
    one, other = store.new_conversation(), store.new_conversation()
    stranger = store.add_message(other.id, None, "user", "Hello")
    for wrong in (
        lambda: store.add_message(one.id, stranger.id, "user", "?"),
        lambda: store.set_leaf(one.id, stranger.id),
    ):
        with pytest.raises(StoreError, match="belongs to another conversation"):
            wrong()
    for gone in (
        lambda: store.add_message("nowhere", None, "user", "?"),
        lambda: store.add_message(one.id, "nothing", "user", "?"),
        lambda: store.update_text("nothing", "", "done"),
        lambda: store.path("nowhere"),
        lambda: store.variants("nothing"),
        lambda: store.pin("nowhere"),
    ):
        with pytest.raises(StoreError, match="no longer exists"):
            gone()
    assert store.path(one.id) == []


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "show", "update"]), st.integers(min_value=0)), min_size=1, max_size=25
)


@given(steps=STEPS)
def test_any_branch_leads_from_the_first_message_to_the_leaf(steps: list[tuple[str, int]]) -> None:
    # One store for all examples: separate conversations suffice in place of separate files.
    store = Store.open()
    talk = store.new_conversation()
    made: dict[str, StoredMessage] = {}
    leaf = None
    for step, choice in steps:
        names = [None, *made]
        name = names[choice % len(names)]
        if step == "add":
            message = store.add_message(talk.id, name, "user", f"Text {len(made)}")
            made[message.id], leaf = message, message.id
        elif step == "show":
            store.set_leaf(talk.id, name)
            leaf = name
        elif name is not None:
            store.update_text(name, "changed", "done")
            made[name] = store.message(name)
    path = store.path(talk.id)
    assert [one.id for one in path[-1:]] == ([leaf] if leaf else [])
    assert [one.parent for one in path] == [None, *(one.id for one in path)][: len(path)]
    kept = store.whole(talk.id)
    assert kept.messages == tuple(made.values())
    assert (kept.leaf, kept.info.messages) == (leaf, len(made))
    for message in made.values():
        variants = store.variants(message.id)
        assert message in variants
        assert variants == [one for one in made.values() if one.parent == message.parent]
        assert all(child.parent == message.id for child in store.children(message.id))
        end = store.newest_leaf(message.id)
        assert store.children(end) == []
        store.set_leaf(talk.id, end)
        assert message in store.path(talk.id)
    store.close()


def test_a_path_of_2000_messages_is_read_whole(store: Store) -> None:
    store.add_whole([whole(1, messages=2000)])
    assert [one.id for one in store.path("c00001")] == [f"m1-{place}" for place in range(2000)]


def test_pinned_conversations_come_first_and_pages_join_without_gaps(store: Store) -> None:
    store.add_whole(whole(number) for number in range(25))
    store.pin("c00003")
    store.pin("c00007")
    listed: list[ConversationInfo] = []
    while page := store.conversations(10, listed[-1] if listed else None):
        listed += page
    assert [info.id for info in listed[:3]] == ["c00007", "c00003", "c00024"]
    assert len({info.id for info in listed}) == len(listed) == 25
    store.pin("c00007", False)
    store.add_message("c00000", None, "user", "Newest")
    assert [info.id for info in store.conversations(2)] == ["c00003", "c00000"]


def test_the_first_page_of_10000_conversations_takes_under_20_ms(store: Store) -> None:
    store.add_whole(whole(number) for number in range(10_000))
    times = []
    for _ in range(9):
        begin = time.perf_counter()
        page = store.conversations(50)
        store.conversations(50, page[-1])
        times.append(time.perf_counter() - begin)
    assert len(page) == 50
    assert min(times) < 0.02


def test_a_deleted_conversation_is_hidden_until_it_is_restored(store: Store) -> None:
    store.add_whole([whole(1, "A zebra"), whole(2)])
    before = store.whole("c00001")
    store.delete("c00001")
    assert [info.id for info in store.conversations(9)] == ["c00002"]
    assert store.search("zebra", 9) == []
    assert [info.id for info in store.deleted()] == ["c00001"]
    with pytest.raises(UsageError, match="no conversation"):
        store.find("c00001")
    store.undelete("c00001")
    assert store.whole("c00001") == before
    assert len(store.search("zebra", 9)) == 2
    assert store.deleted() == []


def test_purging_removes_text_and_pictures_without_other_references(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = store.new_conversation(), store.new_conversation()
    shared, own = (
        store.keep_picture(open_picture(png("red")), "a.png"),
        store.keep_picture(open_picture(png("blue")), "b.png"),
    )
    store.add_message(one.id, None, "user", "xylophone", [shared, own])
    store.add_message(other.id, None, "user", "kept", [shared])
    waiting = store.keep_picture(open_picture(png("green")), "not sent yet.png")
    store.delete(one.id)
    assert store.purge_deleted(3600) == 0
    assert store.purge_deleted(0) == 1
    assert own.path.exists(), "it was kept lately, maybe by another window for its next message"
    monkeypatch.setattr(store_pictures, "GRACE_S", 0)
    store.purge("nowhere")
    assert [shared.path.exists(), own.path.exists(), waiting.path.exists()] == [True, False, False]
    with pytest.raises(StoreError):
        store.get(one.id)
    store.close()
    assert b"xylophone" not in store.file.read_bytes()


def test_equal_pictures_are_stored_once_under_their_hash_and_keep_their_names(store: Store) -> None:
    data = png(size=(40, 30))
    first, second = (
        store.keep_picture(open_picture(data), "a.png"),
        store.keep_picture(open_picture(data), "b\udcff.png"),
    )
    digest = hashlib.sha256(data).hexdigest()
    assert first.path == second.path == store.file.parent / "pictures" / digest[:2] / f"{digest}.png"
    assert first.path.read_bytes() == data
    assert (first.name, second.name) == ("a.png", "b\ufffd.png")
    assert (first.width, first.height, first.format, first.digest) == (40, 30, "PNG", digest)
    talk = store.new_conversation()
    asked = store.add_message(talk.id, None, "user", "", [second, first, second])
    assert [one.name for one in store.message(asked.id).pictures] == ["b\ufffd.png", "a.png", "b\ufffd.png"]
    assert [path for path in store.file.parent.rglob("*") if path.suffix == ".png"] == [first.path]


def test_a_picture_cut_off_by_a_power_cut_is_written_again(store: Store) -> None:
    data = png()
    path = store.keep_picture(open_picture(data), "a.png").path
    path.write_bytes(data[:10])
    store.keep_picture(open_picture(data), "a.png")
    assert path.read_bytes() == data


def test_a_half_written_picture_is_never_seen(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(_draft: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device", "x")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(StoreError, match="No space left"):
        store.keep_picture(open_picture(png()), "a.png")
    monkeypatch.undo()
    folder = store.file.parent / "pictures"
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    assert store.keep_picture(open_picture(png()), "a.png").path.exists()


def test_a_photo_on_its_side_has_its_upright_size(store: Store) -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(file, "JPEG", exif=exif)
    photo = store.keep_picture(open_picture(file.getvalue()), "a.JPG")
    assert (photo.width, photo.height, photo.path.suffix) == (30, 40, ".jpg")


@pytest.mark.parametrize("data", [b"", b"no picture", b"%PDF-1.4", png()[:20]])
def test_a_file_that_is_no_picture_is_refused_in_a_sentence(store: Store, data: bytes) -> None:
    with pytest.raises(ImageError, match=r"x\.png is (empty|a text|a PDF|a damaged PNG)"):
        store.keep_picture(open_picture(data, "x.png"), "x.png")
    assert not (store.file.parent / "pictures").exists()


def test_conversations_are_found_by_the_beginning_of_their_id(store: Store) -> None:
    store.add_whole([whole(1), whole(12)])
    store.add_whole([WholeConversation(ConversationInfo("c0", "t", 1, 1, False, 0), False, {}, None, ())])
    assert store.find("c00001").id == "c00001"
    assert store.find("c0").id == "c0", "an id that is the beginning of others is itself"
    with pytest.raises(UsageError, match="2 conversations begin with 'c000'"):
        store.find("c000")
    for unknown in ("", "x", "c%", "'"):
        with pytest.raises(UsageError, match="There is no conversation"):
            store.find(unknown)


def test_many_threads_write_at_once_and_nothing_is_lost(store: Store) -> None:
    talk = store.new_conversation()

    def write(number: int) -> None:
        for place in range(20):
            store.add_message(talk.id, None, "user", f"{number} {place}")
            store.path(talk.id)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get(talk.id).messages == len(store.whole(talk.id).messages) == 80


def test_a_window_can_tell_that_another_has_written(store: Store) -> None:
    other = Store.open(store.file)
    before = store.version()
    assert store.version() == before
    other.new_conversation()
    assert store.version() != before
    other.close()


def test_the_last_conversation_is_the_latest_updated_pinned_or_not(
    store: Store,
) -> None:
    with pytest.raises(UsageError, match="There is no conversation yet"):
        store.find("last")
    store.add_whole([whole(1), whole(2), whole(3)])
    store.pin("c00001")
    store.delete("c00003")
    assert store.find("last").id == "c00002"
    assert store.find("last", among_deleted=True).id == "c00003"
    store.add_message("c00001", None, "user", "Once more")
    assert store.find("last").id == "c00001"
