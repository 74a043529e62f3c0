"""Images from disk, scaled down for the screen. Everything here is slow: use background threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from minigpt4.core.errors import Minigpt4Error

if TYPE_CHECKING:
    from PIL.Image import Image

    from minigpt4.core.pixels import Picture

SMALL = 1024
"""Longest side, in pixels, of the image that a message's picture is drawn from: 60 columns of most fonts."""

LARGE = 3840
"""Longest side of the image that a whole screen is drawn from."""

SMALL_KEPT, LARGE_KEPT = 12, 2
"""Sizes of the caches: at most 38 and 88 MB."""

_decoding = threading.Lock()
"""Held to decode one image at a time, as each may take 256 MB meanwhile."""


@dataclass(frozen=True)
class Preview:
    """An image scaled down for the screen; `pixels` are its original width and height."""

    image: Image
    pixels: tuple[int, int]


class _Cache:
    """An LRU cache of previews of one size; only used under `_decoding`."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._images: OrderedDict[tuple[object, ...], Preview] = OrderedDict()

    def get(self, key: tuple[object, ...], make: Callable[[], Preview]) -> Preview:
        if key not in self._images:
            self._images[key] = make()
        self._images.move_to_end(key)
        while len(self._images) > self._size:
            self._images.popitem(last=False)
        return self._images[key]


_small, _large, _squares = _Cache(SMALL_KEPT), _Cache(LARGE_KEPT), _Cache(LARGE_KEPT)


def preview(source: Path | bytes, longest: int) -> Preview:
    """The image, upright and RGB, scaled down if its longer side is over about `longest` pixels.

    Raises ImageError, also if the file has been deleted since it was last shown.
    """
    cache, size = (_small, SMALL) if longest <= SMALL else (_large, LARGE)
    with _decoding:
        return cache.get(_key(source), lambda: _reduced(_opened(source), size))


def remember(path: Path, picture: Picture, bundle: str | None) -> None:
    """Cache the thumbnail of a decoded image and, with a bundle, the input of its vision tower.

    Neither the message nor the engine then decodes the image again.
    """
    import numpy as np

    from minigpt4.core.bundles.bundle import load_bundle
    from minigpt4.core.embedding_cache import SquareCache, is_cached
    from minigpt4.core.pixels import FITS

    with _decoding:
        _small.get(_key(path), lambda: _reduced(picture.image, SMALL))
    # Pixels alone do not show the engine that the file is truncated, so it decodes such a file itself.
    if bundle is not None and picture.missing is None and not is_cached(picture.key):
        with suppress(Minigpt4Error):  # an invalid bundle is reported when it is loaded
            found = load_bundle(bundle)
            if found.mmproj is not None:  # its pictures are not squashed
                return
            vision = found.vision
            square = FITS[vision.fit](picture.image, vision.image_size)
            SquareCache(vision.image_size, vision.fit).put(picture.key, np.asarray(square))


def model_input(source: Path | bytes, bundle: str) -> Preview:
    """The square input of the bundle's vision tower: the image squashed or letterboxed, not cropped.

    For a bundle of two GGUF files, the image itself: its mmproj may take it in any shape, and in tiles.
    Raises ImageError, and BundleError or UsageError for an unknown bundle.
    """
    from minigpt4.core.bundles.bundle import load_bundle
    from minigpt4.core.pixels import FITS

    found = load_bundle(bundle)
    if found.mmproj is not None:
        return preview(source, LARGE)
    vision = found.vision
    size, fit = vision.image_size, vision.fit
    with _decoding:
        return _squares.get(
            (*_key(source), size, fit), lambda: Preview(FITS[fit](_opened(source), size), (size, size))
        )


def _reduced(whole: Image, size: int) -> Preview:
    from PIL.Image import Resampling

    scale = size / max(whole.size)
    if scale >= 1:
        return Preview(whole, whole.size)
    smaller = (max(round(whole.width * scale), 1), max(round(whole.height * scale), 1))
    return Preview(whole.resize(smaller, Resampling.BICUBIC, reducing_gap=2), whole.size)


def _opened(source: Path | bytes) -> Image:
    from minigpt4.core.pixels import open_picture

    return open_picture(source).image


def _key(source: Path | bytes) -> tuple[object, ...]:
    """A key for the content, as a file may change."""
    if isinstance(source, bytes):
        return (source,)
    try:
        status = source.stat()
    except (OSError, ValueError):
        # A key that is never found: opening the file raises the error.
        return (source, object())
    return (source, status.st_mtime_ns, status.st_size)
