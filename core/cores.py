"""How many processor cores this process may use, and how many threads compute on them.

The machine's load is ignored: beside two busy loops on two cores, two threads that soon sleep at their
barriers get half of the machine, and one thread gets a third of it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Cores that this process may use: those of its affinity, at most its container's quota rounded up."""
    # macOS and Windows do not report the affinity.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *map(math.ceil, _quotas())]))


def threads_for(wanted: int | None, *, processes: int = 1) -> int:
    """The number of threads for a process that requests `wanted`, at most `usable_cores()`.

    None: OMP_NUM_THREADS, else the process's share of the cores when `processes` share this machine.
    """
    cores = usable_cores()
    return min(wanted or _of_environment() or max(1, cores // processes), cores)


def too_many_threads(wanted: int | None) -> str | None:
    """A warning about more threads than cores, which would only wait for each other; None if they fit."""
    cores = usable_cores()
    if wanted is None or wanted <= cores:
        return None
    usable = "1 core" if cores == 1 else f"{cores} cores"
    return f"--threads is {wanted} and this process may use {usable}, so {cores} compute."


def use_torch_threads(wanted: int | None, *, processes: int = 1) -> None:
    """Let torch compute with `threads_for(wanted)` in the whole process.

    If `wanted` is None, at most torch's current number: it counts a core with two hardware threads once.
    """
    import torch

    threads = threads_for(wanted, processes=processes)
    torch.set_num_threads(threads if wanted else min(threads, torch.get_num_threads()))


def _of_environment() -> int | None:
    """OMP_NUM_THREADS; of a list, only the first number, for the outermost level, counts here."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) or None if first.isdecimal() else None


def _quotas() -> Iterator[float]:
    """The limits on processor time, in cores, of this process's control groups and all above them."""
    try:
        lines = OWN_CGROUPS.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = CGROUPS / "cpu" if controllers else CGROUPS
        # A container may see its path on the host, which is not there; its own limit is the root's.
        own = root / path.lstrip("/")
        for folder in (own, *own.parents):
            quota = _version1(folder) if controllers else _version2(folder)
            if quota is not None:
                yield quota
            if folder == root:
                break


def _version2(folder: Path) -> float | None:
    return _cores_of(_words(folder / "cpu.max"))


def _version1(folder: Path) -> float | None:
    return _cores_of(_words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us"))


def _cores_of(words: list[str]) -> float | None:
    """Time over period; without a limit the time is "max" or -1."""
    if len(words) != 2 or not all(word.isdecimal() for word in words):
        return None
    time, period = map(int, words)
    return time / period if time and period else None


def _words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return []
