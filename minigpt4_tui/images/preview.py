"""Pictures from disk, reduced for the screen. Everything here is slow: for background threads."""

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

SMALL = 512
"""Longest side, in pixels, of what a thumbnail is drawn from: 24 columns of a large font."""

LARGE = 3840
"""Longest side of what a whole screen is drawn from."""

SMALL_KEPT, LARGE_KEPT = 48, 2
"""How many stay in memory: at most 38 and 88 MB."""

_decoding = threading.Lock()
"""One at a time: a picture may take 256 MB while it is decoded."""


@dataclass(frozen=True)
class Preview:
    """A picture reduced for the screen; `pixels` are its original width and height."""

    image: Image
    pixels: tuple[int, int]


class _Kept:
    """An LRU cache of previews of one size; only used under `_decoding`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._images: OrderedDict[tuple[object, ...], Preview] = OrderedDict()

    def get(self, key: tuple[object, ...], make: Callable[[], Preview]) -> Preview:
        if key not in self._images:
            self._images[key] = make()
        self._images.move_to_end(key)
        while len(self._images) > self._most:
            self._images.popitem(last=False)
        return self._images[key]


_small, _large, _seen = _Kept(SMALL_KEPT), _Kept(LARGE_KEPT), _Kept(LARGE_KEPT)


def preview(source: Path | bytes, longest: int) -> Preview:
    """The picture, upright, RGB, reduced unless its longer side is at most about `longest` pixels.

    Raises ImageError, also where the file has gone since it was last shown.
    """
    kept, most = (_small, SMALL) if longest <= SMALL else (_large, LARGE)
    with _decoding:
        return kept.get(_key(source), lambda: _reduced(_opened(source), most))


def remember(path: Path, picture: Picture, bundle: str) -> None:
    """Keep what the thumbnail of the file `path` and the bundle's vision tower need of an open picture.

    The picture is then decoded neither for its message nor by the engine.
    """
    import numpy as np

    from minigpt4.core.bundles.bundle import load_bundle
    from minigpt4.core.embedding_cache import SquareCache, is_cached
    from minigpt4.core.pixels import squashed

    with _decoding:
        _small.get(_key(path), lambda: _reduced(picture.image, SMALL))
    if not is_cached(picture.digest):
        with suppress(Minigpt4Error):  # the bundle's own problem, which loading it reports
            size = load_bundle(bundle).vision.image_size
            SquareCache(size).put(picture.digest, np.asarray(squashed(picture.image, size)))


def what_the_model_sees(source: Path | bytes, bundle: str) -> Preview:
    """The square of pixels that the bundle's vision tower gets: the picture squashed, not cropped.

    Raises ImageError, and BundleError or UsageError for an unknown bundle.
    """
    from minigpt4.core.bundles.bundle import load_bundle
    from minigpt4.core.pixels import squashed

    size = load_bundle(bundle).vision.image_size
    with _decoding:
        return _seen.get(
            (*_key(source), size), lambda: Preview(squashed(_opened(source), size), (size, size))
        )


def _reduced(whole: Image, most: int) -> Preview:
    # A copy: the whole picture must not stay in memory for its small one.
    image = whole.copy()
    image.thumbnail((most, most), reducing_gap=2)
    return Preview(image, whole.size)


def _opened(source: Path | bytes) -> Image:
    from minigpt4.core.pixels import open_picture

    return open_picture(source).image


def _key(source: Path | bytes) -> tuple[object, ...]:
    """Identifies the content: a file may change under its name."""
    if isinstance(source, bytes):
        return (source,)
    try:
        status = source.stat()
    except (OSError, ValueError):
        # Opening it says what is wrong.
        return (source, object())
    return (source, status.st_mtime_ns, status.st_size)
