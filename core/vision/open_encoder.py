"""Opening a bundle's vision tower and projection at the first picture that is not known; no torch before."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from minigpt4.core.dtypes import AUTO
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.types import Encoder


def tower_encoder(options: EngineOptions, projection: Path) -> Callable[[], Encoder]:
    """What loads the tower of these options with this projection."""

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
    """The encoder that `make` is making on a thread of its own; its error is raised by `result`.

    A process that ends meanwhile waits for the thread: native libraries cannot be left half loaded.
    """
    pool = ThreadPoolExecutor(1, "vision-tower")
    loading = pool.submit(make)
    pool.shutdown(wait=False)
    return loading
