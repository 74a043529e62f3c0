"""Several processes that train one model: started here, by torchrun, or by SLURM.

Every process computes its share of each step; sums over all of them are made by
torch.distributed, through NCCL on GPUs and gloo on CPUs. A process that fails leaves a note for the
others, who end with it instead of waiting for ever.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from minigpt4.core.errors import BackendError, UsageError
from minigpt4.train.distributed.process_group import T
from minigpt4.train.errors import TrainingElsewhereError

RENDEZVOUS = "MINIGPT4_RENDEZVOUS"
"""The file through which processes that were started here find each other."""

PATIENCE = timedelta(minutes=30)
"""How long processes wait for one that is busy: with validation, with answers, with looking at photos."""

NOTE = "failure"
NOTE_WAIT_S = 5.0
"""How long a process whose neighbour has gone waits for that one's last words."""

NO_NOTE = (
    "Another process of this run ended without a word; it may have been killed, or memory may have run out. "
    "Go on from the last checkpoint with --resume."
)

GRACE_S = 10.0
"""From one process's end until the others, which should end by themselves, are ended."""

SLURM_PORTS = 20_000
"""Ports 20000 to 39999 are drawn from by a job's number, so that all its nodes know the same one."""


@dataclass(frozen=True)
class Seat:
    """This process's place among those that were started together."""

    rank: int
    size: int
    local_rank: int
    local_size: int
    meeting_point: str
    """Where they find each other, as torch.distributed's `init_method`."""


