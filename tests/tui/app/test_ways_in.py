"""Pictures come into a question by picker, clipboard and drop, from any screen, and are enlarged from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.widgets import Input, TextArea
from textual.widgets._toast import Toast

from minigpt4.tui.history.store import StoredPicture
from minigpt4.tui.images import clipboard
from minigpt4.tui.images.clipboard import ClipboardError
from minigpt4.tui.screens.export import ExportScreen
from minigpt4.tui.screens.picker import PickerScreen
from minigpt4.tui.screens.prompt import PromptScreen
from minigpt4.tui.screens.zoom import ZoomScreen
from minigpt4.tui.widgets.chips import Chip, ChipRow

Play = Any
MakePng = Any


def names(now: Any) -> list[str]:
    """What the chips show."""
    return [chip.picture.name for chip in now.app.chat.query(Chip)]


async def test_the_picker_fills_the_composer(
    play: Play, png: MakePng, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("cat.png", "dog.png"):
        (folder / name).write_bytes(png((40, 30 + len(name) + ord(name[0]))))
    monkeypatch.setattr(PickerScreen, "start", folder)
    async with play() as now:
        await now.pilot.press("ctrl+o")
        await now.until(lambda: "dog.png" in now.text())
        await now.pilot.press("space", "down", "space", "enter")
        await now.until(lambda: sorted(names(now)) == ["cat.png", "dog.png"])
        assert now.app.screen is now.app.chat


async def test_leaving_the_picker_changes_nothing(play: Play) -> None:
    async with play() as now:
        await now.pilot.press("ctrl+o")
        await now.until(lambda: isinstance(now.app.screen, PickerScreen))
        await now.pilot.press("escape")
        await now.until(lambda: now.app.screen is now.app.chat)
        assert names(now) == []


async def test_the_clipboard_s_picture_is_pasted(
    play: Play, png: MakePng, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clipboard, "clipboard_image", lambda: png((40, 30)))
    async with play() as now:
        await now.pilot.press("ctrl+v")
        await now.until(lambda: len(names(now)) == 1)


async def test_why_nothing_is_pasted_is_reported(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    sentence = "Install wl-clipboard [/] first."

    def fail() -> None:
        raise ClipboardError(sentence)

    monkeypatch.setattr(clipboard, "clipboard_image", fail)
    monkeypatch.setattr(clipboard, "clipboard_text", fail)
    async with play() as now:
        await now.pilot.press("ctrl+v")
        await now.until(lambda: [one.message for one in now.app._notifications] == [sentence])


async def test_a_sent_picture_is_seen_and_enlarged(play: Play, png: MakePng, tmp_path: Path) -> None:
    photo = tmp_path / "cat.png"
    photo.write_bytes(png((40, 30)))
    async with play({"images": "halfblock"}, pictures=[photo], size=(100, 40)) as now:
        await now.until(lambda: names(now) == ["cat.png"])
        await now.talk("What is this?", "A cat.")
        await now.until(lambda: "▀▀▀" in now.text() and "40 × 30" in now.text())
        await now.pilot.click("Thumbnail PictureArea")
        await now.until(lambda: isinstance(now.app.screen, ZoomScreen))
        await now.pilot.press("escape")
        now.app.chat.transcript.views[0].focus()
        await now.pilot.press("enter")
        await now.until(lambda: isinstance(now.app.screen, ZoomScreen))


@pytest.mark.parametrize("way", ["argument", "command", "drop", "typed"])
async def test_a_folder_opens_the_picker_there(play: Play, png: MakePng, tmp_path: Path, way: str) -> None:
    folder = tmp_path / "my photos"
    folder.mkdir()
    (folder / "cat.png").write_bytes(png((40, 30)))
    async with play(pictures=[folder] if way == "argument" else []) as now:
        if way == "drop":
            now.app.post_message(events.Paste(f"'{folder}'"))
        elif way != "argument":
            now.app.chat.composer.replace_text(f"/image {folder}" if way == "command" else str(folder))
            await now.pilot.press("enter")
        await now.until(lambda: isinstance(now.app.screen, PickerScreen) and now.app.screen.folder == folder)
        await now.until(lambda: now.app.screen.tree_of_pictures.highlighted_picture == folder / "cat.png")
        await now.pilot.press("enter")
        await now.until(lambda: names(now) == ["cat.png"])
        assert now.app.chat.composer.text == ""
        assert not now.app._notifications


async def test_of_several_folders_one_is_shown_and_the_next_named(
    play: Play, png: MakePng, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "cat.png").write_bytes(png((40, 30)))
    async with play(pictures=[tmp_path / "one", tmp_path / "cat.png", tmp_path / "two"]) as now:
        await now.until(lambda: isinstance(now.app.screen, PickerScreen))
        assert now.app.screen.folder == tmp_path / "one"
        assert names(now) == ["cat.png"]
        (note,) = now.app._notifications
        assert str(tmp_path / "two") in note.message


@pytest.mark.parametrize("where", ["message", "chip", "sidebar", "nothing"])
async def test_a_drop_reaches_the_composer_from_all_over_the_chat(
    play: Play, png: MakePng, tmp_path: Path, where: str
) -> None:
    for name in ("cat.png", "dog.png"):
        (tmp_path / name).write_bytes(png((40, 30)))
    async with play(pictures=[tmp_path / "dog.png"] if where == "chip" else [], size=(120, 30)) as now:
        chat = now.app.chat
        if where == "chip":
            await now.until(lambda: names(now))
            chat.query(Chip).first().focus()
        elif where == "sidebar":
            await now.pilot.press("ctrl+b")
        elif where == "message":
            await now.talk("What is this?", "A cat.")
            chat.transcript.views[-1].focus()
        else:
            chat.set_focus(None)
        await now.until(lambda: now.app.focused is not chat.composer)
        now.app.post_message(events.Paste(str(tmp_path / "cat.png")))
        await now.until(lambda: names(now)[-1:] == ["cat.png"])
        assert now.app.focused is chat.composer
        assert chat.composer.text == ""
        chat.set_focus(None)
        now.app.post_message(events.Paste("Is it asleep?"))
        await now.until(lambda: chat.composer.text == "Is it asleep?")
        assert names(now).count("cat.png") == 1


@pytest.mark.parametrize("key", ["f1", "f4"])
async def test_a_drop_on_a_dialog_is_added_to_the_question_and_a_text_is_not(
    play: Play, png: MakePng, tmp_path: Path, key: str
) -> None:
    (tmp_path / "cat.png").write_bytes(png((40, 30)))
    async with play() as now:
        await now.pilot.press(key)
        await now.until(lambda: now.app.screen is not now.app.chat)
        now.app.screen.set_focus(None)
        now.app.post_message(events.Paste("no picture"))
        now.app.post_message(events.Paste(f"'{tmp_path / 'cat.png'}'"))
        await now.until(lambda: names(now) == ["cat.png"])
        assert [note.message for note in now.app._notifications] == ["Added to your next question."]
        assert now.app.chat.composer.text == ""


@pytest.mark.parametrize("key", ["f1", "f4", "ctrl+f", "ctrl+p"])
async def test_a_drop_on_a_field_for_words_is_added_to_the_question(
    play: Play, png: MakePng, tmp_path: Path, key: str
) -> None:
    (tmp_path / "my cat's.png").write_bytes(png((40, 30)))
    async with play() as now:
        await now.pilot.press(key)
        await now.until(lambda: isinstance(now.app.focused, Input))
        now.app.post_message(events.Paste((tmp_path / "my cat's.png").as_uri()))
        await now.until(lambda: names(now) == ["my cat's.png"])
        now.app.post_message(events.Paste("a word"))
        await now.until(lambda: now.app.focused.value == "a word")
        assert now.app.chat.composer.text == ""


async def test_a_dialog_that_takes_text_keeps_what_is_pasted(
    play: Play, png: MakePng, tmp_path: Path
) -> None:
    (tmp_path / "cat.png").write_bytes(png((40, 30)))
    async with play() as now:
        await now.talk("What is this?", "A cat.")
        for screen in (ExportScreen(now.app.conversation.info.id), PromptScreen("", is_here=False)):
            now.app.push_screen(screen)
            await now.until(lambda screen=screen: isinstance(now.app.focused, Input | TextArea))
            line = now.app.focused
            now.app.post_message(events.Paste(str(tmp_path / "cat.png")))
            await now.until(lambda line=line: "cat.png" in getattr(line, "value", getattr(line, "text", "")))
            assert names(now) == []
            now.app.pop_screen()


@pytest.mark.parametrize("size", [(120, 40), (80, 24), (60, 13), (40, 9)])
async def test_messages_that_pop_up_cover_neither_composer_nor_chips(
    play: Play, picture: StoredPicture, size: tuple[int, int]
) -> None:
    async with play(size=size, toasts=True) as now:
        footer = now.app.chat.footer
        for text in ("", "one\ntwo\nthree\nfour\nfive"):
            footer.composer.replace_text(text)
            now.app.attach([picture])
            for number in range(4):
                now.app.say(f"{number}: a sentence that takes several lines in a narrow window. " * 2)
            await now.until(lambda: len(now.app.screen.query(Toast)) >= 4)
            await now.until(lambda: footer.query_one(ChipRow).size.height)
            await now.pilot.pause()
            rows = now.text().splitlines()
            assert "sentence" in "".join(rows[: footer.region.y])
            below = "".join(rows[footer.region.y :])
            assert "cat.png" in below
            assert "sentence" not in below
