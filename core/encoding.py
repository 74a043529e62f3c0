"""What reads pictures for an engine, and where what it gave of them is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.embedding_cache import ArrayCache
from minigpt4.core.pixels import Picture
from minigpt4.core.types import LaidOut


class Encoder(Protocol):
    """What reads pictures for an engine; see `ImageEncoder`."""

    def __call__(self, picture: Picture, /) -> NDArray[np.float32] | LaidOut:
        """The picture's embedding (N, D_llm), with its layout if it is more than a row of vectors."""
        ...

    def object_boxes(self, picture: Picture, /) -> NDArray[np.float32]:
        """The boxes (K, 6) of its objects; only asked for if the bundle has a detector."""
        ...


class Cache(Protocol):
    """What an encoder gave of pictures, on disk; see `ArrayCache`."""

    def get(self, key: str, /) -> Any:
        """The value of the picture with this key, or None."""
        ...

    def put(self, key: str, value: Any, /) -> None:
        """Keep the value of a picture."""
        ...

    def remove(self, key: str, /) -> None:
        """Remove the value of a picture, if it is there."""
        ...


def embedding_cache(bundle: Bundle, fingerprint: str, width: int) -> Cache:
    """The disk cache of a bundle's image embeddings of this width."""
    if bundle.mmproj is None:
        return ArrayCache(fingerprint, (bundle.projection.image_tokens, width), np.float32)
    from minigpt4.core.mtmd.layout_cache import LayoutCache

    return LayoutCache(fingerprint, width)


def are_known(cache: Cache, pictures: Sequence[Picture]) -> bool:
    """Whether the cache holds all of the pictures."""
    return all(any(cache.get(key) is not None for key in picture.keys) for picture in pictures)


def load_ahead(encoder: Callable[[], Encoder]) -> Future[Encoder]:
    """The encoder, made on a thread of its own."""
    thread = ThreadPoolExecutor(1, "vision-tower")
    loading = thread.submit(encoder)
    thread.shutdown(wait=False)
    return loading
