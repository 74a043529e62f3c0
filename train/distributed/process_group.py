"""The processes that train one model together, as the trainer sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class World(Protocol):
    """This process among those that make each step together."""

    @property
    def rank(self) -> int:
        """Its number, from 0; rank 0 alone writes and reports."""
        ...

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    @property
    def device(self) -> torch.device:
        """Where this one computes."""
        ...

    def all_reduce(self, tensor: Tensor) -> None:
        """Make `tensor` (on `device`) the sum of every process's, in place.

        Raises TrainingError with the reason of the one that has failed, if any has.
        """
        ...

    def gather(self, items: Sequence[T]) -> list[T]:
        """Every process's items, in the order of their ranks; they must be picklable."""
        ...

    def barrier(self) -> None:
        """Return once every process has come here."""
        ...


@dataclass(frozen=True)
class Alone:
    """A single process."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rank: int = 0
    size: int = 1

    def all_reduce(self, tensor: Tensor) -> None:
        """The sum of one is itself."""

    def gather(self, items: Sequence[T]) -> list[T]:
        """Its own are all there are."""
        return list(items)

    def barrier(self) -> None:
        """Nobody to wait for."""
