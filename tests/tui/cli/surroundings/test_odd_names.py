"""Names with control codes, line ends or bytes of no encoding: exact in JSON, harmless elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from minigpt4.core.bundles.bundle import SHIPPED_BUNDLES
from minigpt4.core.storage.paths import HOME_VARIABLE, config_home
from minigpt4.tui.terminal.messages import sentence, shell_command
from minigpt4.tui.terminal.results import escaped_json, json_text

ODD = (
    "title\x1b]0;owned\x07.png",
    "two\nlines.png",
    "wide\x9b31m.png",
    "turned\u202egnp.png",
    os.fsdecode(b"latin\xe9.png"),
)


def is_harmless(text: str) -> bool:
    return text.replace("\n", "").isprintable()


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    for name in ODD:
        # A GIF of two frames: its notice is printed, too.
        frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
        frames[0].save(tmp_path / name, "GIF", save_all=True, append_images=frames[1:])
    return list(ODD)


class TestAsk:
    @pytest.fixture
    def arguments(self, mini_home: Path, pictures: list[str]) -> list[str]:
        images = [part for name in pictures for part in ("-i", name)]
        return ["ask", "--each", "--max-tokens", "2", "--greedy", *images, "What is this?"]

    def test_each_answer_is_on_a_line_that_begins_with_the_name(self, run_minigpt4, arguments) -> None:
        done = run_minigpt4(*arguments)
        assert done.returncode == 0, done.stderr
        assert is_harmless(done.stdout)
        assert is_harmless(done.stderr)
        starts = [line.partition(": ")[0] for line in done.stdout.splitlines()]
        assert starts == [
            "title?]0;owned?.png",
            "two?lines.png",
            "wide?31m.png",
            "turned?gnp.png",
            "latin?.png",
        ]
        notices = [line for line in done.stderr.splitlines() if "frame" in line]
        assert len(notices) == len(ODD)

    def test_json_holds_the_exact_names(self, run_minigpt4, arguments) -> None:
        done = run_minigpt4(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        assert is_harmless(done.stdout)
        assert is_harmless(done.stderr)
        assert [json.loads(line)["images"] for line in done.stdout.splitlines()] == [[name] for name in ODD]


@pytest.mark.parametrize("name", ODD)
def test_a_picture_that_is_missing_is_one_harmless_line(run_minigpt4, name: str) -> None:
    done = run_minigpt4("ask", "-i", f"no {name}", "What is this?")
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert is_harmless(done.stderr)


@pytest.mark.parametrize("name", ODD)
def test_a_home_of_that_name_is_shown_and_used(run_minigpt4, tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    for folder, suffix in (("bundles", "toml"), ("themes", "toml")):
        (home / "config" / folder).mkdir(parents=True)
        (home / "config" / folder / f"mine.{suffix}").write_text("x = 1\n")
    (home / "config" / "settings.toml").write_text("thme = 1\n")
    variables = {HOME_VARIABLE: str(home)}
    for arguments in (
        ["models", "list"],
        ["models", "show"],
        ["models", "list", "--json"],
        ["themes", "list"],
        ["themes", "list", "--json"],
        ["config", "show", "--json"],
        ["config", "check"],
        ["history", "show", "none"],
        ["train", "--resume", "--output", str(home)],
    ):
        done = run_minigpt4(*arguments, env=variables)
        assert is_harmless(done.stdout), arguments
        assert is_harmless(done.stderr), arguments
        assert "bug" not in done.stderr


def test_a_bundle_of_that_name_is_listed(run_minigpt4) -> None:
    folder = config_home() / "bundles"
    folder.mkdir(parents=True)
    shipped = Path(__file__).parents[4] / "core" / "bundles" / "minigpt4-vicuna-7b.toml"
    (folder / "my\x1b[2Jown\nbundle.toml").write_bytes(shipped.read_bytes())
    listed = run_minigpt4("models", "list")
    assert is_harmless(listed.stdout)
    assert len(listed.stdout.splitlines()) == 1 + len(list(SHIPPED_BUNDLES.glob("*.toml")))
    assert "my\x1b[2Jown\nbundle" in [
        row["name"] for row in json.loads(run_minigpt4("models", "list", "--json").stdout)
    ]


def test_a_path_is_exact_for_a_program(run_minigpt4, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run_minigpt4("config", "path", env={HOME_VARIABLE: str(tmp_path / "a\x1b[1m  b")})
    assert done.stdout == f"{tmp_path}/a\x1b[1m  b/config/settings.toml\n"


@pytest.mark.parametrize("name", ODD)
def test_escaped_json_is_the_same_value(name: str) -> None:
    value = {"name": name, "answer": "Ein schöner Tag 🐈"}
    assert is_harmless(json_text(value))
    assert json.loads(json_text(value)) == value
    assert "schöner Tag 🐈" in escaped_json(json_text(value, indent=2))


def test_an_error_of_the_system_names_a_file_on_one_line() -> None:
    error = PermissionError(13, "Permission denied", "my\x1b[2J\nfolder")
    assert sentence(error) == "'my?[2J?folder' cannot be used: Permission denied."


@pytest.mark.parametrize("name", [*ODD, "it's \\x41\x1b", "plain name", "plain"])
def test_a_suggested_command_names_the_same_folder(name: str) -> None:
    command = shell_command(["printf", "%s", name])
    assert command.isprintable()
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=True)
    assert os.fsdecode(done.stdout) == name


@pytest.mark.parametrize("in_terminal", [True, False])
def test_an_answer_is_exact_for_a_program_and_harmless_in_a_terminal(in_terminal: bool) -> None:
    """A pseudo-terminal, and a pipe."""
    ours, its = os.openpty() if in_terminal else os.pipe()
    call = "from minigpt4.tui.terminal.results import print_answer; print_answer('a\\x1b]0;owned\\x07 cat')"
    subprocess.run([sys.executable, "-P", "-c", call], stdout=its, check=True)
    shown = os.read(ours, 1000).decode()
    os.close(ours)
    os.close(its)
    assert shown == ("a␛]0;owned␇ cat" if in_terminal else "a\x1b]0;owned\x07 cat")
