"""Pictures that are named inside a question typed into the app, and the notice when there is none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from minigpt4.tui.history.store import StoredPicture
from minigpt4.tui.widgets.chips import Chip

Play = Any
Now = Any
MakePng = Any

NO_PICTURE = "No picture is attached, so the model answers without having seen one; "


def said(now: Now) -> str:
    return "\n".join(note.message for note in now.app._notifications)


def first(now: Now) -> tuple[str, list[str]]:
    """The first question, and the names of its pictures."""
    question = now.app.conversation.path[0]
    return question.text, [picture.name for picture in question.pictures]


async def send(now: Now, question: str) -> None:
    now.app.chat.composer.replace_text(question)
    await now.pilot.press("enter")


@pytest.fixture
def photo(tmp_path: Path, png: MakePng, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A picture in the home folder, with a space in its name."""
    path = tmp_path / "my cat.png"
    path.write_bytes(png((30, 20)))
    monkeypatch.setenv("HOME", str(tmp_path))
    return path


@pytest.mark.parametrize(
    "typed",
    [
        "what is this? '~/my cat.png'",
        "~/my\\ cat.png what is this?",
        "~/my cat.png: what is this?",
        "{} what is this?",
    ],
)
async def test_a_path_in_a_question_is_a_picture(play: Play, photo: Path, typed: str) -> None:
    async with play() as now:
        await now.ask(typed.format(photo))
        assert first(now) == ("what is this?", ["my cat.png"])
        assert len(now.engine.asked[0][1][0].pictures) == 1
        assert now.app.chat.composer.text == ""
        assert NO_PICTURE not in said(now)


async def test_an_address_in_a_question_is_fetched_when_it_is_sent(
    play: Play, web: Any, png: MakePng, picture: StoredPicture
) -> None:
    address = web.put("/dog.png", png((20, 20)))
    async with play() as now:
        now.app.attach([picture])
        now.app.chat.composer.replace_text(f"Which is older, this or {address}?")
        await now.pilot.pause()
        assert web.asked == []
        await now.pilot.press("enter")
        await now.until(lambda: now.engine.asked)
        assert first(now) == ("Which is older, this or dog.png?", ["cat.png", "dog.png"])
        assert web.asked == ["/dog.png"]


async def test_an_address_that_is_no_picture_holds_the_question(play: Play, web: Any) -> None:
    address = web.put("/page", b"<html>no picture</html>")
    async with play() as now:
        await send(now, f"What is this? {address}")
        await now.until(lambda: "The question was not sent" in said(now))
        assert said(now).startswith(f"{address} is ")
        assert now.engine.asked == []
        assert now.app.chat.composer.text == f"What is this? {address}", "it can be corrected"
        assert now.app.chat.footer.pictures == []


async def test_an_address_that_fails_once_is_fetched_again_by_enter(
    play: Play, web: Any, png: MakePng, picture: StoredPicture, photo: Path
) -> None:
    address = f"{web.address}/dog.png"
    async with play() as now:
        now.app.attach([picture])
        await send(now, f"Is {address} older than '~/my cat.png'?")
        await now.until(lambda: "correct what it names" in said(now))
        assert now.app.chat.composer.text == f"Is {address} older than '~/my cat.png'?"
        web.put("/dog.png", png((20, 20)))
        await now.pilot.press("enter")
        await now.until(lambda: now.engine.asked)
        assert first(now) == ("Is dog.png older than my cat.png?", ["cat.png", "dog.png", "my cat.png"])


async def test_an_address_alone_and_after_image_is_attached(play: Play, web: Any, png: MakePng) -> None:
    address = web.put("/dog.png", png((20, 20)))
    async with play() as now:
        for typed in (address, f"/image {address}"):
            await send(now, typed)
        await now.until(lambda: [one.name for one in now.app.chat.footer.pictures] == ["dog.png"] * 2)
        assert now.app.chat.composer.text == ""
        assert now.engine.asked == []


async def test_a_chip_that_the_question_names_is_not_attached_twice(play: Play, photo: Path) -> None:
    async with play(pictures=[photo]) as now:
        await now.until(lambda: now.app.chat.query(Chip))
        await now.ask("what is in '~/my cat.png'?")
        assert first(now) == ("what is in my cat.png?", ["my cat.png"])


