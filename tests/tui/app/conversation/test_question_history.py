"""Walking through earlier questions, and back to the draft."""

from __future__ import annotations

from itertools import count

from minigpt4.tui.conversation.question_history import MAX_PUT_ASIDE, QuestionHistory


def history(*sent: str) -> QuestionHistory:
    """`sent` from oldest to newest, at the times 0, 1, 2 ..."""
    clock = count(100).__next__
    return QuestionHistory(lambda: enumerate(sent), clock)


def walk_up(questions: QuestionHistory, draft: str) -> list[str]:
    found = [draft]
    while (text := questions.earlier(found[-1])) is not None:
        found.append(text)
    return found[1:]


def test_the_newest_comes_first_and_the_draft_last_on_the_way_back() -> None:
    questions = history("one", "two", "three")
    assert walk_up(questions, "half a sen") == ["three", "two", "one"]
    assert questions.earlier("one") is None
    assert questions.later("one") == "two"
    assert questions.later("two") == "three"
    assert questions.later("three") == "half a sen"
    assert questions.later("half a sen") is None


def test_a_question_that_was_sent_several_times_in_a_row_comes_once() -> None:
    assert walk_up(history("a", "b", "b", "b", "a"), "") == ["a", "b", "a"]


def test_what_is_in_the_composer_already_is_not_brought_back_first() -> None:
    assert walk_up(history("a", "b"), "b") == ["a"]


def test_without_questions_there_is_nowhere_to_go() -> None:
    questions = history()
    assert questions.earlier("draft") is None
    assert questions.later("draft") is None
    assert questions.end() == ""


def test_a_text_that_was_put_aside_stands_where_its_time_is() -> None:
    questions = history("one", "two")
    questions.keep("not sent")
    questions.keep("  \n")
    assert walk_up(questions, "") == ["not sent", "two", "one"]


def test_a_brought_back_question_that_is_changed_becomes_the_draft_and_loses_neither() -> None:
    questions = history("one", "two")
    assert questions.earlier("my draft") == "two"
    assert questions.unsent("two") == ("my draft", "")
    assert questions.unsent("two and more") == ("two and more", "my draft")
    assert questions.earlier("two and more") == "my draft"
    assert questions.later("my draft") == "two and more"


def test_the_end_of_a_walk_returns_the_draft_under_it() -> None:
    questions = history("one")
    questions.earlier("my draft")
    assert questions.shows("one")
    assert questions.end() == "my draft"
    assert not questions.shows("one")
    assert questions.end() == ""


def test_only_the_newest_texts_are_kept_aside() -> None:
    questions = history()
    for number in range(MAX_PUT_ASIDE + 5):
        questions.keep(f"text {number}")
    questions.keep("text 20")
    texts = [text for _, text in questions.put_aside]
    assert len(texts) == MAX_PUT_ASIDE
    assert texts[-1] == "text 20"
    assert texts.count("text 20") == 1
    assert "text 4" not in texts
