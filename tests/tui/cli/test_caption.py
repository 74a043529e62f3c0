"""`minigpt4 caption`: what it writes, what it leaves alone, and how it goes on; the model is a stub."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from minigpt4.core.pixels import Picture
from minigpt4.core.prompt import Message, System, User
from minigpt4.core.storage.paths import cache_home
from minigpt4.core.types import ImageEmbedding
from minigpt4.train.data.files import SUFFIXES
from minigpt4.train.data.open import open_photos
from minigpt4.tui.cli import options, progress
from minigpt4.tui.images.attachments import IMAGE_SUFFIXES

Call = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass
class StubReply:
    text: str
    finish: str

    def read(self) -> str:
        return self.text


@dataclass
class StubEngine:
    """Names the color of each picture; remembers the questions."""

    answer: str = "A {} square."
    finish: str = "stop"
    loads: int = 0
    asked: list[tuple[str, Sequence[Message]]] = field(default_factory=list)
    on_answer: Callable[[int], object] = lambda _count: None

    def load(self, *_arguments: object, **_options: object) -> StubEngine:
        self.loads += 1
        return self

    def __enter__(self) -> StubEngine:
        return self

    def __exit__(self, *_details: object) -> None:
        return None

    def look(self, picture: Picture) -> ImageEmbedding:
        return ImageEmbedding(np.zeros((1, 1), np.float32), key=NAMES[picture.image.getpixel((0, 0))])

    def reply(self, conversation: Sequence[Message], _sampling: object, **_options: object) -> StubReply:
        question = conversation[-1]
        assert isinstance(question, User)
        [embedding] = question.images
        self.asked.append((embedding.key, conversation))
        self.on_answer(len(self.asked))
        return StubReply(self.answer.format(embedding.key), self.finish)


COLORS = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}
NAMES: dict[Any, str] = {value: name for name, value in COLORS.items()}


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> StubEngine:
    stub = StubEngine()
    monkeypatch.setattr(options, "load_engine", stub.load)
    return stub


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `photos` of the working folder, with three pictures."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for name, color in (("a.png", "red"), ("b.PNG", "green"), ("sub/c.png", "blue")):
        Image.new("RGB", (4, 4), COLORS[color]).save(folder / name)
    monkeypatch.chdir(tmp_path)
    return folder


def texts(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in sorted(folder.rglob("*.txt"))
    }


def known(place: Path) -> dict[str, tuple[str, ...]]:
    """What training reads, by the pictures' names."""
    found = open_photos(place)
    return {found.key(index): tuple(found.meta(index)["captions"]) for index in range(len(found))}


THREE = {"a.txt": "A red square.\n", "b.txt": "A green square.\n", "sub/c.txt": "A blue square.\n"}


def test_each_picture_gets_a_text_beside_it_and_the_model_is_loaded_once(
    call_minigpt4: Call, engine: StubEngine, photos: Path
) -> None:
    before = {path: path.read_bytes() for path in photos.rglob("*.[pP]*")}
    done = call_minigpt4("caption", "photos")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.endswith("3 pictures captioned.\n")
    assert texts(photos) == THREE
    assert engine.loads == 1
    assert {path: path.read_bytes() for path in photos.rglob("*.[pP]*")} == before
    assert sorted(path.name for path in photos.rglob("*.*")) == [
        "a.png",
        "a.txt",
        "b.PNG",
        "b.txt",
        "c.png",
        "c.txt",
    ]


@pytest.mark.parametrize("output", ["", "photos/captions.jsonl", "photos/captions.csv"])
def test_training_reads_what_is_written(
    call_minigpt4: Call, engine: StubEngine, photos: Path, output: str
) -> None:
    arguments = ("--output", output) if output else ()
    assert call_minigpt4("caption", "photos", *arguments).returncode == 0
    assert known(photos) == {
        "a.png": ("A red square.",),
        "b.PNG": ("A green square.",),
        "sub/c.png": ("A blue square.",),
    }


def test_whatever_the_chat_opens_training_finds_beside_a_text() -> None:
    assert IMAGE_SUFFIXES <= SUFFIXES


def test_pictures_with_captions_are_skipped_and_without_new_ones_no_model_is_loaded(
    call_minigpt4: Call, engine: StubEngine, photos: Path
) -> None:
    (photos / "a.txt").write_text("Mine.")
    (photos / "b.txt").write_text(" \n")  # no caption yet
    done = call_minigpt4("caption", "photos")
    assert done.stderr.endswith("2 pictures captioned, 1 had captions already.\n")
    assert texts(photos) == THREE | {"a.txt": "Mine."}
    again = call_minigpt4("caption", "photos")
    assert again.returncode == 0
    assert "--existing append or overwrite" in again.stderr
    assert engine.loads == 1


@pytest.mark.parametrize(
    ("mode", "text"), [("append", "Mine.\nA red square.\n"), ("overwrite", "A red square.\n")]
)
def test_captions_can_be_appended_or_overwritten(
    call_minigpt4: Call, engine: StubEngine, photos: Path, mode: str, text: str
) -> None:
    (photos / "a.txt").write_text("Mine.\n")
    for _ in range(2):
        assert call_minigpt4("caption", "photos", "--existing", mode).returncode == 0
    assert texts(photos) == THREE | {"a.txt": text}
    assert not any((cache_home() / "captions").iterdir())


