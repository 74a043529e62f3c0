"""The process group of a run in several processes, over torch.distributed.

NCCL on GPUs, gloo on CPUs. A process that fails reports its error through the group's store, so that the
others exit with it instead of waiting forever.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch
import torch.distributed as dist

# Imported before a group exists: its functions bind the group at import time as a default argument. When
# transformers imported it later, gloo's threads outlived destroy_process_group, and one of them ended 3 of 18
# runs with SIGABRT after their result had been written.
import torch.distributed.nn.functional
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from minigpt4.core.errors import BackendError
from minigpt4.train.distributed.launch import RankAssignment
from minigpt4.train.distributed.process_group import ProcessGroup, T
from minigpt4.train.errors import PeerFailedError

TIMEOUT = timedelta(minutes=30)
"""How long processes wait for one that is busy with validation, answers or computing features."""

FAILURE = "failure"
FAILURE_WAIT = timedelta(seconds=5)
"""How long a process waits for the error of another that exited."""

NO_FAILURE = (
    "Another process of this run exited without an error; it may have been killed, or memory may have run "
    "out. What was saved is kept: resume training with --resume, an evaluation by the same command."
)


class DistributedGroup(ProcessGroup):
    """The process group of a run in several processes.

    Its collectives raise PeerFailedError, with the error of the other process, if one exited.
    """

    def __init__(self, assignment: RankAssignment, device: torch.device, failures: PrefixStore) -> None:
        super().__init__(device, assignment.rank, assignment.world_size)
        self._failures = failures

    def all_reduce(self, tensor: Tensor) -> None:
        with self._raising_peer_failures():
            dist.all_reduce(tensor)

    def all_gather(self, items: Sequence[T]) -> list[T]:
        gathered: list[Sequence[T]] = [()] * self.world_size
        with self._raising_peer_failures():
            dist.all_gather_object(gathered, items)
        return [item for one in gathered for item in one]

    def barrier(self) -> None:
        self.all_reduce(torch.zeros(1, device=self.device))

    def report_failure(self, error: BaseException) -> None:
        """Report to the others why this process exits, unless that is another one's failure."""
        if isinstance(error, PeerFailedError):
            return
        what = f"has failed: {error}" if isinstance(error, Exception) else "was stopped."
        with suppress(RuntimeError):
            self._failures.set(FAILURE, f"Process {self.rank + 1} of {self.world_size} {what}")

    @contextmanager
    def _raising_peer_failures(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise PeerFailedError(self._peer_failure()) from error

    def raise_peer_failure(self) -> None:
        """Raise PeerFailedError if another process has reported its failure; does not wait."""
        with self._raising_peer_failures():
            has_failed = self._failures.check([FAILURE])
        if has_failed:
            raise PeerFailedError(self._peer_failure())

    def _peer_failure(self) -> str:
        with suppress(RuntimeError):
            self._failures.wait([FAILURE], FAILURE_WAIT)
            failure: bytes = self._failures.get(FAILURE)
            return failure.decode()
        return NO_FAILURE


@contextmanager
def distributed_group(
    assignment: RankAssignment, device: torch.device, timeout: timedelta = TIMEOUT
) -> Iterator[DistributedGroup]:
    """The process group, until the block ends; an error in the block is reported to the other processes.

    `timeout` limits the wait in a collective. Raises BackendError if the others cannot be reached in time.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        store, _, _ = next(
            rendezvous(assignment.init_method, assignment.rank, assignment.world_size, timeout=timeout)
        )
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=PrefixStore("group", store),
            rank=assignment.rank,
            world_size=assignment.world_size,
            timeout=timeout,
        )
    except (RuntimeError, ValueError) as error:
        raise BackendError(
            f"Process {assignment.rank + 1} of {assignment.world_size} cannot reach the others at "
            f"{assignment.init_method} ({error}); check that all were "
            "started with the same address, and that it can be reached."
        ) from error
    process_group = DistributedGroup(assignment, device, PrefixStore("notes", store))
    try:
        yield process_group
        # Rank 0 hosts the store in which the others would look for failures.
        process_group.barrier()
    except BaseException as error:
        process_group.report_failure(error)
        if device.type != "cuda":  # NCCL would wait for processes that exited
            dist.destroy_process_group()
        raise
    dist.destroy_process_group()


def device_of(wanted: str, local_rank: int = 0) -> torch.device:
    """The device of the process with that local rank; "auto" uses a GPU if there is one.

    Raises BackendError if there are fewer GPUs.
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
