"""The next question: its pictures keep their order, and it is sent once all of them are open."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minigpt4.tui.history.store import StoredPicture
from minigpt4.tui.images import clipboard
from minigpt4.tui.images.clipboard import ClipboardError
from minigpt4.tui.widgets.chips import Chip
from minigpt4.tui.widgets.composer import Composer
from minigpt4.tui.widgets.key_line import KeyLine

Play = Any
Now = Any
MakePng = Any

QUESTION = "What is in the picture?"


def slow(path: Path) -> Callable[[bytes], object]:
    """Make a file whose content arrives only when the returned function is called with it."""
    os.mkfifo(path)
    return path.write_bytes


def chips(now: Now) -> list[str]:
    return [chip.picture.name for chip in now.app.chat.query(Chip)]


def said(now: Now) -> str:
    return "\n".join(note.message for note in now.app._notifications)


async def send(now: Now, question: str = QUESTION) -> None:
    now.app.chat.composer.replace_text(question)
    await now.pilot.press("enter")


async def hold(now: Now, path: Path) -> Callable[[bytes], object]:
    """Attach a picture that is slow, and ask about it."""
    arrive = slow(path)
    now.app.attach([path])
    await send(now)
    await now.until(lambda: f"Sent once {path.name} is open" in now.text())
    return arrive


def asked_about(now: Now) -> list[str]:
    """The names of the pictures of the only question asked."""
    assert len(now.engine.asked) == 1
    return [picture.name for picture in now.app.conversation.path[0].pictures]


async def test_pictures_keep_the_order_given_however_long_each_takes_to_open(
    play: Play, png: MakePng, tmp_path: Path
) -> None:
    names = ["a.png", "b.png", "c.png", "d.png", "e.png", "f.png"]
    arrive = {name: slow(tmp_path / name) for name in ("a.png", "c.png")}
    for side, name in enumerate(names, 10):
        if name not in arrive:
            (tmp_path / name).write_bytes(png((side, side)))
    async with play(pictures=[tmp_path / name for name in names], size=(160, 24)) as now:
        opened = now.app.chat.footer
        await now.until(lambda: chips(now) == names)
        await now.until(lambda: [one.name for one in opened.pictures] == ["b.png", "d.png", "e.png", "f.png"])
        await now.until(lambda: sum("opening" in str(one.content) for one in now.app.chat.query(Chip)) == 2)
        for name in ("c.png", "a.png"):
            arrive[name](png((30, 30)))
        await now.until(lambda: [one.name for one in opened.pictures] == names)
        assert chips(now) == names
        await now.ask("Compare them.")
        assert asked_about(now) == names
        sides = [one.width for one in now.app.conversation.path[0].pictures]
        assert sides == [30, 11, 30, 13, 14, 15]


async def test_identical_files_given_twice_stay_two(play: Play, png: MakePng, tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        (tmp_path / name).write_bytes(png((40, 30)))
    async with play(pictures=[tmp_path / "one.png", tmp_path / "two.png", tmp_path / "one.png"]) as now:
        await now.until(lambda: len(now.app.chat.footer.pictures) == 3)
        await now.ask(QUESTION)
        assert asked_about(now) == ["one.png", "two.png", "one.png"]
        assert len(now.engine.asked[0][1][0].pictures) == 3


async def test_one_of_two_identical_pictures_is_removed_alone(play: Play, picture: StoredPicture) -> None:
    async with play() as now:
        now.app.attach([picture, picture])
        await now.until(lambda: len(chips(now)) == 2)
        now.app.chat.query(Chip).last().focus()
        await now.pilot.press("delete")
        await now.until(lambda: len(chips(now)) == 1)
        assert now.app.chat.footer.pictures == [picture]


async def test_a_question_waits_for_the_pictures_given_before_it_and_for_no_others(
    play: Play, png: MakePng, picture: StoredPicture, tmp_path: Path
) -> None:
    async with play() as now:
        arrive = await hold(now, tmp_path / "slow.png")
        assert now.app.chat.composer.text == ""
        await now.pilot.press(*"And")
        later = slow(tmp_path / "later.png")
        now.app.attach([tmp_path / "later.png", picture])
        assert now.engine.asked == []
        arrive(png((20, 20)))
        await now.until(lambda: now.engine.asked)
        assert asked_about(now) == ["slow.png"]
        assert now.shown[0] == QUESTION
        assert "Sent once" not in now.text()
        assert now.app.chat.composer.text == "And"
        later(png((20, 20)))
        await now.until(
            lambda: [one.name for one in now.app.chat.footer.pictures] == ["later.png", "cat.png"]
        )


@pytest.mark.parametrize("way", ["escape", "ctrl+c", "ctrl+up", "click"])
async def test_a_question_that_waits_can_be_taken_back(
    play: Play, png: MakePng, tmp_path: Path, way: str
) -> None:
    async with play(size=(110, 24)) as now:
        arrive = await hold(now, tmp_path / "slow.png")
        await now.pilot.press(*"more")
        if way == "click":
            line = now.app.chat.query_one("#held", KeyLine)
            await now.pilot.click(line, offset=(str(line.content).index("takes") + 3, 0))
        else:
            await now.pilot.press(way)
        await now.until(lambda: now.app.chat.composer.text == f"{QUESTION}\nmore")
        assert "Sent once" not in now.text()
        arrive(png((20, 20)))
        await now.until(lambda: now.app.chat.footer.pictures)
        assert now.engine.asked == []
        await now.pilot.press("enter")
        await now.until(lambda: now.engine.asked)
        assert asked_about(now) == ["slow.png"]


async def test_a_picture_that_fails_holds_the_question_back_and_says_so(
    play: Play, picture: StoredPicture, tmp_path: Path
) -> None:
    async with play() as now:
        now.app.attach([picture])
        arrive = await hold(now, tmp_path / "broken.png")
        arrive(b"no picture")
        await now.until(lambda: now.app.chat.composer.text == QUESTION)
        assert now.engine.asked == []
        assert len(now.app._notifications) == 1
        assert "broken.png" in said(now)
        assert "not sent; Enter sends it without this picture" in said(now)
        await now.until(lambda: "broken.png  cannot be opened" in now.text())
        await now.pilot.press("enter")
        await now.until(lambda: now.engine.asked)
        assert asked_about(now) == ["cat.png"]
        assert chips(now) == []


async def test_a_picture_that_had_failed_before_holds_the_question_back_once(
    play: Play, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    async with play(pictures=[tmp_path / "broken.png", tmp_path / "none.png"]) as now:
        await now.until(lambda: len(now.app._notifications) == 2)
        await send(now)
        await now.until(lambda: "(and 1 more)" in said(now) and "without these 2 pictures" in said(now))
        assert now.app.chat.composer.text == QUESTION
        assert chips(now) == ["broken.png", "none.png"]
        await now.pilot.press("enter")
        await now.until(lambda: now.engine.asked)
        assert asked_about(now) == []


async def test_removing_the_picture_that_is_slow_sends_the_question(
    play: Play, picture: StoredPicture, tmp_path: Path
) -> None:
    async with play() as now:
        now.app.attach([picture])
        await hold(now, tmp_path / "slow.png")
        now.app.chat.query(Chip).last().focus()
        await now.pilot.press("delete")
        await now.until(lambda: now.engine.asked)
        assert asked_about(now) == ["cat.png"]


async def test_leaving_the_conversation_makes_the_question_its_draft_again(
    play: Play, png: MakePng, tmp_path: Path
) -> None:
    async with play() as now:
        await now.talk("First?", "1")
        first = now.app.conversation.info.id
        now.app.new_conversation()
        await now.until(lambda: now.shown == [])
        arrive = await hold(now, tmp_path / "slow.png")
        now.app.open_conversation(first)
        await now.until(lambda: now.shown == ["First?", "1"])
        assert now.app.chat.composer.text == ""
        assert chips(now) == []
        now.app.new_conversation()
        await now.until(lambda: now.app.chat.composer.text == QUESTION)
        arrive(png((20, 20)))
        await now.until(lambda: [one.name for one in now.app.chat.footer.pictures] == ["slow.png"])
        assert len(now.engine.asked) == 1


async def test_an_answer_that_began_meanwhile_is_waited_for(play: Play, png: MakePng, tmp_path: Path) -> None:
    async with play() as now:
        await now.talk("First?", "1")
        arrive = await hold(now, tmp_path / "slow.png")
        await now.pilot.press("ctrl+r")
        await now.until(lambda: len(now.engine.asked) == 2)
        arrive(png((20, 20)))
        await now.until(lambda: "Sent after this answer" in now.text())
        assert len(now.engine.asked) == 2
        now.engine.answer("One.")
        await now.until(lambda: len(now.engine.asked) == 3)
        assert [one.name for one in now.app.conversation.path[2].pictures] == ["slow.png"]


async def test_a_question_waits_for_the_clipboard(
    play: Play, png: MakePng, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_read = threading.Event()
    monkeypatch.setattr(clipboard, "clipboard_image", lambda: is_read.wait(60) and png((40, 30)))
    async with play() as now:
        await now.pilot.press("ctrl+v")
        await send(now)
        await now.until(lambda: "Sent once clipboard is open" in now.text())
        is_read.set()
        await now.until(lambda: now.engine.asked)
        assert asked_about(now) == ["clipboard"]


async def test_a_clipboard_that_holds_text_returns_the_question_with_it(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_read = threading.Event()

    def no_image() -> bytes:
        is_read.wait(60)
        raise ClipboardError("There is no picture in the clipboard.")

    monkeypatch.setattr(clipboard, "clipboard_image", no_image)
    monkeypatch.setattr(clipboard, "clipboard_text", lambda: " Please.")
    async with play() as now:
        await now.pilot.press("ctrl+v")
        await send(now)
        await now.until(lambda: "Sent once" in now.text())
        is_read.set()
        await now.until(lambda: now.app.chat.composer.text == f"{QUESTION} Please.")
        assert now.engine.asked == []
        assert chips(now) == []
        assert isinstance(now.app.focused, Composer)


async def test_a_jpeg_that_is_cut_off_is_attached_with_a_notice_that_names_it(
    play: Play, examples: Path, tmp_path: Path
) -> None:
    path = tmp_path / "half.jpg"
    whole = (examples / "coffee.jpg").read_bytes()
    path.write_bytes(whole[: len(whole) * 7 // 10])
    async with play() as now:
        now.app.attach([path])
        await now.until(lambda: "half.jpg: The file is cut off; its last rows are missing (" in said(now))
        await now.until(lambda: [one.name for one in now.app.chat.footer.pictures] == ["half.jpg"])
        await now.ask(QUESTION)
        assert asked_about(now) == ["half.jpg"]
