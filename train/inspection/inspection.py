"""Looking through sets of photos before they are learnt from: what is broken, cut, tiny or there twice."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from minigpt4.core.errors import DataError, ImageError
from minigpt4.core.pixels import DECODER_ERRORS, FORMATS, open_picture
from minigpt4.train.data.dataset import PhotoError, PhotoSet, captions_in
from minigpt4.train.events import PhotoSkipped
from minigpt4.train.inspection.caption_lengths import CaptionLengths
from minigpt4.train.inspection.perceptual_hash import alike, equal, likeness_of

AT_ONCE = 64
"""Photos that a worker is ahead of the count."""

LONG_SHAPE = 3.0
"""From this ratio of its sides on, a picture squashed to a square is hard to recognise."""


class Place(NamedTuple):
    """One photo: which of the sets, and its place there."""

    set: int
    photo: int


Group = tuple[Place, ...]


@dataclass(frozen=True)
class SetCount:
    """How much of a set can be used."""

    name: str
    photos: int
    captions: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Inspection:
    """What a look at every photo found. Photos are `places`, those that can be opened and have a caption.

    `skipped` are the others and why. `unlearnt` photos have captions of which the recipe's form
    leaves nothing. `sizes_P2` are widths and heights in pixels, upright. `lengths` counts captions
    by length. Groups are of two and more photos: of the `same_file`, or that `look_alike` and are
    not all the same file. `flat` photos are of one colour.
    """

    sets: tuple[SetCount, ...]
    skipped: tuple[PhotoSkipped, ...]
    unlearnt: int
    places: Sequence[Place]
    sizes_P2: NDArray[np.int64]
    formats: Counter[str]
    modes: Counter[str]
    animated: int
    captions_per_photo: Counter[int]
    lengths: Counter[int]
    same_file: tuple[Group, ...]
    look_alike: tuple[Group, ...]
    flat: Group

    @property
    def photos(self) -> int:
        """How many photos can be used."""
        return len(self.places)

    @property
    def captions(self) -> int:
        """How many captions they have, as the recipe's form leaves them."""
        return self.lengths.total()

    @property
    def skipped_fraction(self) -> float:
        """The share of all photos that cannot be used."""
        return len(self.skipped) / max(self.photos + len(self.skipped), 1)

    @property
    def in_several_sets(self) -> tuple[Group, ...]:
        """The groups of either kind that reach over more than one set."""
        groups = self.same_file + self.look_alike
        return tuple(group for group in groups if len({place.set for place in group}) > 1)

    def smaller_than(self, side: int) -> int:
        """How many photos have a side shorter than `side` pixels."""
        return int((self.sizes_P2.min(axis=1) < side).sum()) if self.photos else 0

    @property
    def long_shapes(self) -> int:
        """How many photos are at least LONG_SHAPE times as long as wide, or as wide as long."""
        if not self.photos:
            return 0
        return int((self.sizes_P2.max(axis=1) >= LONG_SHAPE * self.sizes_P2.min(axis=1)).sum())


@dataclass(frozen=True)
class _Seen:
    """What is kept of one photo."""

    size: tuple[int, int]
    format: str
    mode: str
    frames: int
    digest: int
    likeness: int | None
    lengths: list[int]


@dataclass
class _Findings:
    """Inspection while it grows: 40 bytes a photo."""

    skipped: list[PhotoSkipped]
    unlearnt: int = 0
    animated: int = 0
    sets: array[int] = field(default_factory=lambda: array("H"))
    photos: array[int] = field(default_factory=lambda: array("Q"))
    sizes: array[int] = field(default_factory=lambda: array("L"))
    digests: array[int] = field(default_factory=lambda: array("Q"))
    hashes: array[int] = field(default_factory=lambda: array("Q"))
    hashed: array[int] = field(default_factory=lambda: array("Q"))
    flat: array[int] = field(default_factory=lambda: array("Q"))
    formats: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    captions: Counter[int] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)

    def add(self, place: Place, seen: _Seen) -> None:
        number = len(self.photos)
        self.sets.append(place.set)
        self.photos.append(place.photo)
        self.sizes.extend(seen.size)
        self.digests.append(seen.digest)
        if seen.likeness is None:
            self.flat.append(number)
        else:
            self.hashes.append(seen.likeness)
            self.hashed.append(number)
        self.formats[seen.format] += 1
        self.modes[seen.mode] += 1
        self.animated += seen.frames > 1
        self.unlearnt += not seen.lengths
        self.captions[len(seen.lengths)] += 1
        self.lengths.update(seen.lengths)


