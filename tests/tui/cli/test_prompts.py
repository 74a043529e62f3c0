"""`minigpt4 prompts`: named prompts are listed and shown with their files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from minigpt4.tui.prompts import prompts
from minigpt4.tui.prompts.prompts import own_prompts_folder

SHIPPED = Path(prompts.__file__).parent


@pytest.fixture
def own(own_home: Path) -> Path:
    folder = own_prompts_folder()
    folder.mkdir(parents=True)
    return folder


def test_all_prompts_are_listed_with_their_files(own: Path, call_minigpt4) -> None:
    (own / "haiku.toml").write_text("about = 'a haiku'\ntext = 'A haiku.'\nmax_tokens = 40\n")
    (own / "poem.toml").write_text("about = 'my\\u001b own'\ntext = 'x'\n".replace("'", '"'))
    for arguments in ([], ["list"]):
        done = call_minigpt4("prompts", *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        lines = [line.split("  ") for line in done.stdout.splitlines()]
        named = {words[0].strip(): (words[-1].strip(), " ".join(words[1:-1]).strip()) for words in lines}
        assert named["/story"] == (str(SHIPPED / "story.toml"), "a story that begins in the picture")
        assert named["/haiku"] == (str(own / "haiku.toml"), "a haiku")
        assert named["/poem"] == (str(own / "poem.toml"), "my? own"), "one's own replaces ours"
    rows = {row["name"]: row for row in json.loads(call_minigpt4("prompts", "list", "--json").stdout)}
    assert rows["haiku"] == {
        "name": "haiku",
        "about": "a haiku",
        "text": "A haiku.",
        "max_tokens": 40,
        "own": True,
        "path": str(own / "haiku.toml"),
    }
    assert not rows["story"]["own"]
    assert call_minigpt4("prompts", "path").stdout == f"{own}\n"


def test_a_wrong_prompt_is_named_and_the_others_are_listed(own: Path, call_minigpt4) -> None:
    (own / "odd.toml").write_text("about = 'x'\ntext = 'y'\nmax_tokens = 'ten'\n")
    done = call_minigpt4("prompts")
    assert done.returncode == 1
    assert "/story" in done.stdout
    sentence = f"minigpt4: In the prompt {own / 'odd.toml'}, 'max_tokens' is 'ten'; it must be a whole number"
    assert done.stderr.startswith(sentence)
    shown = call_minigpt4("prompts", "show", "odd")
    assert (shown.returncode, shown.stdout) == (1, "")
    assert shown.stderr.startswith(sentence)


def test_a_prompt_is_shown(own: Path, call_minigpt4) -> None:
    (own / "haiku.toml").write_text("about = 'a haiku'\ntext = 'A haiku.'\nmax_tokens = 40\n")
    assert call_minigpt4("prompts", "show", "/haiku").stdout == (
        f"/haiku: a haiku\nFile: {own / 'haiku.toml'}\nLongest answer: 40 tokens\nQuestion: A haiku.\n"
    )
    assert "Longest answer: as in the settings\n" in call_minigpt4("prompts", "show", "poem").stdout
    assert json.loads(call_minigpt4("prompts", "show", "haiku", "--json").stdout)["max_tokens"] == 40
    done = call_minigpt4("prompts", "show", "hiaku")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "minigpt4: There is no prompt 'hiaku'; did you mean 'haiku'?\n"
