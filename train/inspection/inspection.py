"""Inspection of photo sets before training: photos that are broken, cut, tiny or duplicates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from minigpt4.core.errors import DataError, ImageError
from minigpt4.core.image_file.formats import DECODER_ERRORS, FORMATS
from minigpt4.core.pixels import open_picture
from minigpt4.train.data.dataset import PhotoError, PhotoSet, captions_in
from minigpt4.train.events import PhotoSkipped
from minigpt4.train.inspection.caption_lengths import CaptionLengths
from minigpt4.train.inspection.perceptual_hash import equal_groups, perceptual_hash, similar_groups

BATCH = 64
"""Photos per worker that are opened at a time."""

LONG_SHAPE = 3.0
"""From this aspect ratio on, a picture squashed to a square is hard to recognise."""

PHOTOS = np.dtype(
    [
        ("set", "<u2"),
        ("photo", "<u8"),
        ("size", "<u4", 2),
        ("digest", "<u8"),
        ("hash", "<u8"),
        ("is_flat", "?"),
    ]
)
"""35 bytes a photo, so that millions of them fit in memory."""


class Place(NamedTuple):
    """One photo: the number of its set, and its index there."""

    set: int
    photo: int


Group = tuple[Place, ...]


@dataclass(frozen=True)
class SetCount:
    """How much of a set can be used."""

    name: str
    photos: int
    captions: int


@dataclass(eq=False, kw_only=True)
class Inspection:
    """The findings about every photo. `table` (PHOTOS) has those that can be opened and have a caption.

    `skipped` are the others, with reasons. `unlearnt` counts photos whose captions are all empty in the
    recipe's form. `lengths` counts captions by length.
    """

    skipped: list[PhotoSkipped]
    table: NDArray[np.void]
    sets: list[SetCount] = field(default_factory=list)
    unlearnt: int = 0
    animated: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    captions_per_photo: Counter[int] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)

    @property
    def photos(self) -> int:
        """The number of usable photos."""
        return len(self.table)

    @property
    def captions(self) -> int:
        """The number of their captions that are not empty in the recipe's form."""
        return self.lengths.total()

    @property
    def skipped_fraction(self) -> float:
        """The fraction of all photos that cannot be used."""
        return len(self.skipped) / max(self.photos + len(self.skipped), 1)

    @property
    def sizes(self) -> NDArray[np.uint32]:
        """Widths and heights in pixels, upright, of shape [photos, 2]."""
        sizes: NDArray[np.uint32] = self.table["size"]
        return sizes

    @cached_property
    def same_file(self) -> tuple[Group, ...]:
        """The groups of photos with the same file content."""
        return tuple(map(self.places, equal_groups(self.table["digest"])))

    @cached_property
    def look_alike(self) -> tuple[Group, ...]:
        """The groups of photos that look alike but are not all the same file."""
        digests, textured = self.table["digest"], np.flatnonzero(~self.table["is_flat"])
        groups = [textured[group] for group in similar_groups(self.table["hash"][textured])]
        return tuple(self.places(group) for group in groups if len(np.unique(digests[group])) > 1)

    @property
    def flat(self) -> Group:
        """The photos of one colour."""
        return self.places(np.flatnonzero(self.table["is_flat"]))

    @property
    def in_several_sets(self) -> tuple[Group, ...]:
        """The groups of either kind that span more than one set."""
        groups = self.same_file + self.look_alike
        return tuple(group for group in groups if len({place.set for place in group}) > 1)

    def places(self, rows: NDArray[np.intp] | Sequence[int]) -> Group:
        """The photos in these rows of the table."""
        chosen = self.table[rows]
        return tuple(map(Place, chosen["set"].tolist(), chosen["photo"].tolist()))

    def smaller_than(self, side: int) -> int:
        """The number of photos with a side shorter than `side` pixels."""
        return int((self.sizes.min(axis=1) < side).sum())

    @property
    def long_shapes(self) -> int:
        """The number of photos whose sides have a ratio of at least LONG_SHAPE."""
        return int((self.sizes.max(axis=1) >= LONG_SHAPE * self.sizes.min(axis=1)).sum())


class _Measured(NamedTuple):
    """The measurements of one photo; `hash` is None for a flat one."""

    size: tuple[int, int]
    format: str
    mode: str
    frames: int
    digest: int
    hash: int | None
    lengths: list[int]


def inspect_photos(
    sets: Sequence[PhotoSet],
    lengths: CaptionLengths,
    *,
    skipped: Sequence[PhotoSkipped] = (),
    workers: int = 2,
    advance: Callable[[], object] = lambda: None,
) -> Inspection:
    """Open every picture and measure every caption; `advance` is called once per photo.

    `skipped` are the photos skipped when the sets were opened; they are counted with the rest.
    """
    table = np.zeros(sum(map(len, sets)), PHOTOS)
    found = Inspection(skipped=list(skipped), table=table)
    row = 0
    for number, photos in enumerate(sets):
        before = row, found.captions
        for index, photo in _measured(photos, lengths, workers):
            advance()
            if isinstance(photo, PhotoSkipped):
                found.skipped.append(photo)
                continue
            table[row] = (number, index, photo.size, photo.digest, photo.hash or 0, photo.hash is None)
            row += 1
            found.formats[photo.format] += 1
            found.modes[photo.mode] += 1
            found.animated += photo.frames > 1
            found.unlearnt += not photo.lengths
            found.captions_per_photo[len(photo.lengths)] += 1
            found.lengths.update(photo.lengths)
        found.sets.append(SetCount(photos.name, row - before[0], found.captions - before[1]))
    found.table = table[:row]
    return found


def _measured(
    photos: PhotoSet, lengths: CaptionLengths, workers: int
) -> Iterator[tuple[int, _Measured | PhotoSkipped]]:
    """Every photo in order, opened by several threads: decoders release Python's lock."""
    indices = iter(range(len(photos)))
    with ThreadPoolExecutor(workers) as pool:
        while batch := list(islice(indices, BATCH * workers)):
            measured = pool.map(lambda index: _measure(photos, index, lengths), batch)
            yield from zip(batch, measured, strict=True)


def _measure(photos: PhotoSet, index: int, lengths: CaptionLengths) -> _Measured | PhotoSkipped:
    key = photos.key(index)
    try:
        captions = captions_in(photos.meta(index))
        data = photos.read(index)
        picture = open_picture(data, name="it")
        image = picture.whole_image
    except PhotoError as error:
        return PhotoSkipped(photos.name, error.key, error.reason)
    except (DataError, ImageError) as error:
        return PhotoSkipped(photos.name, key, str(error).rstrip("."))
    digest = int(picture.digest[:16], 16)
    return _Measured(image.size, *_header(data), digest, perceptual_hash(image), lengths.of(captions))


def _header(data: bytes) -> tuple[str, str, int]:
    """The file's format, colour mode and number of frames, which a decoded picture no longer has."""
    known = [name for name in FORMATS if name in Image.OPEN]
    with suppress(*DECODER_ERRORS), Image.open(BytesIO(data), formats=known) as image:
        return image.format or "?", image.mode, int(getattr(image, "n_frames", 1))
    return "?", "?", 1
