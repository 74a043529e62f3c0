"""Subsets of photo sets, and the split into training and validation photos."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.errors import DataError
from minigpt4.train.data.dataset import PhotoSet

HELD_OUT_FRACTION = 0.05
"""The fraction of photos for validation if a recipe names no validation photos."""

MAX_HELD_OUT = 2000
"""The most photos, on average, that are held out of a set: more would not improve the estimate."""


class Selection:
    """Photos of one or several sets, selected by index."""

    def __init__(
        self,
        name: str,
        wholes: Sequence[PhotoSet],
        places: NDArray[np.int64] | None = None,
        owners: NDArray[np.int64] | None = None,
    ) -> None:
        """`places` are indices into the sets, `owners` the set of each; None: all photos, the first set."""
        self.name = name
        self._wholes = tuple(wholes)
        self._places = places
        self._owners = owners
        content = hashlib.sha256("".join(whole.fingerprint for whole in wholes).encode())
        for numbers in (places, owners):
            content.update(b"-" if numbers is None else numbers.tobytes())
        self.fingerprint = content.hexdigest()

    def __len__(self) -> int:
        if self._places is not None:
            return len(self._places)
        return len(self._wholes[0]) if self._wholes else 0

    def origin(self, place: int) -> tuple[PhotoSet, int]:
        """The photo's own set, and its index there."""
        whole = self._wholes[0 if self._owners is None else int(self._owners[place])]
        return whole, place if self._places is None else int(self._places[place])

    def key(self, place: int) -> str:
        """The photo's name in its own set."""
        whole, there = self.origin(place)
        return whole.key(there)

    def meta(self, place: int) -> Mapping[str, Any]:
        """The photo's metadata; raises PhotoError."""
        whole, there = self.origin(place)
        return whole.meta(there)

    def content(self, place: int) -> Mapping[str, Any]:
        """The same as `meta`, with or without captions; raises PhotoError."""
        whole, there = self.origin(place)
        return whole.content(there)

    def read(self, place: int) -> bytes:
        """The encoded picture; raises PhotoError."""
        whole, there = self.origin(place)
        return whole.read(there)


def held_out(photos: PhotoSet) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The indices of the training photos, and of the held-out ones, which are in random order.

    The split depends on the keys alone, so a photo stays held out in the next stage and when photos
    are added. Raises DataError if there is only one photo.
    """
    if len(photos) < 2:
        raise DataError(
            f"'{photos.name}' has one photo, and one to learn from and one to measure are needed; add more, "
            "or name photos to measure with --set validation.name=FOLDER."
        )
    draws = np.fromiter((_draw(photos.key(place)) for place in range(len(photos))), np.uint64, len(photos))
    fraction = min(HELD_OUT_FRACTION, MAX_HELD_OUT / len(photos))
    is_held = draws < np.uint64(fraction * 2**64)
    if not is_held.any() or is_held.all():
        is_held = draws == draws.min()
        is_held[: int(is_held.all())] = False  # every key is the same
    held = np.flatnonzero(is_held)
    return np.flatnonzero(~is_held), held[np.argsort(draws[held], kind="stable")]


def _draw(key: str) -> int:
    digest = hashlib.blake2b(key.encode("utf-8", errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