def test_a_picture_that_fails_is_named_with_its_reason_and_the_rest_goes_on(
    call_minigpt4: Call, engine: StubEngine, photos: Path
) -> None:
    (photos / "a2.jpg").write_text("no picture")
    done = call_minigpt4("caption", "photos", "none.jpg")
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if "square" not in line] == [
        "minigpt4: 'photos/a2.jpg' is a text, not a picture.",
        "minigpt4: There is no file 'none.jpg'; check the path.",
        "3 pictures captioned, 2 failed.",
    ]
    assert texts(photos) == THREE


def test_no_model_is_loaded_for_pictures_that_all_fail(
    call_minigpt4: Call, engine: StubEngine, photos: Path
) -> None:
    done = call_minigpt4("caption", "none.jpg")
    assert (done.returncode, engine.loads) == (1, 0)
    assert done.stderr.endswith("0 pictures captioned, 1 failed.\n")


def test_a_name_with_control_characters_moves_no_cursor_and_is_captioned(
    call_minigpt4: Call, engine: StubEngine, photos: Path
) -> None:
    name = "a\x1b[2J\n.png"
    (photos / "a.png").rename(photos / name)
    for arguments in ((), ("--output", "photos/captions.csv")):
        done = call_minigpt4("caption", "photos", *arguments)
        assert done.returncode == 0
        assert "photos/a?[2J .png: A red square. (1 of 3" in done.stderr
        assert known(photos)[name] == ("A red square.",)


def test_texts_that_a_list_hides_from_training_are_told(
    call_minigpt4: Call, engine: StubEngine, photos: Path
) -> None:
    (photos / "captions.csv").write_text("photo,caption\n")
    done = call_minigpt4("caption", "photos")
    assert done.stderr.startswith(
        "`train --data photos` reads 'photos/captions.csv', and no texts beside the pictures.\n"
    )


def test_two_pictures_that_would_share_a_text_are_told_apart_by_a_list(
    call_minigpt4: Call, engine: StubEngine, photos: Path
) -> None:
    Image.new("RGB", (4, 4), "white").save(photos / "a.bmp")
    done = call_minigpt4("caption", "photos")
    assert done.returncode == 1
    assert (
        "minigpt4: 'photos/a.bmp' and 'a.png' would share the text file 'a.txt'; rename one, or --output "
        "captions.jsonl writes one list instead."
    ) in done.stderr.splitlines()
    assert texts(photos) == {name: text for name, text in THREE.items() if name != "a.txt"}
    assert call_minigpt4("caption", "photos", "--output", "photos/captions.jsonl").returncode == 0
    assert known(photos)["a.bmp"] == ("A white square.",)


def test_a_folder_that_cannot_be_written_is_told_before_the_model_is_loaded(
    call_minigpt4: Call, engine: StubEngine, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Tests may be run by root, who can write anywhere.
    monkeypatch.setattr(os, "access", lambda folder, _mode: Path(folder).name != "photos")
    (photos / "b.txt").write_text("Mine.")
    done = call_minigpt4("caption", "photos")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "minigpt4: No file can be written into 'photos', beside 'photos/a.png'; --output captions.jsonl "
        "writes one list instead.",
        "photos/sub/c.png: A blue square. (1 of 1)",
        "1 picture captioned, 1 had captions already, 1 failed.",
    ]


@pytest.mark.parametrize("mode", ["skip", "append", "overwrite"])
@pytest.mark.parametrize("output", ["", "photos/captions.jsonl", "photos/captions.csv"])
def test_after_ctrl_c_the_same_command_does_only_the_rest(
    call_minigpt4: Call, engine: StubEngine, photos: Path, mode: str, output: str
) -> None:
    if mode != "skip" and not output:
        (photos / "sub" / "c.txt").write_text("Mine.\n")
    command = ("caption", "photos", "--existing", mode, *(("--output", output) if output else ()))
    engine.on_answer = lambda count: os.kill(os.getpid(), signal.SIGINT) if count == 2 else None
    stopped = call_minigpt4(*command)
    assert stopped.returncode == 130
    assert stopped.stderr.endswith("the same command continues with the rest.\n")
    assert len(known(photos)) == 1 + (mode != "skip" and not output)
    done = call_minigpt4(*command)
    assert done.returncode == 0
    assert [color for color, _ in engine.asked] == ["red", "green", "green", "blue"]
    assert {len(captions) for captions in known(photos).values()} == {1}
    expected = ("Mine.\n" if mode == "append" and not output else "") + "A blue square."
    assert known(photos)["sub/c.png"] == (expected,)


