"""How many threads compute: what the process may use counts, not what the machine has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt4.core import cores
from minigpt4.core.cores import threads_for, too_many_threads, usable_cores

MACHINE = 8


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The control groups of a machine with eight cores, none of them limited; this process is in /a/b."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(MACHINE)), raising=False)
    monkeypatch.setattr(cores, "CGROUPS", tmp_path)
    monkeypatch.setattr(cores, "OWN_CGROUPS", tmp_path / "cgroup")
    (tmp_path / "cgroup").write_text("9:memory:/a/b\n4:cpu,cpuacct:/a/b\n0::/a/b\n")
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "cpu" / "a" / "b").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize("folder", ["", "a", "a/b"])
@pytest.mark.parametrize(
    ("limit", "usable"),
    [
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("50000 100000", 1),
        ("1000 100000", 1),
        ("6400000 100000", MACHINE),
        ("max 100000", MACHINE),
        ("", MACHINE),
        ("nonsense", MACHINE),
        ("0 100000", MACHINE),
        ("100000 0", MACHINE),
    ],
)
def test_a_quota_of_a_group_or_of_one_above_it_bounds_the_cores(
    groups: Path, folder: str, limit: str, usable: int
) -> None:
    (groups / folder / "cpu.max").write_text(limit)
    assert usable_cores() == usable


@pytest.mark.parametrize(
    ("quota", "period", "usable"), [("300000", "100000", 3), ("-1", "100000", MACHINE), ("25000", "50000", 1)]
)
def test_so_does_one_of_the_first_version_of_control_groups(
    groups: Path, quota: str, period: str, usable: int
) -> None:
    (groups / "cpu" / "a" / "cpu.cfs_quota_us").write_text(quota)
    (groups / "cpu" / "a" / "cpu.cfs_period_us").write_text(period)
    assert usable_cores() == usable


def test_the_least_of_several_quotas_counts(groups: Path) -> None:
    (groups / "a" / "cpu.max").write_text("300000 100000")
    (groups / "a" / "b" / "cpu.max").write_text("500000 100000")
    assert usable_cores() == 3


def test_in_a_container_that_is_told_its_path_on_the_host_the_limit_is_at_the_root(groups: Path) -> None:
    (groups / "cgroup").write_text("0::/docker/0123\n")
    (groups / "cpu.max").write_text("100000 100000")
    assert usable_cores() == 1


def test_a_system_without_control_groups_is_not_limited(groups: Path) -> None:
    (groups / "cgroup").unlink()
    assert usable_cores() == MACHINE


@pytest.mark.parametrize(
    ("said", "threads"),
    [("3", 3), (" 3 ", 3), ("5,2", 5), ("100", MACHINE), ("0", MACHINE), ("", MACHINE), ("all", MACHINE)],
)
@pytest.mark.usefixtures("groups")
def test_the_users_own_number_goes_before_the_cores(
    said: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert threads_for(None) == threads
    assert threads_for(2) == 2, "an option goes before the environment"


@pytest.mark.usefixtures("groups")
def test_processes_of_one_machine_share_its_cores() -> None:
    assert [threads_for(None, processes=processes) for processes in (1, 2, 3, 8, 100)] == [8, 4, 2, 1, 1]
    assert threads_for(6, processes=8) == 6


@given(wanted=st.none() | st.integers(1, 10_000), processes=st.integers(1, 1000))
def test_there_is_a_thread_and_never_more_than_cores(wanted: int | None, processes: int) -> None:
    assert 1 <= threads_for(wanted, processes=processes) <= usable_cores()
    assert (too_many_threads(wanted) is None) == (wanted is None or wanted <= usable_cores())


@pytest.mark.usefixtures("groups")
def test_too_many_threads_are_told_of_with_what_will_be_done() -> None:
    assert too_many_threads(1000) == "--threads is 1000 and this process may use 8 cores, so 8 compute."


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_one_core_of_the_affinity_is_one_thread_of_torch() -> None:
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); import torch\n"
        "from minigpt4.core.cores import threads_for, too_many_threads, use_torch_threads\n"
        "torch.set_num_threads(4); use_torch_threads(None)\n"
        "print(threads_for(None), torch.get_num_threads(), too_many_threads(2))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1 1 --threads is 2 and this process may use 1 core, so 1 compute.\n"
