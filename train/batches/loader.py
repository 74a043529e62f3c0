"""The batches of a run, each made ready while the one before it is learnt.

A batch follows from the number of its step alone: nothing here remembers anything but work that
was done ahead. Threads do it, because Pillow and NumPy let go of Python's lock while they decode
and resize, and what they read is not sent from process to process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from minigpt4.core.bundles.bundle import VisionSpec
from minigpt4.train.batches.run_data import Data
from minigpt4.train.batches.samples import Batch, LeftOut, Visit, share_of_step
from minigpt4.train.data.dataset import PhotoError
from minigpt4.train.data.subset import Selection
from minigpt4.train.features.cache import Features
from minigpt4.train.features.pixels import pixels_of

VALIDATION_BATCH = 16

Seen = tuple[Visit, NDArray[Any]]
"""A visit, and the features (N, D) or pixels (3, H, W) that are seen at it."""


class Loader:
    """One process's share of every step, as visits.Batches."""

    def __init__(
        self,
        visit_of: Callable[[int], Visit | LeftOut],
        data: Data,
        features: Sequence[Features] | None,
        vision: VisionSpec,
        *,
        batch_size: int,
        rank: int = 0,
        size: int = 1,
        workers: int = 2,
        pinned: bool = False,
    ) -> None:
        """`features` are those of `data.wholes`, in their order; None: the batches hold pixels.

        `workers` threads read ahead. `pinned` batches lie in memory that a GPU reads by itself.
        """
        self._visit_of = visit_of
        self._data = data
        self._features = None
        if features is not None:
            self._features = {id(whole): one for (whole, _), one in zip(data.wholes, features, strict=True)}
        self._vision = vision
        self._batch_size = batch_size
        self._rank, self._size = rank, size
        self._pinned = pinned
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="photos")
        self._ahead: tuple[int, list[Future[Seen | LeftOut]]] = (-1, [])

    def batch(self, step: int) -> Batch:
        """This process's share of step `step` (from 0); the next step's is begun."""
        begun = time.perf_counter()
        number, jobs = self._ahead
        if number != step:
            self._forget()
            jobs = self._begin(step)
        self._ahead = (step + 1, self._begin(step + 1))
        return self._collect(jobs, begun)

    def validation(self, visits: Sequence[Visit]) -> Iterator[Batch]:
        """This process's share of visits to the photos that are measured, a few at a time."""
        ours = visits[self._rank :: self._size]
        parts = [ours[at : at + VALIDATION_BATCH] for at in range(0, len(ours), VALIDATION_BATCH)]
        ahead: list[Future[Seen | LeftOut]] = []
        # One part ahead and no more: all of them as pixels may be a gigabyte.
        for part in [*parts, []]:
            jobs, ahead = (
                ahead,
                [self._pool.submit(self._see, visit, self._data.validation) for visit in part],
            )
            if jobs:
                yield self._collect(jobs, time.perf_counter())

    def close(self) -> None:
        """End the threads; what they have begun is finished first."""
        self._forget()
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _begin(self, step: int) -> list[Future[Seen | LeftOut]]:
        numbers = share_of_step(step, self._batch_size, self._rank, self._size)
        return [self._pool.submit(self._prepare, number) for number in numbers]

    def _forget(self) -> None:
        for job in self._ahead[1]:
            job.cancel()
        self._ahead = (-1, [])

    def _prepare(self, number: int) -> Seen | LeftOut:
        visit = self._visit_of(number)
        if isinstance(visit, LeftOut):
            return visit
        return self._see(visit, self._data.sources[visit.source])

    def _see(self, visit: Visit, photos: Selection) -> Seen | LeftOut:
        whole, place = photos.origin(visit.photo)
        try:
            if self._features is not None:
                return visit, self._features[id(whole)].of(place, visit.view)
            (pixels_CHW,) = pixels_of(whole, place, [visit.view], self._vision)
        except PhotoError as problem:
            return LeftOut(photos.name, problem.key, problem.reason, visit.number)
        return visit, pixels_CHW

    def _collect(self, jobs: Sequence[Future[Seen | LeftOut]], begun: float) -> Batch:
        made = [job.result() for job in jobs]
        seen = [one for one in made if not isinstance(one, LeftOut)]
        left_out = tuple(one for one in made if isinstance(one, LeftOut))
        visits = tuple(visit for visit, _ in seen)
        if not seen:
            return Batch((), left_out=left_out, waited=time.perf_counter() - begun)
        values = torch.from_numpy(np.stack([value for _, value in seen]))
        values = values.pin_memory() if self._pinned else values
        is_cached = self._features is not None
        return Batch(
            visits,
            features_BND=values if is_cached else None,
            pixels_BCHW=None if is_cached else values,
            left_out=left_out,
            waited=time.perf_counter() - begun,
        )
