"""The batches of a run, prefetched: the next one is read while the current one is computed.

A batch depends only on its step number; the only state is prefetched work. Threads rather than
processes: Pillow and NumPy release the GIL while they decode and resize, and nothing has to be pickled.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from minigpt4.core.bundles.bundle import VisionSpec
from minigpt4.train.batches.run_data import RunData
from minigpt4.train.batches.samples import Batch, Sample, Skipped, indices_of_step
from minigpt4.train.data.dataset import PhotoError
from minigpt4.train.data.subset import Selection
from minigpt4.train.features.cache import Features
from minigpt4.train.features.crops import pixels_of

VALIDATION_BATCH = 16

Loaded = tuple[Sample, NDArray[Any]]
"""A sample with its features (N, D) or pixels (3, H, W)."""


class Loader:
    """This process's batches of every step, and those of the validation loss."""

    def __init__(
        self,
        draw: Callable[[int], Sample | Skipped],
        data: RunData,
        features: Sequence[Features] | None,
        vision: VisionSpec,
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 2,
        pinned: bool = False,
    ) -> None:
        """`draw` returns the sample of an index; it is called from several threads.

        `features` are those of `data.photo_sets`, in the same order; None: batches hold pixels. `workers`
        threads read ahead. `pinned` batches lie in page-locked memory.
        """
        self._draw = draw
        self._data = data
        self._features = None
        if features is not None:
            self._features = {
                id(photos): one for (photos, _), one in zip(data.photo_sets, features, strict=True)
            }
        self._vision = vision
        self._batch_size = batch_size
        self._rank, self._world_size = rank, world_size
        self._pinned = pinned
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="photos")
        self._prefetched: tuple[int, list[Future[Loaded | Skipped]]] = (-1, [])

    def batch(self, step: int) -> Batch:
        """This process's batch of step `step` (from 0), the same at every call; prefetches the next."""
        started = time.perf_counter()
        prefetched_step, jobs = self._prefetched
        if prefetched_step != step:
            self._cancel_prefetch()
            jobs = self._submit(step)
        self._prefetched = (step + 1, self._submit(step + 1))
        return self._collate(jobs, started)

    def validation(self, samples: Sequence[Sample]) -> Iterator[Batch]:
        """This process's part of the validation samples, in small batches."""
        ours = samples[self._rank :: self._world_size]
        chunks = [ours[at : at + VALIDATION_BATCH] for at in range(0, len(ours), VALIDATION_BATCH)]
        ahead: list[Future[Loaded | Skipped]] = []
        # One chunk ahead and no more: all of them as pixels may take a gigabyte.
        for chunk in [*chunks, []]:
            jobs = ahead
            ahead = [self._pool.submit(self._load, sample, self._data.validation) for sample in chunk]
            if jobs:
                yield self._collate(jobs, time.perf_counter())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        """End the threads after their current photo."""
        self._cancel_prefetch()
        self._pool.shutdown(cancel_futures=True)

    def _submit(self, step: int) -> list[Future[Loaded | Skipped]]:
        indices = indices_of_step(step, self._batch_size, self._rank, self._world_size)
        return [self._pool.submit(self._draw_and_load, index) for index in indices]

    def _cancel_prefetch(self) -> None:
        for job in self._prefetched[1]:
            job.cancel()
        self._prefetched = (-1, [])

    def _draw_and_load(self, index: int) -> Loaded | Skipped:
        sample = self._draw(index)
        if isinstance(sample, Skipped):
            return sample
        return self._load(sample, self._data.sources[sample.source])

    def _load(self, sample: Sample, photos: Selection) -> Loaded | Skipped:
        photo_set, place = photos.origin(sample.photo)
        try:
            if self._features is not None:
                return sample, self._features[id(photo_set)].of(place, sample.crop)
            (pixels_CHW,) = pixels_of(photo_set, place, [sample.crop], self._vision)
        except PhotoError as error:
            return Skipped(photos.name, error.key, error.reason, sample.index)
        return sample, pixels_CHW

    def _collate(self, jobs: Sequence[Future[Loaded | Skipped]], started: float) -> Batch:
        results = [job.result() for job in jobs]
        loaded = [one for one in results if not isinstance(one, Skipped)]
        skipped = tuple(one for one in results if isinstance(one, Skipped))
        if not loaded:
            return Batch((), skipped=skipped, waited=time.perf_counter() - started)
        values = torch.from_numpy(np.stack([value for _, value in loaded]))
        values = values.pin_memory() if self._pinned else values
        is_cached = self._features is not None
        return Batch(
            tuple(sample for sample, _ in loaded),
            features_BND=values if is_cached else None,
            pixels_BCHW=None if is_cached else values,
            skipped=skipped,
            waited=time.perf_counter() - started,
        )
