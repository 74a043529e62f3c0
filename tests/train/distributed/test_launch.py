"""Several processes train as one does, and exit together."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from minigpt4.core.errors import BackendError, UsageError
from minigpt4.train.distributed.distributed_group import device_of
from minigpt4.train.distributed.launch import RankAssignment, first_host, launch, rank_assignment

ONE_PROCESS = Path(__file__).parent / "one_process.py"
LAUNCH = """
import sys
from minigpt4.train.distributed.launch import launch
sys.exit(launch(sys.argv[2:], int(sys.argv[1])))
"""

THREADS = """
import os, sys
from pathlib import Path
import torch
from minigpt4.train.distributed.distributed_group import distributed_group
from minigpt4.train.distributed.launch import rank_assignment

def names():
    return [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]

assignment = rank_assignment(os.environ)
with distributed_group(assignment, torch.device("cpu")) as group:
    import torch.distributed.nn  # as transformers does
    group.barrier()
    during = names()
print(*during, "then", *names(), file=Path(sys.argv[1], str(assignment.rank)).open("w"))
"""


def command(folder: Path, what: str = "trains") -> list[str]:
    return [sys.executable, str(ONE_PROCESS), str(folder), what]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def trained_by(folder: Path, count: int) -> dict[str, Any]:
    place = folder / str(count)
    place.mkdir()
    assert launch(command(place), count) == 0
    found: dict[str, Any] = json.loads((place / "rows.json").read_text())
    return found


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are read from /proc")
def test_gloos_threads_end_with_the_group(folder: Path) -> None:
    """One that still runs while the interpreter shuts down may end the process with SIGABRT."""
    assert launch([sys.executable, "-c", THREADS, str(folder)], 2) == 0
    for rank in ("0", "1"):
        during, after = (folder / rank).read_text().split(" then ")
        assert "gloo" in during
        assert "gloo" not in after


def test_one_two_and_four_processes_have_the_same_losses(folder: Path) -> None:
    one, two, four = (trained_by(folder, count) for count in (1, 2, 4))
    assert one["gathered"] == ["process 0"]
    assert two["gathered"] == ["process 0", "process 1", "process 1"]
    for several in (two, four):
        for mine, its in zip(one["rows"], several["rows"], strict=True):
            for name in ("loss", "grad_norm", "val_loss"):
                assert its.get(name) == pytest.approx(mine.get(name), rel=1e-5)
            assert its.get("label_tokens") == mine.get("label_tokens")
        torch.testing.assert_close(
            torch.tensor(one["weight"]), torch.tensor(several["weight"]), atol=1e-5, rtol=1e-5
        )


def test_two_machines_under_torchrun_have_the_losses_of_one_process(folder: Path) -> None:
    one = trained_by(folder, 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    torchrun += ["--rdzv-backend", "c10d", "--rdzv-endpoint", place, str(ONE_PROCESS), str(folder), "trains"]
    machines = [subprocess.Popen(torchrun, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for machine in machines:
        _, errors = machine.communicate(timeout=120)
        assert machine.returncode == 0, errors
    two = json.loads((folder / "rows.json").read_text())
    assert two["gathered"] == ["process 0", "process 1", "process 1"]
    for mine, its in zip(one["rows"], two["rows"], strict=True):
        assert its.get("loss") == pytest.approx(mine.get("loss"), rel=1e-5)


def test_a_failing_process_ends_the_others_with_its_error(folder: Path) -> None:
    assert launch(command(folder, "raises"), 2) in (1, 3)
    error = (folder / "error-0").read_text()
    assert error == "Process 2 of 2 has failed: the picture of a tiger cannot be read"


def test_a_killed_process_ends_the_others(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert launch(command(folder, "is killed"), 2) == 128 + signal.SIGKILL
    assert "Process 2 of 2 was killed by signal 9 (SIGKILL)" in capfd.readouterr().err
    assert "Another process of this run exited without an error" in (folder / "error-0").read_text()


def test_processes_die_with_a_killed_parent(folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", LAUNCH, "2", *command(folder, "hangs")]) as parent:
        files = [folder / f"process-{rank}" for rank in range(2)]
        end = time.monotonic() + 60
        while not all(file.is_file() and file.read_text() for file in files):
            assert parent.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)
        children = [int(file.read_text()) for file in files]
        parent.kill()
    while any(_runs(child) for child in children):
        assert time.monotonic() < end
        time.sleep(0.02)


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_torchrun_assigns_ranks() -> None:
    environment = {"RANK": "9", "WORLD_SIZE": "16", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "8"}
    assert rank_assignment(environment) == RankAssignment(9, 16, 1, 8, "env://")


def test_srun_assigns_ranks() -> None:
    environment = {
        "SLURM_STEP_NUM_TASKS": "16",
        "SLURM_STEP_NUM_NODES": "2",
        "SLURM_STEP_NODELIST": "gpu[07-08]",
        "SLURM_PROCID": "9",
        "SLURM_LOCALID": "1",
        "SLURM_JOB_ID": "4000123",
    }
    assert rank_assignment(environment) == RankAssignment(9, 16, 1, 8, "tcp://gpu07:20123")
    assert rank_assignment(environment | {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "999"}) == RankAssignment(
        9, 16, 1, 8, "tcp://10.0.0.1:999"
    )


def test_a_batch_script_without_srun_is_a_single_process() -> None:
    assert rank_assignment({"SLURM_PROCID": "0", "SLURM_NTASKS": "16", "SLURM_JOB_ID": "1"}) is None
    assert rank_assignment({}) is None


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"RANK": "4", "WORLD_SIZE": "4"}, "is 4 of 4; correct RANK and WORLD_SIZE"),
        ({"RANK": "one", "WORLD_SIZE": "4"}, "RANK is 'one'; it must be a whole number"),
    ],
)
def test_an_invalid_rank_is_an_error(environment: dict[str, str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        rank_assignment(environment)


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("gpu07", "gpu07"),
        ("gpu[03-05,9],login", "gpu03"),
        ("a1,b2", "a1"),
        ("n[1]-ib", "n1"),
        ("", "127.0.0.1"),
    ],
)
def test_the_first_host_of_a_node_list(nodes: str, host: str) -> None:
    assert first_host(nodes) == host


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_auto_selects_the_cpu() -> None:
    assert device_of("auto", 3) == torch.device("cpu")
    with pytest.raises(BackendError, match="Process 4 of this machine has no GPU"):
        device_of("cuda", 3)


def test_the_cores_are_divided_among_the_processes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    program = f"import os; open('{folder}/' + os.environ['RANK'], 'w').write(os.environ['OMP_NUM_THREADS'])"
    assert launch([sys.executable, "-c", program], 2) == 0
    threads = [int((folder / str(rank)).read_text()) for rank in range(2)]
    assert threads == [max(1, len(os.sched_getaffinity(0)) // 2)] * 2
