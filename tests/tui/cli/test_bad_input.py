"""Whatever is wrong with a command, the real program says it in one line and with the right code."""

from __future__ import annotations

import errno
import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from minigpt4.core.errors import Minigpt4Error, UsageError
from minigpt4.tui.cli.errors import Edge, run_at_edge

QUESTION = "What is this?"


def noise_png() -> bytes:
    buffer = BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def bomb_png() -> bytes:
    """A few bytes of a PNG whose header promises 65535 x 65535 pixels."""
    whole = bytearray(noise_png())
    whole[16:24] = (65_535).to_bytes(4, "big") * 2
    whole[29:33] = zlib.crc32(bytes(whole[12:29])).to_bytes(4, "big")
    return bytes(whole)


BAD_FILES = {
    "empty.jpg": (b"", "'empty.jpg' is empty (0 bytes)."),
    "words.jpg": (b"these are words " * 20, "'words.jpg' is a text, not a picture."),
    "half.png": (noise_png()[:4000], "'half.png' is damaged or cut off"),
    "bomb.png": (bomb_png(), "'bomb.png' is too large: over 178 million pixels"),
}


def only_line(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line on stderr of a command that failed with that code and printed no result."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("minigpt4: ")
    assert lines[0][-1] in ".?!"
    return lines[0].removeprefix("minigpt4: ")


@pytest.mark.parametrize("name", BAD_FILES)
@pytest.mark.parametrize("command", ["ask", "chat"])
def test_a_bad_picture_is_one_line_before_anything_is_fetched(run_minigpt4, tmp_path, name, command) -> None:
    content, sentence = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    arguments = ("ask", "-i", name, QUESTION) if command == "ask" else ("chat", name)
    assert only_line(run_minigpt4(*arguments), 1).startswith(sentence)


def test_a_missing_picture_and_a_folder_are_one_line(run_minigpt4, tmp_path) -> None:
    assert only_line(run_minigpt4("ask", "-i", "no.jpg", QUESTION), 1).startswith("There is no file 'no.jpg'")
    assert "is a folder" in only_line(run_minigpt4("ask", "-i", tmp_path, QUESTION), 1)


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ("/no/such.png what is this", "There is no picture file '/no/such.png'; check the path."),
        ("/etc/passwd what is this", "'/etc/passwd' is not a picture; to ask about its name"),
    ],
)
def test_a_question_that_begins_with_the_path_of_no_picture_is_one_line(
    call_minigpt4, question, sentence
) -> None:
    assert only_line(call_minigpt4("ask", question), 1).startswith(sentence)


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [(b"", "Standard input is empty"), (b"no picture at all", "Standard input is a text, not a picture")],
)
def test_standard_input_that_is_no_picture_is_one_line(run_minigpt4, sent, sentence) -> None:
    assert only_line(run_minigpt4("ask", "-i", "-", QUESTION, stdin=sent), 1).startswith(sentence)


@pytest.mark.parametrize("question", ["", "   ", "\n"])
def test_an_empty_question_is_wrong_usage(call_minigpt4, question) -> None:
    assert only_line(call_minigpt4("ask", question), 2).startswith("The question is empty")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["aks", QUESTION], "There is no command 'aks'; did you mean 'ask'?"),
        (["xyzzy"], "There is no command 'xyzzy'; there are chat, ask,"),
        (["ask"], "Missing argument 'QUESTION'."),
        (
            ["ask", "--imge", "a.jpg", QUESTION],
            "No such option: --imge; did you mean --image, --image-tokens?",
        ),
        (["ask", "-b", "mimi", QUESTION], "There is no bundle 'mimi'; did you mean 'mini'?"),
        (
            ["ask", "--temperature", "-0.5", QUESTION],
            "'--temperature' is -0.5; it must be a number from 0 to 10.",
        ),
        (["ask", "--temperature", "nan", QUESTION], "'--temperature' is nan;"),
        (["ask", "--temperature", "warm", QUESTION], "Invalid value for '--temperature'"),
        (["ask", "--top-p", "0", QUESTION], "'--top-p' is 0.0;"),
        (["ask", "--top-p", "1.5", QUESTION], "'--top-p' is 1.5;"),
        (["ask", "--max-tokens", "0", QUESTION], "'--max-tokens' is 0;"),
        (["ask", "--repetition-penalty", "0", QUESTION], "'--repetition-penalty' is 0.0;"),
        (["ask", "--seed", "-1", QUESTION], "'--seed' is -1;"),
        (["ask", "--threads", "0", QUESTION], "'--threads' is 0;"),
        (["ask", "--greedy", "--temperature", "1", QUESTION], "--greedy and --temperature 1 contradict"),
        (
            ["ask", "--backend", "torhc", QUESTION],
            "'--backend' is 'torhc'; it must be one of auto, torch, llamacpp; did you mean 'torch'?",
        ),
        (["ask", "--device", "gpu", QUESTION], "'--device' is 'gpu'; it must be"),
        (["ask", "-i", "-", "-i", "-", QUESTION], "'-i -' is given twice"),
        (["ask", "-i", "", QUESTION], "The path of a picture is empty"),
        (["ask", "--each", QUESTION], "--each asks about pictures one by one, but none is given"),
        (["chat", "-"], "'-' cannot be a picture here"),
        (["chat", "--resume"], "Option '--resume' requires an argument. `minigpt4 chat --help` shows"),
    ],
)
def test_wrong_usage_is_one_line_with_the_value_and_the_way_out(call_minigpt4, arguments, sentence) -> None:
    assert only_line(call_minigpt4(*arguments), 2).startswith(sentence)


