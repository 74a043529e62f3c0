"""Several processes evaluate as one does, and end together; the processes are real ones."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest
from PIL import Image

from minigpt4.train.distributed.launch import launch
from minigpt4.train.evaluate.run_folder import EvalRun

ONE_PROCESS = Path(__file__).parent / "one_process.py"
ANIMALS = ("cat", "dog", "bird", "fish", "horse", "cow", "mouse")

Call = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for place, name in enumerate(ANIMALS):
        Image.new("RGB", (32, 32), (30 * place, 90, 120)).save(folder / f"{name}.jpg")
        (folder / f"{name}.txt").write_text(f"A {name if place % 2 else 'tree'} in the sun.")
    return folder


class Evaluate(Protocol):
    """Evaluate in so many processes: the exit code, stdout and stderr of all of them."""

    def __call__(self, run: Path, count: int) -> tuple[int, str, str]: ...


@pytest.fixture
def evaluate(
    data: Path,
    tmp_path: Path,
    mini_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Evaluate:
    monkeypatch.setenv("ASKED", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def evaluate(run: Path, count: int) -> tuple[int, str, str]:
        capfd.readouterr()
        command = [sys.executable, str(ONE_PROCESS), *arguments(data, run)]
        return launch(command, count), *capfd.readouterr()

    return evaluate


def arguments(data: Path, run: Path) -> list[str]:
    return ["eval", "subjects", "--data", str(data), "--output", str(run), "--json"]


def asked(tmp_path: Path, rank: int) -> list[str]:
    """The pictures that a process has asked about."""
    file = tmp_path / str(rank)
    names = file.read_text().split() if file.exists() else []
    file.unlink(missing_ok=True)
    return names


def test_two_processes_have_the_scores_of_one(evaluate: Evaluate, tmp_path: Path) -> None:
    one_code, one, _ = evaluate(tmp_path / "one", 1)
    assert sorted(asked(tmp_path, 0)) == sorted(f"{name}.jpg" for name in ANIMALS)
    code, two, err = evaluate(tmp_path / "two", 2)
    assert (one_code, code, err) == (0, 0, "")
    assert json.loads(one)["answers"] == len(ANIMALS)
    assert two == one, "values and intervals, printed once"
    mine, its = asked(tmp_path, 0), asked(tmp_path, 1)
    assert (len(mine), len(its)) == (4, 3)
    assert set(mine).isdisjoint(its)


def test_a_failing_process_ends_all_with_its_error_and_another_number_resumes(
    evaluate: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    monkeypatch.setenv("FAILS_AT", "horse.jpg")
    code, out, err = evaluate(run, 2)
    assert (code, out) == (1, "")
    assert "minigpt4: The model has run out of memory at horse.jpg." in err
    assert len(err.splitlines()) <= 2
    kept = {record.photo for record in EvalRun.open(run).records()}
    assert kept and "horse.jpg" not in kept
    for rank in range(2):
        assert set(asked(tmp_path, rank)) <= kept
    monkeypatch.delenv("FAILS_AT")
    code, out, err = evaluate(run, 3)
    assert code == 0
    assert f"Resuming: {len(kept)} of {len(ANIMALS)} answers are there." in err
    asked_now = [name for rank in range(3) for name in asked(tmp_path, rank)]
    assert sorted(asked_now) == sorted({f"{name}.jpg" for name in ANIMALS} - kept), "each one once"
    assert out == evaluate(tmp_path / "one", 1)[1], "as if it had not failed"


def test_a_run_that_is_being_written_is_refused_in_one_sentence(evaluate: Evaluate, tmp_path: Path) -> None:
    assert evaluate(tmp_path / "run", 1)[0] == 0
    with EvalRun.open(tmp_path / "run").locked():
        code, out, err = evaluate(tmp_path / "run", 2)
    assert code in (1, 2), "of the first one, or of the other one that ends with it"
    assert (out, len(err.splitlines())) == ("", 1)
    assert "is being written by another process" in err


def test_more_processes_than_pictures(evaluate: Evaluate, tmp_path: Path, data: Path) -> None:
    for name in ANIMALS[2:]:
        (data / f"{name}.jpg").unlink()
        (data / f"{name}.txt").unlink()
    code, out, _ = evaluate(tmp_path / "run", 3)
    assert code == 0
    assert json.loads(out)["answers"] == 2


def test_torchrun(evaluate: Evaluate, data: Path, tmp_path: Path) -> None:
    one = evaluate(tmp_path / "one", 1)[1]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    torchrun += ["--master-port", str(port), str(ONE_PROCESS), *arguments(data, tmp_path / "two")]
    done = subprocess.run(torchrun, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == one


def test_devices_with_mini_itself(data: Path, tmp_path: Path, mini_home: Path, run_minigpt4: Call) -> None:
    def scores(run: str, *more: str) -> Any:
        done = run_minigpt4(*arguments(data, tmp_path / run), "--max-tokens", "4", "--limit", "4", *more)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    two = scores("two", "--devices", "2")
    assert two == scores("one")
    assert two["answers"] == 4
    assert sorted(path.name for path in (tmp_path / "two").glob("answers*")) == [
        "answers-1.jsonl",
        "answers.jsonl",
    ]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (
            ["--devices", "2"],
            "The 2 processes need a folder that all of them write to; give one with --output.",
        ),
        (["--devices", "0"], "--devices"),
    ],
)
def test_processes_without_a_folder_are_refused(
    data: Path, more: Sequence[str], sentence: str, call_minigpt4: Call
) -> None:
    refused = call_minigpt4("eval", "subjects", "--data", data, *more)
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert sentence in refused.stderr


def test_a_gpu_is_not_chosen_for_several_processes(
    data: Path, tmp_path: Path, call_minigpt4: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "RANK", "0")
    monkeypatch.setitem(os.environ, "WORLD_SIZE", "2")
    refused = call_minigpt4(*arguments(data, tmp_path / "run"), "--device", "cuda:1")
    assert refused.returncode == 2
    assert "for several processes give auto, cpu or cuda" in refused.stderr
