"""What the caller left: a folder that is gone, closed streams, and no files where files should be."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from minigpt4.core.storage.paths import HOME_VARIABLE, config_home
from minigpt4.tui.history.store import FILE_NAME
from minigpt4.tui.settings.file import settings_path

PROGRAM = Path(sysconfig.get_path("scripts")) / "minigpt4"
GONE = "The folder this runs in is gone; cd to another one and run the command again."
CLOSED = (
    "Standard output is closed, so what this prints would be lost; give it a terminal, a pipe, a file or "
    "/dev/null."
)

InShell = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def in_shell(tmp_path: Path) -> InShell:
    """Run a line of the shell in which `"$@"` is the command, and `minigpt4` its first word by default."""

    def run(
        line: str, *arguments: str | Path, command: tuple[str, ...] = (str(PROGRAM),), **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", line, "sh", *command, *map(str, arguments)],
            cwd=tmp_path,
            env=dict(os.environ) | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def only_line(done: subprocess.CompletedProcess[str], code: int = 1) -> str:
    """The one line on stderr of a command that failed and printed no result."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0].removeprefix("minigpt4: ")


class TestDeletedFolder:
    IN_IT = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'

    @pytest.mark.parametrize(
        "arguments",
        [
            ["ask", "--backend", "torch", "-i", "/nowhere.jpg", "What is this?"],
            ["caption", "."],
            ["caption", "/nowhere", "--output", "captions.jsonl"],
            ["chat", "--plain"],
            ["config", "show"],
            ["data", "inspect", "photos"],
            ["doctor"],
            ["eval", "captions", "--data", "photos"],
            ["history", "export", "--all", "--format", "json", "-o", "out.json"],
            ["models", "list"],
            ["models", "verify", "mini"],
            ["themes", "list"],
            ["train", "--stage", "1", "--estimate"],
            [],
        ],
    )
    def test_every_command_says_so(self, in_shell: InShell, arguments: list[str]) -> None:
        assert only_line(in_shell(self.IN_IT, *arguments)) == GONE

    def test_so_does_a_relative_home(self, in_shell: InShell) -> None:
        assert only_line(in_shell(self.IN_IT, "models", "path", "mini", MINIGPT4_HOME="home")) == GONE

    def test_so_does_the_module(self, in_shell: InShell) -> None:
        module = (sys.executable, "-m", "minigpt4.tui")
        assert only_line(in_shell(self.IN_IT, "models", "list", command=module)) == GONE

    def test_help_and_version_are_there(self, in_shell: InShell) -> None:
        for arguments in (["--version"], ["--help"], ["train", "--help"]):
            done = in_shell(self.IN_IT, *arguments)
            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout


class TestStreams:
    @pytest.mark.parametrize("closing", [">&-", "<&- >&-"])
    @pytest.mark.parametrize(
        "arguments", [["models", "list"], ["--version"], ["ask", "What is this?"], ["chat"]]
    )
    def test_without_standard_output_nothing_begins(
        self, in_shell: InShell, arguments: list[str], closing: str
    ) -> None:
        assert only_line(in_shell(f'exec "$@" {closing}', *arguments)) == CLOSED

    def test_without_any_stream_only_the_code_tells(self, in_shell: InShell) -> None:
        done = in_shell('exec "$@" <&- >&- 2>&-', "models", "list")
        assert (done.returncode, done.stdout, done.stderr) == (1, "", "")

    @pytest.mark.parametrize("closing", ["2>&-", "<&- 2>&-", "2>/dev/full", "2</dev/null", "<&-"])
    def test_results_are_printed_without_the_other_streams(self, in_shell: InShell, closing: str) -> None:
        done = in_shell(f'exec "$@" {closing}', "config", "show", MINIGPT4_SEED="no number")
        assert done.returncode == 0
        assert "bundle = " in done.stdout

    @pytest.mark.parametrize("closing", ["2>&-", "2>/dev/full"])
    def test_an_error_that_cannot_be_printed_keeps_its_code(self, in_shell: InShell, closing: str) -> None:
        assert in_shell(f'exec "$@" {closing}', "ask", "").returncode == 2

    @pytest.mark.parametrize(
        ("output", "reason"),
        [(">/dev/full", "The disk is full"), ("1</dev/null", "What was to be printed could not be written")],
    )
    def test_output_that_cannot_be_written_is_one_line(
        self, in_shell: InShell, output: str, reason: str
    ) -> None:
        for arguments in (["models", "list"], ["models", "path"], ["config", "show", "--json"]):
            assert only_line(in_shell(f'exec "$@" {output}', *arguments)).startswith(reason)

    def test_a_picture_from_closed_standard_input_is_one_line(self, in_shell: InShell) -> None:
        done = in_shell('exec "$@" <&-', "ask", "-i", "-", "What is this?")
        assert only_line(done).startswith("Standard input is empty")


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def link_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