def test_control_codes_in_a_files_name_do_not_reach_the_terminal(run_minigpt4) -> None:
    assert "\x1b" not in only_line(run_minigpt4("ask", "-i", "a\x1b]0;owned\x07.jpg", QUESTION), 1)


def test_debug_shows_where_an_error_happened(run_minigpt4) -> None:
    done = run_minigpt4("--debug", "ask", "-i", "no.jpg", QUESTION)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("minigpt4: There is no file")


class TestEdge:
    """Errors that are hard to have on purpose, raised by hand at the same edge."""

    def said(self, error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
        def fail() -> None:
            raise error

        code = run_at_edge(fail, Edge())
        return code, capsys.readouterr().err

    def test_our_own_errors_keep_their_code(self, capsys) -> None:
        assert self.said(Minigpt4Error("No\ngood."), capsys) == (1, "minigpt4: No good.\n")
        assert self.said(UsageError("Wrong."), capsys) == (2, "minigpt4: Wrong.\n")

    def test_an_interrupt_is_quiet(self, capsys) -> None:
        assert self.said(KeyboardInterrupt(), capsys) == (130, "")
        assert self.said(typer.Exit(7), capsys) == (7, "")

    def test_a_full_disk_is_named(self, capsys) -> None:
        full = OSError(errno.ENOSPC, "No space left on device", "/data/model.part")
        code, line = self.said(full, capsys)
        assert code == 1
        assert line.startswith("minigpt4: The disk is full while writing '/data/model.part'; free some space")

    def test_an_unwritable_folder_is_no_bug(self, capsys) -> None:
        _, line = self.said(PermissionError(errno.EACCES, "Permission denied", "/data"), capsys)
        assert line == "minigpt4: '/data' cannot be used: Permission denied.\n"

    @pytest.mark.parametrize(
        "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]
    )
    def test_too_little_memory_is_reported_plainly(self, capsys, error) -> None:
        assert self.said(error, capsys)[1].startswith("minigpt4: There is not enough memory;")

    def test_anything_else_is_called_a_bug(self, capsys) -> None:
        code, line = self.said(ZeroDivisionError("division\nby zero"), capsys)
        assert code == 1
        assert line.startswith("minigpt4: This is a bug in minigpt4 (ZeroDivisionError: division by zero);")
        assert line.count("\n") == 1


class TestTheUsersOwnFiles:
    """A module of the same name as ours, or as a library's, in the working folder is left alone."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for name in ("train.py", "themes.py", "numpy.py", "typer.py", "minigpt4_tui.py"):
            (tmp_path / name).write_text("raise SystemExit('the user\\'s own file ran')\n")
        for name in ("core", "minigpt4", "tests"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "__init__.py").write_text("raise SystemExit('the user\\'s own folder ran')\n")
        return tmp_path

    @pytest.mark.parametrize(
        "arguments", [["--version"], ["ask", "-i", "no.jpg", QUESTION], ["models", "list"]]
    )
    def test_the_console_program_does_not_import_them(self, run_minigpt4, folder, arguments) -> None:
        done = run_minigpt4(*arguments, cwd=folder)
        assert "own" not in done.stderr
        assert "Traceback" not in done.stderr

    def test_neither_does_the_module(self, folder) -> None:
        # A folder called minigpt4 is found by `python -m` itself, before any code of ours runs.
        (folder / "minigpt4" / "__init__.py").unlink()
        (folder / "minigpt4").rmdir()
        done = subprocess.run(
            [sys.executable, "-m", "minigpt4.tui", "ask", "-i", "no.jpg", QUESTION],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr.startswith("minigpt4: There is no file 'no.jpg'")


def test_help_names_every_command(run_minigpt4) -> None:
    done = run_minigpt4("--help")
    assert done.returncode == 0
    for command in ("chat", "ask", "models", "train", "eval"):
        assert f"\n  {command} " in done.stdout


@pytest.mark.parametrize("command", ["", "chat", "ask", "models", "train", "eval"])
def test_no_help_page_imports_a_model_library(command) -> None:
    code = (
        "import sys; from minigpt4.tui.cli import main\n"
        "try: main(sys.argv[1].split() + ['--help'])\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "heavy = {'torch', 'transformers', 'llama_cpp'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Usage: minigpt4" in done.stdout
