"""Over 1 GB is asked about on a terminal; in a pipe only `models pull` fetches it, as that was asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest

from minigpt4.core.bundles.bundle import load_bundle
from minigpt4.core.download import fetch
from minigpt4.core.download.fetch import missing
from minigpt4.core.storage.paths import data_home

Run = Callable[..., "subprocess.CompletedProcess[str]"]

VISION = b"vision" * 20_000
LANGUAGE = b"language" * 50_000
LIMITED = (
    "from minigpt4.core.download import fetch; fetch.ASK_BYTES = 500_000; "
    "from minigpt4.tui.cli import main; main()"
)
"""The program, to which half a megabyte is large."""


@pytest.fixture(autouse=True)
def _small(tmp_path: Path, write_bundle: Callable[..., Path]) -> None:
    """A bundle `small` of 520,000 bytes."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    for name, content in (("vision.bin", VISION), ("language.bin", LANGUAGE)):
        (folder / name).write_bytes(content)
    write_bundle(
        "small",
        vision=VISION,
        vision_sources=[{"kind": "path", "path": str(folder / "vision.bin")}],
        language=LANGUAGE,
        language_sources=[{"kind": "path", "path": str(folder / "language.bin")}],
    )


def on_terminal(*arguments: str) -> pexpect.spawn:
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    return pexpect.spawn(
        sys.executable,
        ["-c", LIMITED, *arguments],
        encoding="utf-8",
        dimensions=(24, 200),
        env=environment,
        timeout=60,
    )


def test_in_a_pipe_pull_announces_size_room_and_place_and_goes_on(
    call_minigpt4: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "ASK_BYTES", 500_000)
    usage = shutil.disk_usage("/")._replace(free=2_500_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    done = call_minigpt4("models", "pull", "small")
    folder = data_home() / "bundles" / "small"
    lines = done.stderr.splitlines()
    assert lines[0] == f"'small': 0.5 MB in 2 files to fetch into {folder}; the disk has 2.50 GB free."
    assert lines[1] == "Fetching vision.bin (0.1 MB)"
    assert done.returncode == 0 and not missing(load_bundle("small"))


@pytest.mark.parametrize("answer", ["n", "", "y"])
def test_on_a_terminal_pull_asks_and_a_return_means_no(answer: str) -> None:
    with on_terminal("models", "pull", "small") as terminal:
        terminal.expect_exact("'small': 0.5 MB in 2 files to fetch into")
        terminal.expect_exact("Fetch them now? [y/N]:")
        terminal.sendline(answer)
        if answer == "y":
            terminal.expect_exact("120.0/120.0 kB")
            terminal.expect_exact("in all")
            terminal.expect_exact("520.0/520.0 kB")
        else:
            terminal.expect_exact("minigpt4: Nothing of 'small' was fetched.")
        terminal.expect(pexpect.EOF)
    assert terminal.exitstatus == (0 if answer == "y" else 1)
    assert bool(missing(load_bundle("small"))) is (answer != "y")


def test_yes_skips_the_question() -> None:
    with on_terminal("models", "pull", "small", "--yes") as terminal:
        terminal.expect_exact("520.0/520.0 kB")
        terminal.expect(pexpect.EOF)
        assert "[y/N]" not in (terminal.before or "")
    assert terminal.exitstatus == 0 and not missing(load_bundle("small"))


@pytest.mark.parametrize("command", [("ask", "What?"), ("chat", "--plain")])
def test_a_first_use_in_a_pipe_refuses_and_names_the_command(command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *command, "--bundle", "small"],
        input="What?\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.splitlines()[-1].endswith("`minigpt4 models pull small` fetches it.")
    assert len(missing(load_bundle("small"))) == 2


def test_a_first_use_on_a_terminal_asks() -> None:
    with on_terminal("ask", "What?", "--bundle", "small") as terminal:
        terminal.expect_exact("Fetch them now? [y/N]:")
        terminal.sendline("n")
        terminal.expect_exact("minigpt4: Nothing of 'small' was fetched.")
        terminal.expect(pexpect.EOF)
    assert terminal.exitstatus == 1
