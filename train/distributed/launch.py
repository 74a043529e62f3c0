"""The processes of a run, started here (`--devices`), by torchrun or by SLURM, and their ranks."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from minigpt4.core.cores import threads_for
from minigpt4.core.errors import UsageError

RENDEZVOUS = "MINIGPT4_RENDEZVOUS"
"""The file through which processes that were started here rendezvous."""

GRACE_S = 10.0
"""Time from the exit of one process until the others, which should exit by themselves, are killed."""

SLURM_PORTS = 20_000
"""A job's id selects one of the ports 20000 to 39999, so that all its nodes use the same one."""


@dataclass(frozen=True)
class RankAssignment:
    """This process's ranks, as assigned by its launcher."""

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    init_method: str
    """torch.distributed's `init_method`."""

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise UsageError(
                f"The rank of this process is {self.rank} of {self.world_size}; correct RANK and WORLD_SIZE "
                "(ranks begin at 0)."
            )


def rank_assignment(environment: Mapping[str, str]) -> RankAssignment | None:
    """The ranks that torchrun, SLURM's srun or `--devices` assigned; None for a single process.

    Raises UsageError if the variables contradict each other.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        rank, size = _number(environment, "RANK"), _number(environment, "WORLD_SIZE")
        local_world_size = _number(environment, "LOCAL_WORLD_SIZE", size)
        return RankAssignment(
            rank,
            size,
            _number(environment, "LOCAL_RANK", rank % max(1, local_world_size)),
            local_world_size,
            environment.get(RENDEZVOUS, "env://"),
        )
    # A batch script itself has SLURM_PROCID too; only processes of srun have a step of several tasks.
    if _number(environment, "SLURM_STEP_NUM_TASKS", 1) > 1:
        port = SLURM_PORTS + _number(environment, "SLURM_JOB_ID", 0) % SLURM_PORTS
        host = environment.get("MASTER_ADDR") or first_host(environment.get("SLURM_STEP_NODELIST", ""))
        tasks = _number(environment, "SLURM_STEP_NUM_TASKS")
        nodes = _number(environment, "SLURM_STEP_NUM_NODES", 1)
        return RankAssignment(
            _number(environment, "SLURM_PROCID"),
            tasks,
            _number(environment, "SLURM_LOCALID", 0),
            -(-tasks // nodes),
            f"tcp://{host}:{environment.get('MASTER_PORT', port)}",
        )
    return None


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError:
        raise UsageError(f"The variable {name} is {text!r}; it must be a whole number.") from None


def first_host(nodes: str) -> str:
    """The first host of a SLURM node list: `gpu[03-05,9],login` is `gpu03`."""
    head = re.match(r"([^,\[]+)(?:\[(\d+))?", nodes)
    return "127.0.0.1" if head is None else head[1] + (head[2] or "")


def launch(command: Sequence[str], count: int, *, stdout: int | None = None) -> int:
    """Run `command` in `count` processes of this machine, as one run; returns the exit code.

    `stdout` is passed to `subprocess.Popen`. SIGINT and SIGTERM are forwarded once. If one process fails,
    the others end too, and its exit code is returned.
    """
    with tempfile.TemporaryDirectory(prefix="minigpt4-") as folder:
        environment = {
            **os.environ,
            "WORLD_SIZE": str(count),
            "LOCAL_WORLD_SIZE": str(count),
            RENDEZVOUS: (Path(folder) / "meeting").as_uri(),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads_for(None, processes=count))),
        }
        # A session of their own: Ctrl+C in the terminal must reach them once, through this process. Their
        # stdin is a pipe that only this process holds, so that they end with it even if it is killed.
        children = [
            subprocess.Popen(
                list(command),
                env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdin=subprocess.PIPE,
                stdout=stdout,
                start_new_session=True,
            )
            for rank in range(count)
        ]
        with _forwarding_signals(children):
            return _wait(children)


def end_with_parent() -> None:
    """In a process started by `launch`: exit when the parent process does."""
    if RENDEZVOUS not in os.environ:
        return

    def wait() -> None:
        with suppress(OSError, ValueError):
            while os.read(0, 1):
                pass
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True, name="end-with-parent").start()


@contextmanager
def _forwarding_signals(children: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    def forward(number: int, _frame: FrameType | None) -> None:
        for child in children:
            with suppress(ProcessLookupError):
                child.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(children: Sequence[subprocess.Popen[bytes]]) -> int:
    """The exit code of the first process that failed, or 0."""
    while not any(codes := [child.poll() for child in children]):  # all are None (running) or 0
        if None not in codes:
            return 0
        time.sleep(0.05)
    failed, code = next((number, code) for number, code in enumerate(codes, start=1) if code)
    end = time.monotonic() + GRACE_S
    for child in children:
        try:
            child.wait(timeout=max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    if code < 0:
        print(
            f"minigpt4: Process {failed} of {len(children)} was killed by signal {-code} "
            f"({signal.Signals(-code).name}); if you did not send it, memory may have run out.",
            file=sys.stderr,
        )
        return 128 - code
    return code
