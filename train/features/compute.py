"""Encoding every photo of some sets once, before training."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from minigpt4.core.download.sources import space_problem
from minigpt4.core.errors import BackendError, BundleError, DataError
from minigpt4.core.storage.locks import locked
from minigpt4.core.storage.paths import cache_home
from minigpt4.core.vision.base import VisionTower
from minigpt4.train.data.dataset import PhotoError
from minigpt4.train.events import FeaturesComputed, FeaturesMissing, FeaturesStale, PhotoSkipped, Report
from minigpt4.train.features.cache import (
    HEADER,
    Chunk,
    FeatureSet,
    cached_features,
    prepare_folder,
    stale_folders,
)
from minigpt4.train.features.crops import pixels_of

BATCH = 32
"""Crops per batch; larger batches are no faster on two cores, nor on a GPU, which ViT-G saturates with
half as many."""

AHEAD = 2 * BATCH
"""Photos that are decoded while the tower encodes."""

Pixels = NDArray[np.float32]


def compute_missing_features(
    plan: Sequence[FeatureSet],
    load: Callable[[], VisionTower],
    report: Report,
    *,
    device: str = "cpu",
    workers: int = 2,
) -> None:
    """Compute the planned features that the cache lacks, after reporting and checking their size.

    `load` returns the tower, on `device`, and is called only if something is missing; `workers` threads
    decode photos. Any number of processes may do this at once: they divide the chunks among themselves,
    and each returns when all are complete. Photos that cannot be opened are reported.

    Raises DataError if the disk is too full or a set has no usable photo, BundleError if the tower's
    features have another shape, BackendError if float16 cannot hold them.
    """
    missing = [one for one in {one.fingerprint: one for one in plan}.values() if cached_features(one) is None]
    if not missing:
        return
    for one in missing:
        for folder, changed in stale_folders(one):
            report(FeaturesStale(one.name, changed, str(folder)))
        with locked(one.folder / HEADER):
            prepare_folder(one)
    chunks = [chunk for one in missing for chunk in one.chunks if chunk.read() is None]
    size = sum(len(chunk.places) * chunk.feature_set.photo_bytes for chunk in chunks)
    crops = sum(chunk.crops for chunk in chunks)
    report(FeaturesMissing(photos=sum(len(chunk.places) for chunk in chunks), crops=crops, bytes=size))
    # Checked before an hour of work, not after.
    if problem := space_problem(cache_home(), size):
        raise DataError(f"The features of the photos cannot be cached: {problem}.")
    tower = load()
    for one in missing:
        _check_shape(one, tower)
    with ThreadPoolExecutor(workers) as pool:
        _Encoder(tower, device, pool, report, crops).compute(chunks)
    for one in missing:
        _check_usable(one)


@dataclass
class _Encoder:
    """One process's part of the work."""

    tower: VisionTower
    device: str
    pool: ThreadPoolExecutor
    report: Report
    crops: int
    done: int = 0

    def compute(self, chunks: Sequence[Chunk]) -> None:
        """Compute the chunks that no other process works on, and wait for the others."""
        locked_elsewhere = []
        for chunk in chunks:
            with locked(chunk.path, wait=False) as is_locked:
                if is_locked:
                    self._compute_if_missing(chunk)
                else:
                    locked_elsewhere.append(chunk)
        for chunk in locked_elsewhere:
            # If the other process died, its lock is free and the chunk still missing.
            with locked(chunk.path):
                self._compute_if_missing(chunk)

    def _compute_if_missing(self, chunk: Chunk) -> None:
        if chunk.read() is None:
            chunk.write(self._encode(chunk))
        else:
            self._advance(chunk.crops)

    def _encode(self, chunk: Chunk) -> NDArray[np.float16]:
        wanted = chunk.feature_set
        values = np.full(
            (len(chunk.places), wanted.crops, wanted.tokens, wanted.width), np.nan, dtype=np.float16
        )
        flat = values.reshape(-1, wanted.tokens, wanted.width)
        rows: list[int] = []
        pixels: list[Pixels] = []
        for photo, crops in enumerate(self._decoded(chunk)):
            for crop, one in enumerate(crops):
                rows.append(photo * wanted.crops + crop)
                pixels.append(one)
                if len(rows) == BATCH:
                    flat[rows] = self._features(pixels, wanted)
                    rows, pixels = [], []
            self._advance(wanted.crops)
        if rows:
            flat[rows] = self._features(pixels, wanted)
        return values

    def _features(self, pixels: Sequence[Pixels], wanted: FeatureSet) -> NDArray[np.float16]:
        pixels_BCHW = torch.from_numpy(np.stack(pixels))
        if self.device != "cpu":
            pixels_BCHW = pixels_BCHW.pin_memory().to(self.device, non_blocking=True)
        features_BND = self.tower.encode(pixels_BCHW)
        values = features_BND.to("cpu", torch.float16).numpy()
        if not np.isfinite(values).all():
            raise BackendError(
                f"The vision tower's features of '{wanted.name}' exceed 65504, the limit of the "
                "cache's float16, or are not finite; check the bundle with `minigpt4 models verify`."
            )
        return values

    def _decoded(self, chunk: Chunk) -> Iterator[list[Pixels]]:
        """Every photo's crops as pixels, decoded ahead; none for a photo that cannot be opened."""
        wanted = chunk.feature_set

        def decode(place: int) -> list[Pixels]:
            return list(pixels_of(wanted.photos, place, range(wanted.crops), wanted.vision))

        def decoded(job: Future[list[Pixels]]) -> list[Pixels]:
            try:
                return job.result()
            except PhotoError as error:
                self.report(PhotoSkipped(error.name, error.key, error.reason))
                return []

        waiting: deque[Future[list[Pixels]]] = deque()
        for place in chunk.places:
            waiting.append(self.pool.submit(decode, place))
            if len(waiting) > max(1, AHEAD // wanted.crops):
                yield decoded(waiting.popleft())
        while waiting:
            yield decoded(waiting.popleft())

    def _advance(self, crops: int) -> None:
        self.done += crops
        self.report(FeaturesComputed(self.done, self.crops))


def _check_shape(wanted: FeatureSet, tower: VisionTower) -> None:
    found = (tower.tokens, tower.width)
    if found != (wanted.tokens, wanted.width):
        raise BundleError(
            f"The bundle does not fit together: its vision tower outputs (N, D) = {found} and its projection "
            f"expects {(wanted.tokens, wanted.width)}; correct `image_tokens` or `inputs` in its manifest."
        )


def _check_usable(computed: FeatureSet) -> None:
    """Raise DataError if no photo could be opened, and delete the useless features."""
    for chunk in computed.chunks:
        values = chunk.read()
        if values is None or not np.isnan(values[:, 0, 0, 0]).all():
            return
    shutil.rmtree(computed.folder, ignore_errors=True)
    raise DataError(f"'{computed.name}' holds no photo that can be opened.")