def inspect_photos(
    sets: Sequence[PhotoSet],
    lengths: CaptionLengths,
    *,
    skipped: Sequence[PhotoSkipped] = (),
    workers: int = 2,
    advance: Callable[[], object] = lambda: None,
) -> Inspection:
    """Open every picture and measure every caption; `advance` is called once a photo.

    `skipped` is what was left out when the sets were opened; it is counted with the rest.
    """
    findings = _Findings(list(skipped))
    counts: list[SetCount] = []
    for number, photos in enumerate(sets):
        before = len(findings.photos), findings.lengths.total()
        for place, seen in _seen(photos, lengths, workers):
            if isinstance(seen, PhotoSkipped):
                findings.skipped.append(seen)
            else:
                findings.add(Place(number, place), seen)
            advance()
        after = len(findings.photos), findings.lengths.total()
        counts.append(SetCount(photos.name, after[0] - before[0], after[1] - before[1]))
    return _concluded(findings, tuple(counts))


def _concluded(findings: _Findings, counts: tuple[SetCount, ...]) -> Inspection:
    places = _Places(findings.sets, findings.photos)
    digests = np.asarray(findings.digests, dtype=np.uint64)
    hashed = np.asarray(findings.hashed, dtype=np.intp)
    groups = [hashed[group] for group in alike(np.asarray(findings.hashes, dtype=np.uint64))]

    def group_of(numbers: NDArray[np.intp]) -> Group:
        return tuple(places[number] for number in numbers.tolist())

    return Inspection(
        sets=counts,
        skipped=tuple(findings.skipped),
        unlearnt=findings.unlearnt,
        places=places,
        sizes_P2=np.asarray(findings.sizes, dtype=np.int64).reshape(-1, 2),
        formats=findings.formats,
        modes=findings.modes,
        animated=findings.animated,
        captions_per_photo=findings.captions,
        lengths=findings.lengths,
        same_file=tuple(map(group_of, equal(digests))),
        look_alike=tuple(group_of(group) for group in groups if len(set(digests[group].tolist())) > 1),
        flat=tuple(places[number] for number in findings.flat),
    )


class _Places(Sequence[Place]):
    """Places that are made when they are asked for: millions of tuples would take half a gigabyte."""

    def __init__(self, sets: array[int], photos: array[int]) -> None:
        self._sets, self._photos = sets, photos

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, number: int) -> Place:  # type: ignore[override]
        return Place(self._sets[number], self._photos[number])


def _seen(
    photos: PhotoSet, lengths: CaptionLengths, workers: int
) -> Iterator[tuple[int, _Seen | PhotoSkipped]]:
    """Every photo in order, opened by several threads: decoders let go of Python's lock."""
    places = iter(range(len(photos)))
    with ThreadPoolExecutor(workers) as pool:
        while some := list(islice(places, AT_ONCE * workers)):
            yield from zip(some, pool.map(lambda place: _look(photos, place, lengths), some), strict=True)


def _look(photos: PhotoSet, place: int, lengths: CaptionLengths) -> _Seen | PhotoSkipped:
    key = photos.key(place)
    try:
        captions = captions_in(photos.meta(place))
        data = photos.read(place)
        picture = open_picture(data, name="it")
        image = picture.image
    except PhotoError as fault:
        return PhotoSkipped(photos.name, fault.key, fault.reason)
    except (DataError, ImageError) as fault:
        return PhotoSkipped(photos.name, key, str(fault).rstrip("."))
    format_, mode, frames = _header(data)
    return _Seen(
        size=image.size,
        format=format_,
        mode=mode,
        frames=frames,
        digest=int(picture.digest[:16], 16),
        likeness=likeness_of(image),
        lengths=lengths.of(captions),
    )


def _header(data: bytes) -> tuple[str, str, int]:
    """The file's own format, colour mode and number of frames, which a decoded picture has no more."""
    known = [name for name in FORMATS if name in Image.OPEN]
    with suppress(*DECODER_ERRORS), Image.open(BytesIO(data), formats=known) as image:
        return image.format or "?", image.mode, int(getattr(image, "n_frames", 1))
    return "?", "?", 1
