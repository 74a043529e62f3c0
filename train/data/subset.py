"""Some photos of other sets, as a set of their own: what is learnt from, and what is held out of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.errors import DataError
from minigpt4.train.data.dataset import PhotoSet

HELD_OUT_SHARE = 0.05
"""The share of photos that are measured and not learnt, where a recipe names no photos to measure."""

HELD_OUT_MOST = 2000
"""More than so many, on average, are not held out of a set: more would not measure anything better."""


class Selection:
    """Photos of one set or several, picked by their places there."""

    def __init__(
        self,
        name: str,
        wholes: Sequence[PhotoSet],
        places: NDArray[np.int64] | None = None,
        owners: NDArray[np.int64] | None = None,
    ) -> None:
        """`places` are those in `wholes`, `owners` in which of them; None: all, and the first."""
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
        """The set that the photo is of, and its place there."""
        whole = self._wholes[0 if self._owners is None else int(self._owners[place])]
        return whole, place if self._places is None else int(self._places[place])

    def key(self, place: int) -> str:
        """The photo's name in its own set."""
        whole, there = self.origin(place)
        return whole.key(there)

    def meta(self, place: int) -> Mapping[str, Any]:
        """What is known of it; raises PhotoError."""
        whole, there = self.origin(place)
        return whole.meta(there)

    def read(self, place: int) -> bytes:
        """The encoded picture; raises PhotoError."""
        whole, there = self.origin(place)
        return whole.read(there)


def held_out(photos: PhotoSet) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The places of the photos to learn from, and of those to measure, which are in random order.

    Their keys decide it and nothing else, so a photo that was held out once is so in the next stage,
    and still when more photos have been added. Raises DataError where there is only one photo.
    """
    if len(photos) < 2:
        raise DataError(
            f"'{photos.name}' has one photo, and one to learn from and one to measure are needed; add more, "
            "or name photos to measure with --set validation.name=FOLDER."
        )
    draws = np.fromiter((_draw(photos.key(place)) for place in range(len(photos))), np.uint64, len(photos))
    share = min(HELD_OUT_SHARE, HELD_OUT_MOST / len(photos))
    is_held = draws < np.uint64(share * 2**64)
    if not is_held.any() or is_held.all():
        is_held = draws == draws.min()
        is_held[: int(is_held.all())] = False  # every key is the same
    held = np.flatnonzero(is_held)
    return np.flatnonzero(~is_held), held[np.argsort(draws[held], kind="stable")]


def _draw(key: str) -> int:
    digest = hashlib.blake2b(key.encode("utf-8", errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
