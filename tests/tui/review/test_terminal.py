"""A review in a real terminal: every decision is kept, however the program ends."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from minigpt4.core.storage.paths import HOME_VARIABLE
from minigpt4.train.curate.reviews import Reviews
from minigpt4.train.curate.run_folder import Candidate, CurationRun
from minigpt4.train.evaluate.photos import EvalPhoto

REVIEW = """
import sys
from pathlib import Path
from minigpt4.train.curate.reviews import Reviews
from minigpt4.train.curate.run_folder import Candidate, CurationRun
from minigpt4.train.evaluate.photos import EvalPhoto
from minigpt4.tui.review.curating import review_in_person

run, *photos = map(Path, sys.argv[1:])
found = [Candidate(EvalPhoto(one.name, "photos", one.read_bytes), "A a boat.", "A boat.") for one in photos]
with Reviews(CurationRun.begin(run, {}), found) as reviews:
    review_in_person(reviews)
"""


@pytest.fixture
def photos(tmp_path: Path, draw_picture: Callable[[Path, int], Path]) -> list[Path]:
    return [draw_picture(tmp_path / "photos" / f"{name}.png", place) for place, name in enumerate("abc")]


@pytest.fixture
def terminal(tmp_path: Path, photos: list[Path]) -> Iterator[Callable[[], pexpect.spawn]]:
    """Start the review in a terminal of its own."""
    begun: list[pexpect.spawn] = []

    def start() -> pexpect.spawn:
        home = {HOME_VARIABLE: str(tmp_path / "home"), "TERM": "xterm-256color", "LANG": "C.UTF-8"}
        child = pexpect.spawn(
            sys.executable,
            ["-P", "-c", REVIEW, str(tmp_path / "run"), *map(str, photos)],
            env={**os.environ, **home},
            dimensions=(24, 80),
            timeout=60,
        )
        begun.append(child)
        return child

    yield start
    for child in begun:
        child.close(force=True)


def test_a_review_that_is_killed_goes_on_where_it_was(
    terminal: Callable[[], pexpect.spawn], tmp_path: Path, photos: list[Path]
) -> None:
    child = terminal()
    child.expect("3 left")
    press(child, "a", "2 left")
    press(child, "d", "1 left")
    child.kill(signal.SIGKILL)
    child.expect(pexpect.EOF)
    child = terminal()
    child.expect("1 left")
    press(child, "u", "2 left")
    press(child, "e", "keeps it")
    child.send("!\x13")
    child.expect("1 left")
    child.send("q")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    candidates = [Candidate(EvalPhoto(one.name, "photos", one.read_bytes), "", "") for one in photos]
    with Reviews(CurationRun.begin(tmp_path / "run", {}), candidates) as reviews:
        assert reviews.kept == {"a.png": "A boat.", "b.png": "A boat.!"}


def press(child: pexpect.spawn, key: str, shown: str) -> None:
    """Press a key until it counts: not before the text can have been read."""
    for _ in range(50):
        child.send(key)
        if child.expect([shown, pexpect.TIMEOUT], timeout=1) == 0:
            return
    pytest.fail(f"{key} never showed {shown}")