async def test_a_question_during_an_answer_waits_with_the_picture_it_names(play: Play, photo: Path) -> None:
    async with play() as now:
        await now.ask("Hello?")
        await send(now, "what is this? '~/my cat.png'")
        await now.until(lambda: len(now.app.chat.draft.held) == 1)
        now.engine.answer("Hello.")
        await now.until(lambda: len(now.engine.asked) == 2)
        assert now.app.conversation.path[2].text == "what is this?"
        assert [one.name for one in now.app.conversation.path[2].pictures] == ["my cat.png"]


async def test_a_path_of_no_file_is_not_an_unknown_command(play: Play) -> None:
    async with play() as now:
        await send(now, "/no/such.png what is this")
        await now.until(lambda: said(now) == "There is no picture file '/no/such.png'; check the path.")
        assert now.app.chat.composer.text == "/no/such.png what is this"


async def test_only_a_first_question_without_a_picture_is_told_so(play: Play) -> None:
    async with play() as now:
        await now.talk("Hello?", "Hello.")
        assert said(now) == f"{NO_PICTURE}{now.app.key('pick_picture')} adds one."
        await now.talk("And?", "And.")
        assert said(now).count(NO_PICTURE) == 1


async def test_the_path_of_a_file_that_is_no_picture_is_text_and_not_missing(
    play: Play, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    async with play() as now:
        await send(now, f"{tmp_path}/notes.txt what is this")
        await now.until(lambda: "notes.txt' is not a picture; " in said(now))
        assert now.app.chat.composer.text.endswith("what is this")
        await now.ask(f"what is in {tmp_path}/notes.txt?")
        assert first(now) == (f"what is in {tmp_path}/notes.txt?", [])


async def edit_last(now: Now, text: str) -> None:
    await now.pilot.press("ctrl+up")
    await now.until(lambda: now.app.chat.footer.editing is not None)
    await send(now, text)


async def test_an_edited_question_keeps_its_pictures_and_gets_those_it_names_and_those_attached(
    play: Play, photo: Path, picture: StoredPicture, png: MakePng
) -> None:
    photo.with_name("dog.png").write_bytes(png((20, 20)))
    async with play() as now:
        now.app.attach([picture])
        await now.talk("What is this?", "A cat.")
        now.app.attach([photo.with_name("dog.png")])
        await edit_last(now, "Which is older? '~/my cat.png'")
        await now.until(lambda: len(now.engine.asked) == 2)
        assert first(now) == ("Which is older?", ["cat.png", "dog.png", "my cat.png"])
        assert now.app.chat.composer.text == ""
        assert now.app.chat.footer.editing is None
        now.engine.answer("The cat.")
        await now.until(lambda: now.shown == ["Which is older?", "The cat."])
        now.app.chat.transcript.views[0].focus()
        await now.pilot.press("left")
        await now.until(lambda: now.shown == ["What is this?", "A cat."])


async def test_an_edited_question_whose_picture_fails_returns_to_be_edited(play: Play, photo: Path) -> None:
    photo.write_bytes(b"no picture")
    async with play() as now:
        await now.talk("What is this?", "A cat.")
        await edit_last(now, "What is that? '~/my cat.png'")
        await now.until(lambda: "The question was not sent" in said(now))
        assert now.app.chat.composer.text == "What is that? '~/my cat.png'"
        assert now.app.chat.footer.editing == now.app.conversation.path[0].id
        await now.until(lambda: "Editing your question" in now.text())
        now.app.chat.composer.replace_text("What is that?")
        await now.pilot.press("enter")
        await now.until(lambda: len(now.engine.asked) == 2)
        assert first(now) == ("What is that?", [])
        assert len(now.app.conversation.path) == 2


async def test_an_edited_question_that_waits_when_its_conversation_is_left_is_a_new_one(
    play: Play, photo: Path
) -> None:
    photo.unlink()
    os.mkfifo(photo)
    async with play() as now:
        await now.talk("What is this?", "A cat.")
        here = now.app.conversation.info.id
        now.app.attach([photo])
        await edit_last(now, "What is that?")
        await now.until(lambda: "Sent once my cat.png is open" in now.text())
        now.app.new_conversation()
        await now.until(lambda: now.shown == [])
        assert now.app.chat.composer.text == ""
        assert now.app.chat.footer.editing is None
        now.app.open_conversation(here)
        await now.until(lambda: now.app.chat.composer.text == "What is that?")
        assert now.app.chat.footer.editing is None
        photo.write_bytes(b"no picture")