def seat_from(environment: Mapping[str, str]) -> Seat | None:
    """The place that torchrun, SLURM's srun or `--devices` gave to this process; None where it is alone.

    Raises UsageError where the variables contradict each other.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        size = _number(environment, "WORLD_SIZE")
        local_size = _number(environment, "LOCAL_WORLD_SIZE", size)
        return _seat(
            _number(environment, "RANK"),
            size,
            _number(environment, "LOCAL_RANK", _number(environment, "RANK") % max(1, local_size)),
            local_size,
            environment.get(RENDEZVOUS, "env://"),
        )
    # A batch script itself has SLURM_PROCID too; only what srun starts has a step of several tasks.
    if _number(environment, "SLURM_STEP_NUM_TASKS", 1) > 1:
        port = SLURM_PORTS + _number(environment, "SLURM_JOB_ID", 0) % SLURM_PORTS
        host = environment.get("MASTER_ADDR") or first_host(environment.get("SLURM_STEP_NODELIST", ""))
        tasks = _number(environment, "SLURM_STEP_NUM_TASKS")
        nodes = _number(environment, "SLURM_STEP_NUM_NODES", 1)
        return _seat(
            _number(environment, "SLURM_PROCID"),
            tasks,
            _number(environment, "SLURM_LOCALID", 0),
            -(-tasks // nodes),
            f"tcp://{host}:{environment.get('MASTER_PORT', port)}",
        )
    return None


def _seat(rank: int, size: int, local_rank: int, local_size: int, meeting_point: str) -> Seat:
    if not 0 <= rank < size:
        raise UsageError(
            f"This process is told to be number {rank} of {size}; correct RANK and WORLD_SIZE (from 0)."
        )
    return Seat(rank, size, local_rank, local_size, meeting_point)


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


class Together:
    """A World of several processes."""

    def __init__(self, seat: Seat, device: torch.device, notes: PrefixStore) -> None:
        self.rank = seat.rank
        self.size = seat.size
        self.device = device
        self._notes = notes

    def all_reduce(self, tensor: Tensor) -> None:
        """Make `tensor` the sum of every process's, in place; TrainingError where one of them has gone."""
        with self._hearing_of_failures():
            dist.all_reduce(tensor)

    def gather(self, items: Sequence[T]) -> list[T]:
        """Every process's items, in the order of their ranks; TrainingError where one of them has gone."""
        gathered: list[Sequence[T]] = [()] * self.size
        with self._hearing_of_failures():
            dist.all_gather_object(gathered, items)
        return [item for one in gathered for item in one]

    def barrier(self) -> None:
        """Return once every process has come here; TrainingError where one of them has gone."""
        self.all_reduce(torch.zeros(1, device=self.device))

    def leave_note(self, error: BaseException) -> None:
        """Tell the others why this process ends, unless it has been told itself."""
        if isinstance(error, TrainingElsewhereError):
            return
        what = f"has failed: {error}" if isinstance(error, Exception) else "was stopped."
        with suppress(RuntimeError):
            self._notes.set(NOTE, f"Process {self.rank + 1} of {self.size} {what}")

    @contextmanager
    def _hearing_of_failures(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise TrainingElsewhereError(self._note() or NO_NOTE) from error

    def _note(self) -> str:
        end = time.monotonic() + NOTE_WAIT_S
        while time.monotonic() < end:
            with suppress(RuntimeError):
                if self._notes.check([NOTE]):
                    note: bytes = self._notes.get(NOTE)
                    return note.decode()
            time.sleep(0.05)
        return ""


@contextmanager
def joined(seat: Seat, device: torch.device) -> Iterator[Together]:
    """Meet the others, and part from them at the end; what the block raises is told to them.

    Raises BackendError where they are not met in time.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        store, _, _ = next(rendezvous(seat.meeting_point, seat.rank, seat.size, timeout=PATIENCE))
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=PrefixStore("group", store),
            rank=seat.rank,
            world_size=seat.size,
            timeout=PATIENCE,
        )
    except (RuntimeError, ValueError) as error:
        raise BackendError(
            f"Process {seat.rank + 1} of {seat.size} did not meet the others at {seat.meeting_point} "
            f"({error}); check that all were started with the same address, and that it can be reached."
        ) from error
    world = Together(seat, device, PrefixStore("notes", store))
    try:
        yield world
        # The first one holds the store in which the others would look for notes.
        world.barrier()
    except BaseException as error:
        world.leave_note(error)
        if device.type != "cuda":  # NCCL would wait for those that have gone
            dist.destroy_process_group()
        raise
    dist.destroy_process_group()


def device_of(wanted: str, local_rank: int = 0) -> torch.device:
    """The device of the process with that number on its machine; "auto" takes a GPU where there is one.

    Raises BackendError for a GPU that is not there.
    """
    count = torch.cuda.device_count()
    if wanted == "cpu" or (wanted == "auto" and count == 0):
        return torch.device("cpu")
    if local_rank >= count:
        raise BackendError(
            f"Process {local_rank + 1} of this machine has no GPU: torch sees {count}; start as many "
            "processes as there are GPUs, or choose `--device cpu`."
        )
    return torch.device("cuda", local_rank)


# -- starting them --------------------------------------------------------------------------------


def launch(command: Sequence[str], count: int) -> int:
    """Run `command` in `count` processes of this machine, as one run; returns the exit code.

    Ctrl+C and a terminate request are passed on once. Where one process fails the others end too, and its
    exit code is returned.
    """
    with tempfile.TemporaryDirectory(prefix="minigpt4-") as folder:
        environment = {
            **os.environ,
            "WORLD_SIZE": str(count),
            "LOCAL_WORLD_SIZE": str(count),
            RENDEZVOUS: (Path(folder) / "meeting").as_uri(),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, _cores() // count))),
        }
        # A session of their own: Ctrl+C in the terminal must reach them once, through us. Their input is
        # a pipe that only we hold, so that they end with us even where we are killed.
        children = [
            subprocess.Popen(
                list(command),
                env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdin=subprocess.PIPE,
                start_new_session=True,
            )
            for rank in range(count)
        ]
        with _passing_on(children):
            return _wait(children)


def end_with_parent() -> None:
    """In a process that `launch` started: end when the one that started it does."""
    if RENDEZVOUS not in os.environ:
        return

    def wait() -> None:
        with suppress(OSError, ValueError):
            while os.read(0, 1):
                pass
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True, name="end-with-parent").start()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _passing_on(children: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    def pass_on(number: int, _frame: FrameType | None) -> None:
        for child in children:
            with suppress(ProcessLookupError):
                child.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(children: Sequence[subprocess.Popen[bytes]]) -> int:
    """The exit code of the first process that failed, or of the first of all."""
    failed = _first_end(children, lambda child: child.returncode != 0)
    if failed is None:
        return 0
    end = time.monotonic() + GRACE_S
    while any(child.poll() is None for child in children) and time.monotonic() < end:
        time.sleep(0.05)
    for child in children:
        if child.poll() is None:
            child.kill()
        child.wait()
    code = failed.returncode
    if code < 0:
        place = list(children).index(failed) + 1
        print(
            f"minigpt4: Process {place} of {len(children)} was ended by signal {-code} "
            f"({signal.Signals(-code).name}); if nobody sent it, memory may have run out.",
            file=sys.stderr,
        )
        return 128 - code
    return code


def _first_end(
    children: Sequence[subprocess.Popen[bytes]], has_failed: Callable[[subprocess.Popen[bytes]], bool]
) -> subprocess.Popen[bytes] | None:
    """Wait until one has failed, which is returned, or all have ended well."""
    while True:
        running = [child for child in children if child.poll() is None]
        for child in children:
            if child.returncode is not None and has_failed(child):
                return child
        if not running:
            return None
        with suppress(subprocess.TimeoutExpired):
            running[0].wait(timeout=0.1)
