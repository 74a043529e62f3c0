"""Pictures that are named inside a question typed into the app, and the notice when there is none."""

from __future__ import annotations

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
        assert now.app.chat.composer.text == "What is this?"


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


async def test_a_question_during_an_answer_stays_whole_and_attaches_nothing(play: Play, photo: Path) -> None:
    async with play() as now:
        await now.ask("Hello?")
        await send(now, "what is this? '~/my cat.png'")
        assert now.app.chat.composer.text == "what is this? '~/my cat.png'"
        assert not now.app.chat.query(Chip)


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
