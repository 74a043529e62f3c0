"""Looking at every photo of some sets once, so that training need not."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from minigpt4.core.download.sources import SourceError, require_space
from minigpt4.core.errors import BackendError, BundleError, DataError
from minigpt4.core.locks import locked
from minigpt4.core.paths import cache_home
from minigpt4.core.vision.base import VisionTower
from minigpt4.train.data.dataset import PhotoError
from minigpt4.train.events import FeaturesMade, FeaturesMissing, FeaturesStale, PhotoLeftOut, Report
from minigpt4.train.features.cache import (
    HEADER,
    FeatureSet,
    Part,
    begin_folder,
    cached_features,
    stale_folders,
)
from minigpt4.train.features.pixels import pixels_of

BATCH = 32
"""Views that the tower sees at once; larger batches are no faster on two cores, nor on a GPU, which
ViT-G fills with half of them."""

AHEAD = 2 * BATCH
"""Photos that are decoded while the tower looks."""

Pixels = NDArray[np.float32]


def make_missing_features(
    plan: Sequence[FeatureSet],
    load: Callable[[], VisionTower],
    report: Report,
    *,
    device: str = "cpu",
    workers: int = 2,
) -> None:
    """Compute what the cache lacks of the planned features, its size told and looked for first.

    `load` gives the tower, on `device`, and is called only where something is missing; `workers`
    threads decode photos for it. Any number of processes may do this at once: they share the parts,
    and each returns when all are there. Photos that cannot be opened are told to `report`.

    Raises DataError where the disk has no room or a set no photo that can be opened, BundleError
    where the tower gives features of another shape, BackendError for those that float16 cannot hold.
    """
    missing = [one for one in {one.fingerprint: one for one in plan}.values() if cached_features(one) is None]
    if not missing:
        return
    for one in missing:
        for folder, changed in stale_folders(one):
            report(FeaturesStale(one.name, changed, str(folder)))
        with locked(one.folder / HEADER):
            begin_folder(one)
    parts = [part for one in missing for part in one.parts if part.read() is None]
    size = sum(len(part.places) * part.whole.photo_bytes for part in parts)
    views = sum(part.views for part in parts)
    report(FeaturesMissing(photos=sum(len(part.places) for part in parts), views=views, bytes=size))
    try:
        # Said before an hour of work, not after.
        require_space(cache_home(), size)
    except SourceError as problem:
        raise DataError(f"The features of the photos cannot be kept: {problem}.") from problem
    tower = load()
    for one in missing:
        _check_shape(one, tower)
    with ThreadPoolExecutor(workers) as pool:
        _Making(tower, device, pool, report, views).make(parts)
    for one in missing:
        _check_usable(one)


@dataclass
class _Making:
    """One process's share of the work."""

    tower: VisionTower
    device: str
    pool: ThreadPoolExecutor
    report: Report
    views: int
    done: int = 0

    def make(self, parts: Sequence[Part]) -> None:
        """Make the parts that nobody else makes, and wait for the others."""
        taken = []
        for part in parts:
            with locked(part.path, wait=False) as is_ours:
                if is_ours:
                    self._make_missing(part)
                else:
                    taken.append(part)
        for part in taken:
            # Where the other process has died, its part is ours.
            with locked(part.path):
                self._make_missing(part)

    def _make_missing(self, part: Part) -> None:
        if part.read() is None:
            part.write(self._look(part))
        else:
            self._advance(part.views)

    def _look(self, part: Part) -> NDArray[np.float16]:
        whole = part.whole
        values = np.full((len(part.places), whole.views, whole.tokens, whole.width), np.nan, dtype=np.float16)
        flat = values.reshape(-1, whole.tokens, whole.width)
        rows: list[int] = []
        pixels: list[Pixels] = []
        for photo, views in enumerate(self._decoded(part)):
            for view, one in enumerate(views):
                rows.append(photo * whole.views + view)
                pixels.append(one)
                if len(rows) == BATCH:
                    flat[rows] = self._features(pixels, whole)
                    rows, pixels = [], []
            self._advance(whole.views)
        if rows:
            flat[rows] = self._features(pixels, whole)
        return values

    def _features(self, pixels: Sequence[Pixels], whole: FeatureSet) -> NDArray[np.float16]:
        pixels_BCHW = torch.from_numpy(np.stack(pixels))
        if self.device != "cpu":
            pixels_BCHW = pixels_BCHW.pin_memory().to(self.device, non_blocking=True)
        features_BND = self.tower.encode(pixels_BCHW)
        values = features_BND.to("cpu", torch.float16).numpy()
        if not np.isfinite(values).all():
            raise BackendError(
                f"The vision tower's features of '{whole.name}' pass 65504, where float16 ends in which they "
                "are kept, or are no numbers; check the bundle with `minigpt4 models verify`."
            )
        return values

    def _decoded(self, part: Part) -> Iterator[list[Pixels]]:
        """Every photo's views as pixels, none of one that cannot be opened, decoded ahead."""
        whole = part.whole

        def decode(place: int) -> list[Pixels] | PhotoError:
            try:
                return list(pixels_of(whole.photos, place, range(whole.views), whole.vision))
            except PhotoError as problem:
                return problem

        def seen(job: Future[list[Pixels] | PhotoError]) -> list[Pixels]:
            found = job.result()
            if isinstance(found, PhotoError):
                self.report(PhotoLeftOut(found.name, found.key, found.reason))
                return []
            return found

        waiting: deque[Future[list[Pixels] | PhotoError]] = deque()
        for place in part.places:
            waiting.append(self.pool.submit(decode, place))
            if len(waiting) > max(1, AHEAD // whole.views):
                yield seen(waiting.popleft())
        while waiting:
            yield seen(waiting.popleft())

    def _advance(self, views: int) -> None:
        self.done += views
        self.report(FeaturesMade(self.done, self.views))


def _check_shape(wanted: FeatureSet, tower: VisionTower) -> None:
    found = (tower.tokens, tower.width)
    if found != (wanted.tokens, wanted.width):
        raise BundleError(
            f"The bundle does not fit together: its vision tower gives (N, D) = {found} and its projection "
            f"reads {(wanted.tokens, wanted.width)}; correct `image_tokens` or `inputs` in its manifest."
        )


def _check_usable(made: FeatureSet) -> None:
    """Raise DataError where no photo could be opened, and let go of features that are of no use."""
    for part in made.parts:
        values = part.read()
        if values is None or not np.isnan(values[:, 0, 0, 0]).all():
            return
    shutil.rmtree(made.folder, ignore_errors=True)
    raise DataError(f"'{made.name}' holds no photo that can be opened.")
