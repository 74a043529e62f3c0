"""Full-text search: any text is a valid query, and matches are marked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt4.tui.history.records import HIT, HIT_END
from minigpt4.tui.history.store import Store, StoredPicture


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "conversations.sqlite3")
    yield store
    store.close()


@pytest.fixture
def talk(store: Store) -> str:
    """A conversation to which tests add the texts to find."""
    return store.new_conversation().id


def say(store: Store, talk: str, text: str, *, picture: str = "") -> str:
    pictures = [StoredPicture("0" * 64, picture, 1, 1, "PNG", Path("none"))] if picture else []
    return store.add_message(talk, None, "assistant", text, pictures).id


def found(store: Store, query: str) -> list[str]:
    """The snippets, with the marks as brackets."""
    return [hit.snippet.replace(HIT, "[").replace(HIT_END, "]") for hit in store.search(query, 10)]


@pytest.mark.parametrize(
    ("query", "snippet"),
    [
        ("dog", "A brown [dog] runs."),
        ("DO", "A brown [dog] runs."),
        ("runs brown", "A [brown] dog [runs]."),
        ('"brown dog"', "A [brown dog] runs."),
        ('"brown dog', "A [brown dog] runs."),
        ("“brown dog”", "A [brown dog] runs."),
    ],
)
def test_words_match_by_prefix_and_phrases_exactly(store: Store, talk: str, query: str, snippet: str) -> None:
    message = say(store, talk, "A brown dog runs.")
    say(store, talk, "Another text")
    assert found(store, query) == [snippet]
    (hit,) = store.search(query, 10)
    assert (hit.conversation, hit.message_id, hit.role) == (talk, message, "assistant")


@pytest.mark.parametrize("query", ["dog cat", '"dog brown"', '"do"', "og", "", " ", '"', '""'])
def test_a_query_with_a_missing_word_finds_nothing(store: Store, talk: str, query: str) -> None:
    say(store, talk, "A brown dog runs.")
    assert found(store, query) == []


def test_picture_names_and_given_titles_are_found_too(store: Store, talk: str) -> None:
    say(store, talk, "", picture="IMG_2034 holiday.JPG")
    store.rename(talk, "Our summer")
    assert found(store, "img_20") == ["[IMG_2034] holiday.JPG"]
    assert found(store, "summ") == ["Our [summer]"]
    assert store.search("summ", 1)[0].message_id is None
    store.rename(talk, "Our winter")
    assert found(store, "summ") == []


def test_a_title_derived_from_the_first_question_is_not_a_second_hit(store: Store, talk: str) -> None:
    store.add_message(talk, None, "user", "Which animal?")
    assert len(store.search("animal", 10)) == 1


def test_texts_that_change_are_found_as_they_are_now(store: Store, talk: str) -> None:
    answer = store.add_message(talk, None, "assistant", "", state="writing")
    store.update_text(answer.id, "A zebra", "writing")
    store.update_text(answer.id, "A zebra", "stopped")
    assert found(store, "zebra") == ["A [zebra]"]
    store.update_text(answer.id, "A zebra and", "writing")
    store.update_text(answer.id, "A horse", "done")
    assert (found(store, "zebra"), found(store, "horse")) == ([], ["A [horse]"])


def test_accents_and_capitals_make_no_difference(store: Store, talk: str) -> None:
    say(store, talk, "Ein CAFÉ in Köln")
    assert found(store, "cafe koln") == ["Ein [CAFÉ] in [Köln]"]


def test_scripts_without_spaces_and_signs_are_found_anywhere(store: Store, talk: str) -> None:
    say(store, talk, "一只棕色的狗在跑")
    say(store, talk, "Is it 100%? \\o/ :-)")
    assert found(store, "的狗") == ["一只棕色[的狗]在跑"]
    assert found(store, "%?") == ["Is it 100[%?] \\o/ :-)"]
    assert found(store, "\\") == ["Is it 100%? [\\]o/ :-)"]
    assert found(store, ":-)") == ["Is it 100%? \\o/ [:-)]"]
    assert found(store, "%%") == []


def test_newest_hits_come_first_and_only_as_many_as_asked(store: Store, talk: str) -> None:
    ids = [say(store, talk, f"dog {number}") for number in range(5)]
    assert [hit.message_id for hit in store.search("dog", 3)] == ids[:1:-1]
    assert store.search("dog", 0) == []


def test_a_long_text_is_shown_around_its_first_hit_on_one_line(store: Store, talk: str) -> None:
    for length in (200, 30_000):
        say(store, talk, "word\n" * length + "the needle here" + " more" * length)
    snippets = found(store, "needle")
    assert len(snippets) == 2
    for snippet in snippets:
        assert "the [needle] here" in snippet
        assert snippet.startswith("…") and snippet.endswith("…")
        assert "\n" not in snippet and len(snippet) < 200


def test_a_text_of_one_word_repeated_does_not_keep_the_search_busy(store: Store, talk: str) -> None:
    # With SQLite's own snippets this takes minutes.
    say(store, talk, "x y " * 100_000)
    say(store, talk, "x y " * 4_000)
    assert all(snippet.startswith("[x y x") for snippet in found(store, '"x y x"'))


@pytest.mark.parametrize(
    "query",
    [
        "AND", "dog OR", "NOT dog", "NEAR(dog", "dog*", "^dog", "text:dog", "-dog", "(dog", "dog)", "{a b}:",
        "dog\x00cat", "\udcff", "'; DROP TABLE messages; --", "dog\x02", "*", '"*"', "a" * 5000, '" ' * 900,
        "dog " * 3000, "d+d", "\u202edog", "e\u0301", "\U0001f436",
    ],
)  # fmt: skip
def test_no_typed_text_is_an_error(store: Store, talk: str, query: str) -> None:
    say(store, talk, "A brown dog runs.")
    store.search(query, 10)
    assert found(store, "brown") == ["A [brown] dog runs."]


@given(text=st.text(max_size=80), query=st.text(max_size=12))
def test_any_query_over_any_text_gives_balanced_marks(text: str, query: str) -> None:
    store = Store.open()
    talk = store.new_conversation()
    message = store.add_message(talk.id, None, "user", text)
    for asked in (query, text[:10], f'"{text[:10]}'):
        for hit in store.search(asked, 5):
            marks = [letter for letter in hit.snippet if letter in (HIT, HIT_END)]
            assert marks == [HIT, HIT_END] * (len(marks) // 2)
    assert store.message(message.id) == message
    store.purge(talk.id)
    store.close()
