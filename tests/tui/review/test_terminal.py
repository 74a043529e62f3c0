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
from minigpt4.train.evaluate.run_folder import EvalRun
from minigpt4.train.evaluate.suite import Verdict

InTerminal = Callable[..., pexpect.spawn]

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
def in_terminal(tmp_path: Path) -> Iterator[InTerminal]:
    """Run Python code with arguments in a terminal of its own."""
    begun: list[pexpect.spawn] = []

    def start(code: str, *arguments: str) -> pexpect.spawn:
        home = {HOME_VARIABLE: str(tmp_path / "home"), "TERM": "xterm-256color", "LANG": "C.UTF-8"}
        child = pexpect.spawn(
            sys.executable,
            ["-P", "-c", code, *arguments],
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
    in_terminal: InTerminal, tmp_path: Path, photos: list[Path]
) -> None:
    child = in_terminal(REVIEW, str(tmp_path / "run"), *map(str, photos))
    child.expect("3 left")
    press(child, "a", "2 left")
    press(child, "d", "1 left")
    child.kill(signal.SIGKILL)
    child.expect(pexpect.EOF)
    child = in_terminal(REVIEW, str(tmp_path / "run"), *map(str, photos))
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


JUDGE = """
from minigpt4.train.evaluate import suites
from minigpt4.train.evaluate.scores import Score
from minigpt4.train.evaluate.suite import JudgeTask, Suite

class Agree(Suite):
    name = "agree"
    def tasks(self, photos, options):
        return iter(())
    def scores(self, records, verdicts=()):
        said = {one.judge + one.id: (one.value, 1.0) for one in verdicts if one.value is not None}
        return [Score("true", said, is_rate=True)]
    def judge_tasks(self, records, seed=0):
        return [JudgeTask(one.id, "true", "", "Is it true?", one.answer, True) for one in records]

suites.SUITES["agree"] = Agree
from minigpt4.tui.cli import main
main()
"""


def test_a_person_judges_two_runs_and_is_told_the_agreement_with_others(
    in_terminal: InTerminal, judged_run: Callable[..., EvalRun], tmp_path: Path
) -> None:
    runs = [judged_run(name) for name in ("one", "two")]
    with runs[0].verdicts_file() as file:
        for record, value in zip(runs[0].records(), (1.0, 1.0, 0.0, 0.0), strict=True):
            file.add(Verdict(record.id, "bob", "true", value, "yes" if value else "no"))
    command = ["eval", "judge", *(str(run.path) for run in runs), "--name", "ann"]
    child = in_terminal(JUDGE, *command, "--data", str(tmp_path / "pictures"))
    child.expect("0 of 8 judged")
    for done in range(1, 9):
        press(child, "y", f"{done} of 8 judged")
    child.send("q")
    child.expect(pexpect.EOF)
    printed = child.before.decode()
    child.close()
    assert child.exitstatus == 0, printed
    assert all(len([one for one in run.verdicts() if one.judge == "ann"]) == 4 for run in runs)
    assert "ann" in printed and "bob" in printed and "kappa" in printed
    assert "true" in printed