class TestNoFiles:
    """A FIFO without a writer would block for ever, and /dev/zero fill the memory."""

    KINDS = (
        (make_fifo, "it is a FIFO, not a file"),
        (link_device, "it is a device, not a file"),
        (Path.mkdir, "Is a directory"),
    )

    @pytest.fixture(params=KINDS, ids=["fifo", "device", "folder"])
    def kind(self, request: pytest.FixtureRequest) -> tuple[Callable[[Path], None], str]:
        found: tuple[Callable[[Path], None], str] = request.param
        return found

    def test_as_settings(self, in_shell: InShell, kind) -> None:
        make, reason = kind
        config_home().mkdir(parents=True)
        make(settings_path())
        sentence = f"The settings file {settings_path()} cannot be read: {reason}."
        assert only_line(in_shell('exec "$@"', "config", "check")) == sentence
        assert sentence in in_shell('exec "$@"', "config", "show").stderr

    def test_as_a_theme(self, in_shell: InShell, kind) -> None:
        make, reason = kind
        path = config_home() / "themes" / "mine.toml"
        path.parent.mkdir(parents=True)
        make(path)
        sentence = f"The theme {path} cannot be read: {reason}."
        assert only_line(in_shell('exec "$@"', "themes", "check", "mine")) == sentence
        assert sentence in in_shell('exec "$@"', "themes", "list").stderr
        assert only_line(in_shell('exec "$@"', "themes", "new", "other", "--from", "mine")) == sentence

    def test_as_a_manifest(self, in_shell: InShell, kind) -> None:
        make, reason = kind
        path = config_home() / "bundles" / "mine.toml"
        path.parent.mkdir(parents=True)
        make(path)
        sentence = f"The manifest {path} cannot be read: {reason}."
        assert only_line(in_shell('exec "$@"', "models", "show", "mine")) == sentence
        listed = in_shell('exec "$@"', "models", "list")
        assert (listed.returncode, "mini" in listed.stdout) == (1, True)
        assert sentence in listed.stderr

    def test_as_a_recipe(self, in_shell: InShell, kind, tmp_path: Path) -> None:
        make, reason = kind
        make(tmp_path / "mine.toml")
        done = in_shell('exec "$@"', "train", "--recipe", "mine.toml")
        assert only_line(done, 2) == f"The recipe mine.toml cannot be read: {reason}."

    def test_as_the_recipe_of_a_run(self, in_shell: InShell, kind, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        kind[0](tmp_path / "run" / "recipe.toml")
        done = in_shell('exec "$@"', "train", "--resume", "--output", "run")
        assert only_line(done, 2).startswith("There is no run to resume in run;")

    def test_as_the_conversations(self, in_shell: InShell, kind) -> None:
        home = Path(os.environ[HOME_VARIABLE])
        (home / "data").mkdir(parents=True)
        kind[0](home / "data" / FILE_NAME)
        assert "conversations" in only_line(in_shell('exec "$@"', "history", "list"))


class TestFifos:
    """Nobody writes into them: reading them would wait for ever."""

    @pytest.fixture(autouse=True)
    def _fifos(self, tmp_path: Path) -> None:
        for name in (
            "fifo",
            "pairs/0.txt",
            "list/captions.csv",
            "shards/0.tar",
            "logged/log.jsonl",
            "locked/.lock",
        ):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            make_fifo(tmp_path / name)
        for number in range(6):
            Image.new("RGB", (8, 8)).save(tmp_path / "pairs" / f"{number}.png")
            if number:
                (tmp_path / "pairs" / f"{number}.txt").write_text("A black square.")
        for run in ("logged", "locked"):
            (tmp_path / run / "recipe.toml").write_text('bundle = "mini"')

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["ask", "-i", "fifo", "What?"], "'fifo' cannot be read: it is a FIFO, and nothing is written i"),
            (["ask", "-i", "/dev/zero", "What?"], "'/dev/zero' is a device, not a picture file."),
            (
                ["history", "import", "fifo"],
                "'fifo' cannot be used: it is a FIFO, and nothing is written into",
            ),
            (["history", "import", "/dev/zero"], "'/dev/zero' cannot be used: it is a device, not a file."),
            (["data", "inspect", "fifo"], "The shard fifo cannot be read: it is a FIFO, not a file."),
            (
                ["data", "inspect", "list"],
                "The list list/captions.csv cannot be read: it is a FIFO, not a fi",
            ),
            (["data", "inspect", "shards"], "The shard shards/0.tar cannot be read: it is a FIFO, not a fi"),
        ],
    )
    def test_are_told(self, in_shell: InShell, arguments: list[str], sentence: str) -> None:
        assert only_line(in_shell('exec "$@"', *arguments)).startswith(sentence)

    @pytest.mark.parametrize("run", ["logged/log.jsonl", "locked/.lock"])
    def test_are_told_in_the_folder_of_a_run(self, in_shell: InShell, run: str) -> None:
        done = in_shell('exec "$@"', "train", "--watch", run.partition("/")[0])
        assert only_line(done, 2) == f"The run's {run} cannot be read: it is a FIFO, not a file."

    def test_as_the_text_of_one_photo_leave_that_one_out(self, in_shell: InShell) -> None:
        done = in_shell('exec "$@"', "data", "inspect", "pairs", "--workers", "1")
        assert done.returncode == 0, done.stderr
        assert "5 photos, 5 captions" in done.stdout
        assert "0.png: its text 0.txt cannot be read (it is a FIFO, not a file)" in done.stdout

    def test_are_read_as_pictures_and_conversations_when_somebody_writes(self, in_shell: InShell) -> None:
        done = in_shell('cat pairs/1.png > fifo & exec "$@"', "history", "import", "fifo")
        assert "FIFO" not in only_line(done)  # it was read, and is no export
