"""A run's folder: its recipe, its lock and its log."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from minigpt4.core.errors import UsageError
from minigpt4.train.recipe import Recipe
from minigpt4.train.run.folder import RunFolder

HOLD = """
import sys
from pathlib import Path
from minigpt4.train.run.folder import RunFolder
with RunFolder(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_new_run_needs_an_empty_folder(tmp_path: Path, tiny_recipe: Callable[..., Recipe]) -> None:
    (tmp_path / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(UsageError, match=r"not empty.*--resume"):
        RunFolder(tmp_path).create(tiny_recipe(), {})


def test_a_run_keeps_its_recipe_and_its_places(tmp_path: Path, tiny_recipe: Callable[..., Recipe]) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.locked():
        folder.create(tiny_recipe(steps=7), {"photos": "/trip"})
    assert folder.recipe() == tiny_recipe(steps=7)
    # Known before the first checkpoint, too: a run that is killed then resumes without --data.
    assert folder.places() == {"photos": "/trip"}


def test_a_locked_folder_refuses_a_second_process(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(UsageError, match=rf"\(process {other.pid}\) is training in .*run"),
            RunFolder(run).locked(),
        ):
            pass
        other.kill()
        other.wait()
        with RunFolder(run).locked():
            assert (run / ".lock").read_text().startswith("process ")


def test_truncating_the_log_removes_later_steps_and_keeps_notes(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for row in ({"step": 1, "loss": 2.0}, {"sentence": "Something happened."}, {"step": 2, "loss": 1.0}):
        folder.append(row)
    with folder.log_file.open("a") as file:
        file.write('{"step": 1, "lo')
    folder.truncate_log(1)
    assert folder.log_file.read_text().splitlines() == [
        '{"step": 1, "loss": 2.0}',
        '{"sentence": "Something happened."}',
    ]


def test_a_run_records_where_its_data_are(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.places() == {}
    places = {"people": "/photos/latin\udce9", "things": "https://example.org/{0..9}.tar"}
    folder.write_places(places)
    assert folder.places() == places


@pytest.mark.parametrize("content", ["", "{", "[1]", "7"])
def test_a_damaged_record_of_places_is_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "places.json").write_text(content)
    assert RunFolder(tmp_path).places() == {}
