"""What an engine knows of the part that encodes pictures, and how it loads beside the language model."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.pixels import Picture


class Encoder(Protocol):
    """What reads pictures for an engine; see `ImageEncoder`."""

    def __call__(self, picture: Picture, /) -> NDArray[np.float32]:
        """The picture's embedding (N, D_llm)."""
        ...

    def object_boxes(self, picture: Picture, /) -> NDArray[np.float32]:
        """The boxes (K, 6) of its objects; only asked for if the bundle has a detector."""
        ...


def loading_encoder(make: Callable[[], Encoder]) -> Future[Encoder]:
    """The encoder that `make` is making on a thread of its own; its error is raised by `result`.

    A process that ends meanwhile waits for the thread: native libraries cannot be left half loaded.
    """
    pool = ThreadPoolExecutor(1, "vision-tower")
    loading = pool.submit(make)
    pool.shutdown(wait=False)
    return loading
