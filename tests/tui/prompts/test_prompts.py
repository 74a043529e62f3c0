"""Named prompts: the files we ship, the user's own, and the lines that stand for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from minigpt4.core.storage.paths import HOME_VARIABLE
from minigpt4.tui.conversation.slash_commands import (
    Asked,
    all_commands,
    choices_for,
    complete,
    prompt_problems,
    unknown_command,
    with_prompt,
)
from minigpt4.tui.prompts.prompts import PromptError, own_prompts_folder, prompts

OURS = ["ad", "alt", "describe", "meme", "poem", "recipe", "story", "website"]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's own prompts."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    folder = own_prompts_folder()
    folder.mkdir(parents=True)
    return folder


def write(path: Path, text: str, about: str = "mine") -> None:
    path.write_text(f"about = '{about}'\ntext = '''{text}'''\n", encoding="utf-8")


def test_ours_are_whole_and_none_has_a_command_s_name(own: Path) -> None:
    found, problems = prompts()
    assert [one.name for one in found] == OURS
    assert problems == []
    assert prompt_problems() == []


def test_the_papers_questions_are_asked_in_its_own_words(own: Path) -> None:
    assert with_prompt("/meme").text == "Explain why this meme is funny."
    assert with_prompt("/recipe").text == "How should I make something like this?"
    assert with_prompt(" /ad ").text == "Help me draft a professional advertisement for this."
    assert with_prompt("/poem").text == "Can you craft a beautiful poem about this image?"


def test_words_behind_the_name_are_added_or_stand_where_the_text_wants_them(own: Path) -> None:
    assert with_prompt("/poem Make it short.").text == (
        "Can you craft a beautiful poem about this image? Make it short."
    )
    write(own / "in.toml", "Say in {text} what this is. Only {text}.")
    assert with_prompt("/in  French ").text == "Say in French what this is. Only French."
    assert with_prompt("/in two\nlines").text == "Say in two\nlines what this is. Only two\nlines."


@pytest.mark.parametrize("line", ["", "what is /poem?", "/poems", "/image a.jpg", "poem", "//poem"])
def test_any_other_line_stays_as_it_is(own: Path, line: str) -> None:
    assert with_prompt(line).text == line


def test_a_file_of_the_users_own_replaces_ours(own: Path) -> None:
    write(own / "poem.toml", "A limerick, please.")
    assert with_prompt("/poem").text == "A limerick, please."
    assert [(one.label, one.about) for one in choices_for("/poe")] == [("/poem", "mine")]


def test_prompts_are_completed_and_suggested_like_commands(own: Path) -> None:
    write(own / "haiku.toml", "A haiku.")
    assert {f"/{name}" for name in [*OURS, "haiku"]} < {one.name for one in all_commands()}
    assert complete("/hai", lambda _: []).line == "/haiku "
    assert "did you mean /haiku?" in unknown_command("/hiaku")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"about = 'x'", "'text' is missing"),
        (b"about = 'x'\ntext = ' '", "'text' is ' '; it must be a text that is not empty"),
        (b"about = 'x'\ntext = 'y'\ntxet = 'z'", "'txet' is not a known key; did you mean"),
        (b"about = 3\ntext = 'y'", "'about' is 3"),
        (
            b"about = 'x'\ntext = 'y'\nmax_tokens = 0",
            "'max_tokens' is 0; it must be",
        ),
        (b"about = 'x'\ntext = 'y'\nmax_tokens = 'ten'", "'max_tokens' is 'ten'; it must be"),
        (b"text = ", "is not valid TOML"),
        (b"\xff\xfe", "is not UTF-8"),
    ],
)
def test_a_wrong_file_is_named_and_the_others_stay(own: Path, content: bytes, sentence: str) -> None:
    path = own / "odd.toml"
    path.write_bytes(content)
    (problem,) = prompt_problems()
    assert str(path) in problem
    assert sentence in problem
    with pytest.raises(PromptError, match=r"odd\.toml"):
        with_prompt("/odd")
    assert [one.name for one in prompts()[0]] == OURS


def test_a_name_that_cannot_be_typed_or_is_a_commands_is_told(own: Path) -> None:
    write(own / "My Prompt.toml", "x")
    write(own / "image.toml", "x")
    problems = prompt_problems()
    assert len(problems) == 2
    assert any("My Prompt.toml cannot be typed; name its file" in one for one in problems)
    assert any("image.toml is not used, because /image is a command" in one for one in problems)
    assert with_prompt("/image x").text == "/image x"


def test_a_prompt_may_limit_its_answer(own: Path) -> None:
    write(own / "short.toml", "A word.")
    with (own / "short.toml").open("a") as file:
        file.write("\nmax_tokens = 12\n")
    assert with_prompt("/short please") == Asked("A word. please", 12)
    assert with_prompt("/poem").max_tokens is None
    assert with_prompt("What is this?") == Asked("What is this?")
