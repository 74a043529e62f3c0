"""The process group of a run, as the trainer uses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class ProcessGroup:
    """A group of one process; DistributedGroup (distributed_group.py) is the group of several."""

    def __init__(self, device: torch.device | None = None, rank: int = 0, world_size: int = 1) -> None:
        """Ranks count from 0; only rank 0 writes and reports. The device is the CPU by default."""
        self.device = device or torch.device("cpu")
        self.rank = rank
        self.world_size = world_size

    def all_reduce(self, tensor: Tensor) -> None:
        """Sum `tensor` (on `device`) over all processes, in place."""

    def all_gather(self, items: Sequence[T]) -> list[T]:
        """The items of all processes, ordered by rank; they must be picklable."""
        return list(items)

    def barrier(self) -> None:
        """Wait until every process has reached this call."""
