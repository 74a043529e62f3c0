"""Questions and answers of the plain chat that are changed afterwards: again, edited, chosen, taken back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from minigpt4.core.errors import BackendError
from minigpt4.core.prompt import BY_ITSELF, Assistant, User
from minigpt4.core.types import ResolvedSampling
from minigpt4.tui.cli.chat.plain import PlainChat
from minigpt4.tui.history.store import Store
from minigpt4.tui.prompts.prompts import own_prompts_folder

Captured = pytest.CaptureFixture[str]


def paths(store: Store) -> list[list[str]]:
    """The texts of every conversation as it was shown last, the latest first."""
    return [[message.text for message in store.path(info.id)] for info in store.conversations(9)]


def test_again_asks_the_same_and_both_answers_stay(
    chat: PlainChat, engine: Any, store: Store, photo: Path
) -> None:
    chat.take(f"/image {photo}")
    chat.take("What is this?")
    engine.pieces = ("A ", "dog.")
    chat.take("/again")
    assert engine.asked[0] == engine.asked[1]
    assert chat.conversation[1:] == [Assistant("A dog.")]
    assert paths(store) == [["What is this?", "A dog."]]
    (info,) = store.conversations(2)
    answer = store.path(info.id)[1]
    assert [one.text for one in store.variants(answer.id)] == ["A cat.", "A dog."]
    chat.take("Sure?")
    assert paths(store) == [["What is this?", "A dog.", "Sure?", "A dog."]]


def test_a_notice_comes_with_a_second_question_that_is_read_by_itself(
    chat: PlainChat, engine: Any, photo: Path, capsys: Captured
) -> None:
    engine.template = BY_ITSELF
    chat.take(f"/image {photo}")
    noticed = []
    for question in ("What is this?", "Is it grey?", "Sure?"):
        chat.take(question)
        noticed.append("by itself" in capsys.readouterr().err)
    assert noticed == [False, True, False]
    chat.clear()
    chat.take("Hello")
    chat.take("Who are you?")
    assert "by itself" not in capsys.readouterr().err, "without a picture all turns are read"


def test_continue_goes_on_where_the_answer_ended(chat: PlainChat, engine: Any, store: Store) -> None:
    chat.take("What is this?")
    engine.pieces = (" Or ", "two.")
    chat.take("/continue")
    assert engine.asked[1][-1] == Assistant("A cat.")
    assert chat.conversation[-1] == Assistant("A cat. Or two.")
    assert paths(store) == [["What is this?", "A cat. Or two."]]


def test_edit_asks_in_other_words_with_the_same_pictures(
    chat: PlainChat, engine: Any, store: Store, photo: Path
) -> None:
    chat.take("Hello")
    chat.take(f"/image {photo}")
    chat.take("What is this?")
    chat.take("/edit What animal is this?")
    first, _, edited = engine.asked[2]
    assert (first.text, edited.text, len(edited.images)) == ("Hello", "What animal is this?", 1)
    assert paths(store) == [["Hello", "A cat.", "What animal is this?", "A cat."]]
    (info,) = store.conversations(2)
    question = store.path(info.id)[2]
    assert [one.name for one in question.pictures] == ["my cat.png"]
    assert len(store.variants(question.id)) == 2


def test_edit_without_words_tells_the_question(chat: PlainChat, capsys: Captured) -> None:
    chat.take("What is this?")
    chat.take("/edit")
    assert "The last question: What is this?\n/edit TEXT" in capsys.readouterr().err


def test_an_edited_question_takes_the_pictures_that_wait_and_that_it_names(
    chat: PlainChat, engine: Any, store: Store, photo: Path, web: Any, capsys: Captured
) -> None:
    for name in ("dog", "bird"):
        photo.with_name(f"{name}.png").write_bytes(photo.read_bytes())
    address = web.put("/fox.png", photo.read_bytes())
    chat.take(f"What is this? {photo}")
    chat.take(f"/image {photo.with_name('dog.png')}")
    capsys.readouterr()
    chat.take(f"/edit What are '{photo}', '{photo.with_name('bird.png')}' and {address}?")
    assert capsys.readouterr().err == (
        "my cat.png belongs to the question already.\n"
        "Added bird.png, 30 x 20 pixels.\nAdded fox.png, 30 x 20 pixels.\n"
    )
    names = ["my cat.png", "dog.png", "bird.png", "fox.png"]
    [asked] = engine.asked[-1]
    assert asked.text == "What are my cat.png, bird.png and fox.png?"
    assert [image.key for image in asked.images] == names
    (info,) = store.conversations(2)
    assert [one.name for one in store.path(info.id)[0].pictures] == names
    assert chat.pending == []
    chat.take(f"/edit '{photo.with_name('dog.png')}'")
    assert engine.asked[-1][0].text == "What are my cat.png, bird.png and fox.png?", "no other words"
    chat.take("/edit /poem in French")
    assert engine.asked[-1][0].text == "Can you craft a beautiful poem about this image? in French"


def test_an_edited_question_is_not_asked_if_what_it_names_is_no_picture(
    chat: PlainChat, engine: Any, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    chat.take("What is this?")
    for words in (f"Look at {tmp_path / 'broken.png'}", "/nonsense"):
        chat.take(f"/edit {words}")
    assert len(engine.asked) == 1
    assert chat.conversation == [User("What is this?"), Assistant("A cat.")]
    err = capsys.readouterr().err
    assert "The question was not asked; correct the path" in err
    assert "There is no command /nonsense" in err


def test_the_answers_to_the_last_question_are_listed_and_one_is_chosen(
    chat: PlainChat, engine: Any, store: Store, photo: Path, capsys: Captured
) -> None:
    chat.take("Hello")
    chat.take(f"What is this? {photo}")
    engine.pieces = ("A dog.",)
    chat.take("/again")
    engine.pieces = ("A fox.",)
    chat.take("/edit What else?")
    capsys.readouterr()
    chat.take("/variants")
    assert capsys.readouterr().err == (
        "Answer 1 to 'What is this?': A cat.\nAnswer 2 to 'What is this?': A dog.\n"
        "Answer 3 to 'What else?', the one that counts: A fox.\n"
        "/variants NUMBER goes on from another one.\n"
    )
    chat.take("/variants 2")
    assert capsys.readouterr().err == "Answer 2 of 3 counts from now on.\n"
    chat.take("And now?")
    assert [one.text for one in engine.asked[-1]] == [
        "Hello",
        "A cat.",
        "What is this?",
        "A dog.",
        "And now?",
    ]
    assert len(engine.asked[-1][2].images) == 1
    assert paths(store) == [["Hello", "A cat.", "What is this?", "A dog.", "And now?", "A fox."]]
    chat.take("/variants")
    assert "Answer 1, the one that counts: A fox.\n/again asks for another one." in capsys.readouterr().err


def test_a_picture_is_taken_out_again(chat: PlainChat, photo: Path, capsys: Captured) -> None:
    for name in ("dog", "bird"):
        photo.with_name(f"{name}.png").write_bytes(photo.read_bytes())
        chat.take(f"/image {photo.with_name(f'{name}.png')}")
    capsys.readouterr()
    chat.take("/remove fox.png")
    assert (
        "No picture 'fox.png' waits for your next question, but dog.png, bird.png." in capsys.readouterr().err
    )
    chat.take("/remove dog.png")
    chat.take("/show")
    assert capsys.readouterr().err == (
        "Removed dog.png, 30 x 20 pixels.\nWith your next question: bird.png, 30 x 20 pixels.\n"
    )
    chat.take("/remove")
    assert chat.pending == []


def test_what_was_said_is_shown_with_pictures_by_name_and_size(
    chat: PlainChat, store: Store, photo: Path, capsys: Captured
) -> None:
    chat.take(f"What is this? {photo}")
    asked = "You asked about my cat.png, 30 x 20 pixels: What is this?\n"
    for line in ("/show", "/history", "/open 1"):
        capsys.readouterr()
        chat.take(line)
        if line == "/show":
            assert capsys.readouterr().err == f"{asked}Answer: A cat.\n"
    alone = PlainChat(chat.engine, ResolvedSampling())
    alone.take(f"What is this? {photo}")
    capsys.readouterr()
    alone.take("/show")
    assert capsys.readouterr().err == "You asked about 1 picture: What is this?\nAnswer: A cat.\n"


def test_a_conversation_is_pinned_and_brought_back(chat: PlainChat, store: Store, capsys: Captured) -> None:
    chat.take("First")
    chat.take("/pin")
    chat.take("/delete")
    chat.take("/undelete")
    assert "Continuing 'First', 2 messages." in capsys.readouterr().err
    (info,) = store.conversations(2)
    assert info.pinned
    chat.take("/pin")
    assert not store.get(info.id).pinned
    chat.take("Second")
    assert paths(store) == [["First", "A cat.", "Second", "A cat."]]


def test_an_answer_that_fails_again_leaves_the_earlier_one(
    chat: PlainChat, engine: Any, store: Store
) -> None:
    chat.take("What is this?")
    engine.breaks = BackendError("The model broke.")
    for line in ("/again", "/edit What?"):
        chat.take(line)
        assert chat.conversation == [User("What is this?"), Assistant("A cat.")]
    engine.breaks = None
    chat.take("And now?")
    assert paths(store) == [["What is this?", "A cat.", "And now?", "A cat."]]


def test_a_prompt_limits_the_answers_to_its_question_alone(chat: PlainChat, engine: Any) -> None:
    folder = own_prompts_folder()
    folder.mkdir(parents=True)
    (folder / "word.toml").write_text("about = 'x'\ntext = 'In one word.'\nmax_tokens = 12\n")
    lines = ("/word", "/again", "/continue", "/edit Hello", "/edit /word", "/again", "And now?", "/again")
    for line in lines:
        chat.take(line)
    usual = ResolvedSampling().max_tokens
    assert engine.limits == [12, 12, usual, usual, 12, 12, usual, usual]
