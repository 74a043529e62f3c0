"""The slash commands of the plain chat, each through a line of input."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from minigpt4.core.errors import BackendError
from minigpt4.core.prompt import Assistant, User
from minigpt4.core.types import ResolvedSampling
from minigpt4.tui.cli import options
from minigpt4.tui.cli.chat.plain import PlainChat
from minigpt4.tui.cli.chat.plain_model import PlainModel
from minigpt4.tui.history.store import Store
from minigpt4.tui.settings.file import settings_path
from minigpt4.tui.settings.settings import load_settings

Scripted = Callable[..., Any]
Captured = pytest.CaptureFixture[str]


def paths(store: Store) -> list[list[str]]:
    """The texts of every conversation as it was shown last, the latest first."""
    return [[message.text for message in store.path(info.id)] for info in store.conversations(9)]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("/again", "There is no question yet to answer once more."),
        ("/continue", "There is no answer yet that could go on."),
        ("/edit x", "There is no question yet to edit."),
        ("/variants", "There is no answer yet"),
        ("/remove", "No picture waits for your next question."),
        ("/undelete", "No conversation was deleted lately."),
        ("/pin", "There is no conversation yet"),
        ("/editor", "/editor needs a terminal"),
        ("/search", "/search needs the words to look for"),
        ("/open", "/open needs a number of the last list, or an id"),
        ("/open 3", "There is no number 3 in the last list, which has 0; /history makes a new one."),
        ("/title", "/title needs the new title"),
        ("/title x", "There is no conversation yet"),
        ("/delete", "There is no conversation yet"),
        ("/export cats", "/export needs a file that ends in .md, .html or .json"),
        ("/export a.md", "There is no conversation yet"),
        ("/save-html", "/website asks for one"),
        ("/copy", "There is no answer yet to copy."),
        ("/code", "There is no block of code here."),
        ("/themes", "The model of this chat is fixed."),
        ("/restart", "The model of this chat is fixed."),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    chat: PlainChat, capsys: Captured, line: str, sentence: str
) -> None:
    chat.take(line)
    err = capsys.readouterr().err
    assert err.startswith("minigpt4: ")
    assert sentence in err
    assert err.count("\n") == 1
    assert chat.failures == 1


def test_conversations_are_listed_searched_and_opened_by_number_or_id(
    chat: PlainChat, store: Store, capsys: Captured
) -> None:
    chat.take("A red car?")
    chat.take("/new")
    chat.take("A green tree?")
    capsys.readouterr()
    chat.take("/history")
    listed = capsys.readouterr().err.splitlines()
    assert [line[:3] for line in listed] == ["1. ", "2. ", "/op"]
    assert "A green tree?, 2 messages, " in listed[0]
    chat.take("/search red")
    assert capsys.readouterr().err.startswith("1. A red car?: A red car?\n")
    chat.take("/open 1")
    assert "Continuing 'A red car?', 2 messages." in capsys.readouterr().err
    chat.take("Which model?")
    green, red = sorted(store.conversations(2), key=lambda info: info.created, reverse=True)
    assert [one.text for one in store.path(red.id)] == ["A red car?", "A cat.", "Which model?", "A cat."]
    chat.take(f"/open {green.id[:8]}")
    assert chat.conversation == [User("A green tree?"), Assistant("A cat.")]
    capsys.readouterr()
    chat.take("/show")
    assert capsys.readouterr().err == "You asked: A green tree?\nAnswer: A cat.\n"
    chat.take("/search nowhere")
    assert capsys.readouterr().err == "Nothing was found.\n"


def test_a_conversation_is_named_and_deleted(chat: PlainChat, store: Store, capsys: Captured) -> None:
    chat.take("What is this?")
    chat.take("/title  My  cat ")
    (info,) = store.conversations(2)
    assert info.title == "My cat"
    capsys.readouterr()
    chat.take("/delete")
    assert "Deleted; /undelete brings it back." in capsys.readouterr().err
    assert store.conversations(2) == []
    assert chat.conversation == []
    chat.take("Hello")
    assert paths(store) == [["Hello", "A cat."]]


@pytest.mark.parametrize("ending", ["md", "html", "json"])
def test_the_conversation_is_exported_and_no_file_is_overwritten(
    chat: PlainChat, tmp_path: Path, capsys: Captured, ending: str
) -> None:
    chat.take("What is this?")
    target = tmp_path / "out" / f"cats.{ending}"
    chat.take(f"/export {target}")
    text = target.read_text()
    assert "A cat." in text
    if ending == "json":
        json.loads(text)
    capsys.readouterr()
    chat.take(f"/export {target}")
    assert "is there already; give another name." in capsys.readouterr().err
    assert target.read_text() == text
    assert [one.name for one in target.parent.iterdir()] == [target.name]


def test_a_page_is_saved_and_in_a_script_not_opened(
    chat: PlainChat, engine: Any, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    monkeypatch.setattr("minigpt4.tui.cli.chat.plain_commands.open_page", lambda path: pytest.fail(str(path)))
    engine.pieces = ("```html\n<p>Joke</p>\n```",)
    chat.take("/website")
    assert engine.asked[0][0].text.startswith("Write the HTML")
    chat.take(f"/save-html {tmp_path / 'joke.html'}")
    assert (tmp_path / "joke.html").read_text() == "<p>Joke</p>\n"
    assert "Saved " in capsys.readouterr().err


@pytest.fixture
def with_model(chat: PlainChat, engine: Any, scripted_engine: Scripted, monkeypatch: Any) -> PlainChat:
    """The chat with a model that can be changed; every model that is loaded is a scripted one."""
    loaded = load_settings({"backend": "torch"}, {})
    chosen = options.choose(loaded, None, offload_vision=False)
    engine.close = lambda: None

    def load(wanted: Any, *, bars: bool = True) -> Any:
        del bars
        if wanted.threads == 3:
            raise BackendError("No model with three threads.")
        other = scripted_engine(pieces=(f"By {wanted.threads}.",))
        other.close = lambda: None
        return other

    monkeypatch.setattr(options, "load_engine", load)
    monkeypatch.setattr(options, "fetch_files", lambda *_, **__: None)
    chat.model = PlainModel(loaded, None, False, chosen, engine)
    return chat


def test_a_setting_is_changed_and_kept(with_model: PlainChat, engine: Any, capsys: Captured) -> None:
    with_model.take("/settings temperature 0.3")
    assert with_model.sampling.temperature == 0.3
    assert with_model.engine is engine, "the same model"
    assert "temperature = 0.3" in settings_path().read_text()
    with_model.take("/settings temperature")
    assert "temperature" not in settings_path().read_text().partition("#")[0]
    capsys.readouterr()
    with_model.take("/settings temperature warm")
    assert "temperature' is 'warm'; it must be" in capsys.readouterr().err
    with_model.take("/settings temprature 1")
    assert "did you mean 'temperature'?" in capsys.readouterr().err
    with_model.take("/settings")
    assert "max_tokens: " in capsys.readouterr().err


def test_another_model_sees_the_pictures_and_the_conversation_again(
    with_model: PlainChat, photo: Path, capsys: Captured
) -> None:
    with_model.take(f"/image {photo}")
    with_model.take("What is this?")
    with_model.take(f"/image {photo}")
    with_model.take("/settings threads 2")
    with_model.take("And this?")
    assert capsys.readouterr().out == "A cat.\nBy 2.\n"
    first, answer, second = with_model.engine.asked[0]  # type: ignore[attr-defined]
    assert (first.text, answer.text, second.text) == ("What is this?", "A cat.", "And this?")
    assert [len(first.images), len(second.images)] == [1, 1]


def test_a_model_that_cannot_be_loaded_leaves_the_one_before(with_model: PlainChat, capsys: Captured) -> None:
    with_model.take("/settings threads 2")
    with_model.take("/settings threads 3")
    assert "No model with three threads." in capsys.readouterr().err
    assert "threads = 2" in settings_path().read_text()
    with_model.take("Hello")
    assert capsys.readouterr().out == "By 2.\n"


def test_models_are_listed_and_an_unknown_one_is_told(with_model: PlainChat, capsys: Captured) -> None:
    with_model.take("/models")
    assert "\nmini: " in "\n" + capsys.readouterr().err
    with_model.take("/models minni")
    assert "did you mean 'mini'?\n" in capsys.readouterr().err, (
        "what was typed does not come from the settings"
    )
    with_model.take("/settings bundle minni")
    assert "did you mean 'mini'?\n" in capsys.readouterr().err
    assert with_model.failures == 2


def test_themes_are_listed_and_chosen(with_model: PlainChat, capsys: Captured) -> None:
    with_model.take("/themes")
    assert "harbour, in use\n" in capsys.readouterr().err
    with_model.take("/themes paper")
    assert 'theme = "paper"' in settings_path().read_text()
    with_model.take("/themes papper")
    assert "'theme' is 'papper'; it must be one of" in capsys.readouterr().err


def test_the_model_is_started_again_and_knows_what_was_said(
    with_model: PlainChat, photo: Path, capsys: Captured
) -> None:
    with_model.take(f"/image {photo}")
    with_model.take("What is this?")
    with_model.take("/restart")
    with_model.take("And now?")
    assert "The model was started again." in capsys.readouterr().err
    first, answer, _ = with_model.engine.asked[0]  # type: ignore[attr-defined]
    assert (first.text, len(first.images), answer.text) == ("What is this?", 1, "A cat.")


def test_the_last_block_of_code_is_printed_alone_or_saved(
    chat: PlainChat, engine: Any, tmp_path: Path, capsys: Captured
) -> None:
    engine.pieces = ("First:\n```python\nnap()\n```\nthen\n", "```\nwake()\n```\n")
    chat.take("Write a program.")
    engine.pieces = ("Glad to help.",)
    chat.take("Thanks.")
    capsys.readouterr()
    chat.take("/code")
    assert capsys.readouterr().out == "wake()\n"
    path = tmp_path / "my program.py"
    chat.take(f"/code {path}")
    assert path.read_text() == "wake()\n"
    chat.take(f"/code {path}")
    assert "is there already; give another name." in capsys.readouterr().err


def test_an_answer_is_copied_by_the_terminal(
    chat: PlainChat, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat.take("What is this?")
    chat.take("/copy")
    assert "/copy needs a terminal" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    chat.take("/copy")
    assert capsys.readouterr().out == f"\x1b]52;c;{b64encode(b'A cat.').decode()}\a"


def test_nothing_is_redrawn_or_colored_in_a_pipe(chat: PlainChat, photo: Path, capsys: Captured) -> None:
    for line in (f"/image {photo}", "What is this?", "/history", "/show", "/help", "/xyzzy"):
        chat.take(line)
    out, err = capsys.readouterr()
    assert not {"\x1b", "\r", "\b"} & set(out + err)
    assert "Added my cat.png, 30 x 20 pixels." in err
    assert all(len(line) <= 110 for line in err.splitlines())


def test_chats_that_are_not_saved_say_so(engine: Any, capsys: Captured) -> None:
    chat = PlainChat(engine, replace(ResolvedSampling()))
    chat.take("Hello")
    chat.take("/again")
    assert len(engine.asked) == 2
    chat.take("/history")
    assert "This chat is not saved, so it has no history." in capsys.readouterr().err


def test_pictures_of_a_folder_are_listed_and_chosen_by_number(
    chat: PlainChat, photo: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photo.parent / "holiday"
    (folder / "beach").mkdir(parents=True)
    for name in ("b 2.png", "a\x1b.png"):
        (folder / name).write_bytes(photo.read_bytes())
    (folder / "notes.txt").write_text("")
    listed = (
        f"In {folder}: 2 pictures, 1 folder.\nFolder beach\n1. a?.png\n2. b 2.png\n"
        "/pick NUMBER... adds pictures of the list.\n"
    )
    monkeypatch.chdir(folder)
    chat.take(f"/image {folder}")
    assert "is a folder; give the path of a picture in it." in capsys.readouterr().err, "nobody can choose"
    monkeypatch.setattr("minigpt4.tui.cli.chat.plain_pictures.at_terminal", lambda: True)
    for line in (f"/pick {folder}", f"/image {folder}", "/pick"):
        chat.take(line)
        assert capsys.readouterr().err == listed
    chat.take("/pick 2 1")
    assert capsys.readouterr().err == "Added b 2.png, 30 x 20 pixels.\nAdded a?.png, 30 x 20 pixels.\n"
    chat.take("/pick 1 3")
    chat.take("/pick nowhere")
    err = capsys.readouterr().err
    assert "There is no picture 3 in the last list, which has 2; /pick FOLDER makes a new one." in err
    assert f"The folder '{folder / 'nowhere'}' cannot be listed: no such file or directory." in err
    assert len(chat.pending) == 2
    chat.take("/pick beach")
    assert "0 pictures, 0 folders.\n/pick FOLDER lists another folder." in capsys.readouterr().err


def test_an_answer_without_a_word_is_told(chat: PlainChat, engine: Any, capsys: Captured) -> None:
    chat.take("What is this?")
    engine.pieces = ()
    chat.take("/continue")
    assert "(The model had nothing to say.)" in capsys.readouterr().err


def test_of_several_pictures_those_that_can_be_opened_are_added(
    chat: PlainChat, photo: Path, tmp_path: Path, capsys: Captured
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"<html>")
    chat.take(f"/image '{bad}' {tmp_path / 'gone.png'} '{photo}'")
    err = capsys.readouterr().err
    assert "bad.png' is a web page" in err
    assert "There is no file" in err
    assert [one.source.name for one in chat.pending] == [photo.name]
    assert chat.failures == 2
