"""A picture may be named anywhere in a question; what only looks like a path stays text."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt4.core.errors import ImageError
from minigpt4.tui.images.attachments import attachment
from minigpt4.tui.images.question import Question, no_picture_sentence, question_in

LETTERS = "abcdefgh JKL'\"()[]&;,.!?#$*-_äß照片"
names = st.text(LETTERS, min_size=1, max_size=20).map(lambda name: f"{name}.png")
sentences = st.text("abc dé.,?!:'\"()/ \n照", max_size=40)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder and home: a.jpg, b.PNG, "my cat (2).jpg", photo, plan, notes.txt, cat..."""
    (tmp_path / "photo").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "plan").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / "IMG.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "data.json").write_text('{"cat": 1}')
    for name in ("a.jpg", "b.PNG", "my cat (2).jpg", "notes.txt", "cat"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    return tmp_path_factory.mktemp("pictures")


def split(text: str) -> tuple[str, list[str]]:
    """The question's text, and the pictures as they were spelled."""
    asked = question_in(text)
    return asked.text, [one.label for one in asked.pictures]


@pytest.mark.parametrize(
    ("typed", "question", "pictures"),
    [
        ("what is this? ~/a.jpg", "what is this?", ["~/a.jpg"]),
        ("~/a.jpg what is this", "what is this", ["~/a.jpg"]),
        ("~/a.jpg: what is this?", "what is this?", ["~/a.jpg"]),
        ("what is this? ~/a.jpg.", "what is this?", ["~/a.jpg"]),
        ("what is this?\n./a.jpg\nb.PNG", "what is this?", ["./a.jpg", "b.PNG"]),
        ("a.jpg, b.PNG Which is older?", "Which is older?", ["a.jpg", "b.PNG"]),
        ("a.jpg Which is older? b.PNG", "Which is older?", ["a.jpg", "b.PNG"]),
        ("what is in ~/a.jpg?", "what is in a.jpg?", ["~/a.jpg"]),
        ("what is in ~/a.jpg ?", "what is in a.jpg ?", ["~/a.jpg"]),
        ("Is (~/a.jpg) older than [b.PNG]?!", "Is (a.jpg) older than [b.PNG]?!", ["~/a.jpg", "b.PNG"]),
        ("~/a.jpg and ~/b.PNG: which?", "a.jpg and b.PNG: which?", ["~/a.jpg", "~/b.PNG"]),
        ("what's in '~/my cat (2).jpg'?", "what's in my cat (2).jpg?", ["~/my cat (2).jpg"]),
        ('"my cat (2).jpg" what is it', "what is it", ["my cat (2).jpg"]),
        ("who? “my cat (2).jpg”", "who?", ["my cat (2).jpg"]),
        ("who? my\\ cat\\ \\(2\\).jpg", "who?", ["my cat (2).jpg"]),
        ("~/my cat (2).jpg who is it?", "who is it?", ["~/my cat (2).jpg"]),
        ("who is it? ~/my cat (2).jpg, really?", "who is it? my cat (2).jpg, really?", ["~/my cat (2).jpg"]),
        ("~/a.jpg,~/b.PNG which?", "which?", ["~/a.jpg", "~/b.PNG"]),
        ("what is ~/a.jpg's colour", "what is a.jpg's colour", ["~/a.jpg"]),
        ("这是什么？~/a.jpg", "这是什么？", ["~/a.jpg"]),
        ("`a.jpg`", "", ["a.jpg"]),
        ("a.jpg ?", "", ["a.jpg"]),
        ("(a.jpg)", "", ["a.jpg"]),
        ("Is a.jpg nice? I like a.jpg.", "Is a.jpg nice? I like a.jpg.", ["a.jpg"]),
        ("./photo what is this", "what is this", ["./photo"]),  # named like nothing, but a PNG
        ("who drew ~/plan?", "who drew plan?", ["~/plan"]),  # an SVG drawing, which then says so
        ("what is in my cat (2).jpg?", "what is in my cat (2).jpg?", ["my cat (2).jpg"]),
        ("my cat (2).jpg who?", "who?", ["my cat (2).jpg"]),
        ("Which? ./a.jpg;./b.PNG", "Which?", ["./a.jpg", "./b.PNG"]),
        ("Which? a.jpg,b.PNG", "Which?", ["a.jpg", "b.PNG"]),
        ("what is this?./a.jpg", "what is this?", ["./a.jpg"]),
        ("@a.jpg what is this", "what is this", ["a.jpg"]),
        ("is @~/a.jpg older than @b.PNG?", "is a.jpg older than b.PNG?", ["~/a.jpg", "b.PNG"]),
        ("who? ![Tom](a.jpg)", "who? ![Tom](a.jpg)", ["a.jpg"]),
        ("这张照片~/a.jpg里有什么", "这张照片a.jpg里有什么", ["~/a.jpg"]),
        ("a.jpg는 무엇입니까?", "a.jpg는 무엇입니까?", ["a.jpg"]),
        ("IMG.heic what is this", "what is this", ["IMG.heic"]),  # which then says so
        ("a.jpg a.jpg Are they alike?", "Are they alike?", ["a.jpg", "a.jpg"]),
    ],
)
def test_a_path_in_a_question_is_a_picture(
    files: Path, typed: str, question: str, pictures: list[str]
) -> None:
    assert split(typed) == (question, pictures)
    assert all(one.source.is_file() for one in question_in(typed).pictures if isinstance(one.source, Path))


@pytest.mark.parametrize(
    "typed",
    [
        "what is this?",
        "what is a cat",  # the file `cat` is not named like a picture
        "read notes.txt",
        "~/notes.txt what is this",
        "what is in ./cat and ~/data.json?",
        "what is /etc/passwd for?",
        "either/or, and 1/2",
        "is ~/no.jpg nice?",
        "/no/such.png what is this",
        "~ is where the heart is",
        "save it as c.jpg, please",
        "what is in ~/ and / and .?",
        "it's 'so' \"called\" `art`",
        "what does ftp://example.com/a.jpg mean",
        "http:// is the beginning of an address, and https://... too",
        " kept  as\tit is \n",
        "",
    ],
)
def test_what_only_looks_like_a_path_stays_text(files: Path, typed: str) -> None:
    assert question_in(typed) == Question(typed)


@pytest.mark.parametrize(
    ("typed", "question", "addresses"),
    [
        ("What is this? https://x.org/a.png", "What is this?", ["https://x.org/a.png"]),
        ("HTTP://x.org:80/a?b=c&d=(e) what", "what", ["HTTP://x.org:80/a?b=c&d=(e)"]),
        ("is it (https://x.org/a_(b).png)?", "is it (a_(b).png)?", ["https://x.org/a_(b).png"]),
        ("Wo? <https://x.org/a.png>.", "Wo?", ["https://x.org/a.png"]),
        ("Compare https://x.org/, and a.jpg!", "Compare x.org, and a.jpg!", ["https://x.org/", "a.jpg"]),
        ("看https://x.org/a.png。这是什么？", "看a.png。这是什么？", ["https://x.org/a.png"]),
    ],
)
def test_an_address_in_a_question_is_a_picture_on_the_web(
    files: Path, typed: str, question: str, addresses: list[str]
) -> None:
    assert split(typed) == (question, addresses)


def test_a_file_url_is_that_file(files: Path) -> None:
    typed = f"what is this? {(files / 'my cat (2).jpg').as_uri()}"
    assert [one.source for one in question_in(typed).pictures] == [files / "my cat (2).jpg"]


def test_naming_a_picture_that_is_given_already_does_not_give_it_twice(files: Path) -> None:
    given = [attachment("a.jpg"), attachment("https://x.org/c.png")]
    typed = f"Is a.jpg, that is {files}/a.jpg, older than b.PNG and https://x.org/c.png?"
    assert [one.label for one in question_in(typed, given).pictures] == ["b.PNG"]


@given(name=names, before=sentences, after=sentences, data=st.data())
def test_a_file_of_any_name_is_found_in_any_sentence(
    folder: Path, name: str, before: str, after: str, data: st.DataObject
) -> None:
    path = folder / name.replace("/", "")
    path.touch()
    forms = [re.sub(r"([^\w/.-])", r"\\\1", str(path)), path.as_uri()]
    forms += [f"{mark}{path}{mark}" for mark in "\"'" if mark not in name]
    spelled = data.draw(st.sampled_from(forms))
    asked = question_in(f"{before} {spelled} {after}")
    assert path in [one.source for one in asked.pictures]
    assert str(folder) not in asked.text


@given(st.text(LETTERS + "/\\~:<>|\n\t", max_size=60))
def test_text_without_a_file_is_never_changed(text: str) -> None:
    asked = question_in(text)
    if not asked.pictures:
        assert asked.text == text


def test_a_long_text_is_searched_in_no_time(files: Path) -> None:
    begun = time.monotonic()
    for part in ("/)", "'", "a,/", "https://", "(", "\\", "word "):
        question_in(part * (30_000 // len(part)))
    assert time.monotonic() - begun < 10


def test_a_picture_that_cannot_be_read_holds_the_question(files: Path) -> None:
    with pytest.raises(ImageError, match=r"a.jpg.* The question was not asked; correct the path"):
        question_in("what is in ./a.jpg?").open()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("/no/such.png what", "There is no picture file '/no/such.png'; check the path."),
        ("/no/such\\ one", "There is no picture file '/no/such one'; check the path."),
        ("/photo.jpg", "There is no picture file '/photo.jpg'; check the path."),
        ("/imgae x.jpg", ""),
        ("/", ""),
    ],
)
def test_a_path_of_no_file_is_not_called_a_command(line: str, sentence: str) -> None:
    assert no_picture_sentence(line) == sentence


def test_a_file_that_is_no_picture_is_not_said_to_be_missing(files: Path) -> None:
    assert no_picture_sentence("~/notes.txt what").startswith("'~/notes.txt' is not a picture; ")


def test_a_folder_is_called_one(files: Path) -> None:
    assert no_picture_sentence(f"{files} what") == f"'{files}' is a folder; give the path of a picture in it."
