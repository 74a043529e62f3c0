"""Open a bundle's vision tower and projection at the first uncached picture; no torch before."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from minigpt4.core.dtypes import AUTO
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.types import Encoder


def tower_encoder(options: EngineOptions, projection: Path) -> Callable[[], Encoder]:
    """A function that loads the tower of these options with this projection."""

    def encoder() -> Encoder:
        from minigpt4.core.vision.encoder import ImageEncoder

        return ImageEncoder(
            options.loaded_bundle(),
            projection,
            device=options.device,
            threads=options.threads,
            dtype=options.dtype or AUTO,
            offload=options.offload,
        )

    return encoder


def loading_encoder(make: Callable[[], Encoder]) -> Future[Encoder]:
    """Create the encoder with `make` on a separate thread; `result` raises its error.

    A process that exits meanwhile waits for the thread: native libraries cannot be left half loaded.
    """
    pool = ThreadPoolExecutor(1, "vision-tower")
    loading = pool.submit(make)
    pool.shutdown(wait=False)
    return loading
