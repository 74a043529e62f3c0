"""`minigpt4 caption` with the real model, on a real terminal, and killed."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pexpect
import pytest

from minigpt4.train.data.open import open_photos

pytestmark = pytest.mark.usefixtures("mini_home")

QUICK = ("--greedy", "--max-tokens", "20")


@pytest.fixture
def photos(examples: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("camera.png", "chelsea.png"):
        shutil.copy(examples / name, folder)
    return folder


def captions(place: Path) -> dict[str, str]:
    found = open_photos(place)
    return {found.key(index): found.meta(index)["captions"][0] for index in range(len(found))}


def test_all_three_forms_hold_the_same_captions_and_training_reads_them(run_minigpt4, photos: Path) -> None:
    forms = []
    for output in ((), ("-o", "photos/captions.csv"), ("-o", "photos/captions.jsonl")):
        done = run_minigpt4("caption", "photos", *QUICK, *output)
        assert (done.returncode, done.stdout) == (0, "")
        assert done.stderr.endswith("2 pictures captioned.\n")
        forms.append(captions(photos))
    assert forms[0] == forms[1] == forms[2]
    assert len(forms[0]) == 2
    assert "cat" in forms[0]["chelsea.png"].lower()


def test_a_kill_leaves_whole_captions_and_the_same_command_does_the_rest(run_minigpt4, photos: Path) -> None:
    program = subprocess.Popen(
        [sys.executable, "-P", "-m", "minigpt4.tui", "caption", "photos", *QUICK],
        cwd=photos.parent,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 120
    while not (photos / "camera.txt").exists():
        assert program.poll() is None
        assert time.monotonic() < end
        time.sleep(0.001)
    program.send_signal(signal.SIGKILL)
    program.wait()
    first = {path: path.stat().st_mtime_ns for path in photos.glob("*.txt")}
    assert all(path.read_text().strip() for path in first)
    done = run_minigpt4("caption", "photos", *QUICK)
    assert done.returncode == 0
    assert {path: path.stat().st_mtime_ns for path in first} == first
    assert len(captions(photos)) == 2


def test_a_terminal_shows_a_bar_with_the_time_left_and_failures_above_it(photos: Path) -> None:
    (photos / "broken.jpg").write_text("no picture")
    program = pexpect.spawn(
        sys.executable,
        ["-P", "-m", "minigpt4.tui", "caption", "photos", "--alt", *QUICK],
        cwd=photos.parent,
        env=os.environ | {"TERM": "xterm-256color"},
        dimensions=(24, 100),
        timeout=120,
    )
    shown = io.BytesIO()
    program.logfile_read = shown
    program.expect(pexpect.EOF)
    program.close()
    text = shown.getvalue().decode()
    assert program.exitstatus == 1
    assert "Captioning" in text
    assert "0/3" in text
    assert "0:00:" in text
    assert "'photos/broken.jpg' is a text" in text
    assert "2 pictures captioned, 1 failed." in text
