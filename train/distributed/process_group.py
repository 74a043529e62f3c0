"""The process group of a run, as the trainer uses it: one process, or several (launch.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class ProcessGroup(Protocol):
    """This process among all processes of the run."""

    @property
    def rank(self) -> int:
        """This process's rank, from 0; only rank 0 writes and reports."""
        ...

    @property
    def world_size(self) -> int:
        """The number of processes."""
        ...

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        ...

    def all_reduce(self, tensor: Tensor) -> None:
        """Sum `tensor` (on `device`) over all processes, in place.

        Raises TrainingError with the error of another process, if one failed.
        """
        ...

    def all_gather(self, items: Sequence[T]) -> list[T]:
        """The items of all processes, ordered by rank; they must be picklable."""
        ...

    def barrier(self) -> None:
        """Wait until every process has reached this call."""
        ...


@dataclass(frozen=True)
class SingleProcess:
    """The process group of a run in one process."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rank: int = 0
    world_size: int = 1

    def all_reduce(self, tensor: Tensor) -> None:
        """Nothing to add."""

    def all_gather(self, items: Sequence[T]) -> list[T]:
        """This process's items."""
        return list(items)

    def barrier(self) -> None:
        """Nothing to wait for."""
