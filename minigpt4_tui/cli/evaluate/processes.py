"""An evaluation in several processes, which `--devices`, torchrun or SLURM started: each takes its share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

import typer

from minigpt4.core.errors import UsageError

if TYPE_CHECKING:
    from minigpt4.core.engine_options import EngineOptions
    from minigpt4.train.distributed.launch import RankAssignment

TIMEOUT = timedelta(days=7)
"""How long a process waits for the slowest one, or for the first one's downloads."""


@dataclass(frozen=True)
class Processes:
    """This process among those of one evaluation; by default the only one."""

    rank: int = 0
    count: int = 1
    wait: Callable[[], object] = lambda: None
    """A barrier for all processes; raises PeerFailedError if one has failed."""

    check: Callable[[], object] = lambda: None
    """Raise PeerFailedError if one has failed."""

    @property
    def is_first(self) -> bool:
        """Whether this process begins the run and reports."""
        return self.rank == 0


def start_processes(count: int) -> NoReturn:
    """Run this command in `count` processes; raises typer.Exit with their exit code when they have ended."""
    from minigpt4.train.distributed.launch import launch

    raise typer.Exit(launch([sys.executable, "-P", "-m", "minigpt4.tui", *sys.argv[1:]], count))


def assigned_ranks() -> RankAssignment | None:
    """This process's ranks; None if it was started alone."""
    from minigpt4.train.distributed.launch import rank_assignment

    return rank_assignment(os.environ)


@contextmanager
def joined_processes() -> Iterator[Processes]:
    """Join the processes until all have left the block; only the first one writes to stderr.

    An error in the block ends all of them; the process that failed and the first one print it.
    """
    ranks = assigned_ranks()
    if ranks is None:
        yield Processes()
        return
    import torch

    from minigpt4.train.distributed.distributed_group import distributed_group
    from minigpt4.train.distributed.launch import end_with_parent
    from minigpt4.train.errors import PeerFailedError

    end_with_parent()
    try:
        with ExitStack() as stack:
            # Only for barriers and to report failures, for which gloo needs no GPU.
            group = stack.enter_context(distributed_group(ranks, torch.device("cpu"), TIMEOUT))
            if group.rank:
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.enter_context(redirect_stderr(nowhere))
            yield Processes(group.rank, group.world_size, group.barrier, group.raise_peer_failure)
    except PeerFailedError:
        if ranks.rank == 0:
            raise
        raise typer.Exit(1) from None  # the process that failed and the first one print the error


def share_of_machine(choice: EngineOptions) -> EngineOptions:
    """The options for this process: a GPU of its own, or on the CPU its share of the cores.

    Raises BackendError if there are fewer GPUs than processes, UsageError for `--device cuda:N`.
    """
    ranks = assigned_ranks()
    if ranks is None:
        return choice
    from minigpt4.core.cores import threads_for
    from minigpt4.train.distributed.distributed_group import device_of

    if ":" in choice.device:
        raise UsageError(
            f"--device is '{choice.device}'; for several processes give auto, cpu or cuda: each takes its "
            "own GPU."
        )
    device = device_of(choice.device, ranks.local_rank)
    threads = choice.threads or threads_for(None, processes=ranks.local_world_size)
    return replace(choice, device=str(device), threads=threads)