def test_overwriting_a_list_loses_nothing_by_a_stop(
    call_minigpt4: Call, engine: StubEngine, photos: Path
) -> None:
    command = ("caption", "photos", "--output", "photos/captions.csv", "--existing", "overwrite")
    assert call_minigpt4(*command).returncode == 0
    engine.answer = "The {} thing."
    engine.on_answer = lambda count: os.kill(os.getpid(), signal.SIGINT) if count == 5 else None
    assert call_minigpt4(*command).returncode == 130
    assert [captions[-1] for captions in known(photos).values()].count("The red thing.") == 1
    assert known(photos)["b.PNG"] == ("A green square.",)
    assert call_minigpt4(*command).returncode == 0
    assert list(known(photos).values()) == [("The red thing.",), ("The green thing.",), ("The blue thing.",)]


def test_a_row_that_was_cut_off_is_told_and_written_again(
    call_minigpt4: Call, engine: StubEngine, photos: Path
) -> None:
    command = ("caption", "photos", "--output", "photos/captions.jsonl")
    call_minigpt4(*command)
    whole = (photos / "captions.jsonl").read_bytes()
    (photos / "captions.jsonl").write_bytes(whole[:-9])
    done = call_minigpt4(*command)
    assert "had been cut off" in done.stderr
    assert (photos / "captions.jsonl").read_bytes() == whole


def test_a_full_disk_ends_it_and_the_same_command_goes_on(
    call_minigpt4: Call, engine: StubEngine, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("caption", "photos", "--output", "photos/captions.jsonl")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        done = call_minigpt4(*command)
    assert done.returncode == 1
    assert "The disk is full" in done.stderr
    assert call_minigpt4(*command).returncode == 0
    assert len(known(photos)) == 3


def test_the_prompt_and_the_system_prompt_reach_the_model(
    call_minigpt4: Call, engine: StubEngine, photos: Path
) -> None:
    call_minigpt4("caption", "photos/a.png", "--prompt", "What color?", "--system-prompt", "Be brief.")
    [(_, conversation)] = engine.asked
    assert conversation[0] == System("Be brief.")
    assert isinstance(conversation[1], User)
    assert conversation[1].text == "What color?"


def test_alt_text_is_one_sentence_without_an_opening(
    call_minigpt4: Call, engine: StubEngine, photos: Path
) -> None:
    engine.answer = "The image shows a {} square. It is small."
    call_minigpt4("caption", "photos", "--alt")
    assert texts(photos)["a.txt"] == "A red square.\n"


def test_an_answer_that_was_cut_off_keeps_its_whole_sentences_and_is_told(
    call_minigpt4: Call, engine: StubEngine, photos: Path
) -> None:
    engine.answer, engine.finish = "A {} square. It is ve", "length"
    done = call_minigpt4("caption", "photos", "--max-tokens", "7")
    assert texts(photos) == THREE
    assert "3 of the answers ended at 7 tokens" in done.stderr


def test_an_empty_answer_fails_and_leaves_no_file(
    call_minigpt4: Call, engine: StubEngine, photos: Path
) -> None:
    engine.answer = " "
    done = call_minigpt4("caption", "photos/a.png")
    assert done.returncode == 1
    assert "The model says nothing about 'photos/a.png'" in done.stderr
    assert texts(photos) == {}


def test_without_a_terminal_there_is_a_line_per_picture_with_the_time_left(
    call_minigpt4: Call, engine: StubEngine, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter((0, 10, 20, 30))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(seconds))
    done = call_minigpt4("caption", "photos")
    assert done.stderr.splitlines() == [
        "photos/a.png: A red square. (1 of 3, 20 s left)",
        "photos/b.PNG: A green square. (2 of 3, 10 s left)",
        "photos/sub/c.png: A blue square. (3 of 3)",
        "3 pictures captioned.",
    ]


def test_pictures_outside_of_the_list_are_told(call_minigpt4: Call, engine: StubEngine, photos: Path) -> None:
    done = call_minigpt4("caption", "photos", "--output", "lists/alt.jsonl")
    assert done.returncode == 0
    assert "'photos/a.png' (and 2 more) lies outside of the folder of 'lists/alt.jsonl'" in done.stderr
    rows = [json.loads(line) for line in Path("lists/alt.jsonl").read_text().splitlines()]
    assert [row["photo"] for row in rows] == [str(photos / name) for name in ("a.png", "b.PNG", "sub/c.png")]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("photos", "--existing", "keep"), "There is no --existing 'keep'; choose skip, append, overwrite."),
        (("photos", "--output", "x.txt"), "--output x.txt has no known format"),
        (("photos", "--prompt", " "), "The prompt is empty"),
        (("photos", "-"), "'-' is no file or folder, so there is no place for its caption"),
        (("https://example.org/a.jpg",), "'https://example.org/a.jpg' is no file or folder"),
        (("",), "'' is no file or folder"),
        (("empty",), "There is no picture in 'empty'"),
        ((), "Missing argument 'PATH...'"),
    ],
)
def test_wrong_usage_is_one_sentence(
    call_minigpt4: Call, engine: StubEngine, photos: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    Path("empty").mkdir()
    done = call_minigpt4("caption", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"minigpt4: {sentence}"), done.stderr
    assert done.stderr.count("\n") == 1
    assert (engine.loads, texts(photos)) == (0, {})
