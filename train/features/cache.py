"""The frozen tower's features of whole sets of photos, computed once and kept on disk.

    cache_home()/features/NAME-FINGERPRINT/features.json     what they follow from
    cache_home()/features/NAME-FINGERPRINT/part-00000.npy    (P photos, V views, N, D), float16

The fingerprint covers everything that the features follow from: tower, photos, views. Parts are
read through memory maps, and each appears whole or not at all, so that work that was cut off goes
on with the next part. A photo that cannot be opened has NaN for features.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.atomic import replacing
from minigpt4.core.bundles.bundle import VisionSpec
from minigpt4.core.paths import cache_home
from minigpt4.train.data.dataset import PhotoError, PhotoSet
from minigpt4.train.features.crops import VERSION
from minigpt4.train.features.pixels import pixels_of

PART_BYTES = 64 * 2**20
"""A part is as many photos as fill so much: seconds of a GPU's work, or a minute of a CPU's."""

HEADER = "features.json"

_OTHER = {"tower": "another tower", "photos": "other photos", "views": "other views"}

Values = NDArray[np.float16]


@dataclass(frozen=True)
class FeatureSet:
    """Which features are meant: (N, D) of each of the photos, in `views` views, as a tower sees them.

    `tower` is the tower's fingerprint (core/vision/fingerprint.py).
    """

    photos: PhotoSet
    views: int
    tower: str
    tokens: int
    width: int
    vision: VisionSpec

    @property
    def name(self) -> str:
        """What people call the photos."""
        return self.photos.name

    @cached_property
    def facts(self) -> Mapping[str, object]:
        """What the features follow from, each under the name that a person knows."""
        facts: dict[str, object] = {"tower": self.tower, "photos": self.photos.fingerprint}
        facts["views"] = [self.views, VERSION] if self.views > 1 else 1
        return facts

    @cached_property
    def fingerprint(self) -> str:
        """Equal only for equal features."""
        facts = [*self.facts.values(), self.tokens, self.width, self.part_photos]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    @property
    def folder(self) -> Path:
        """Where they are kept."""
        return cache_home() / "features" / f"{_plain(self.name)}-{self.fingerprint[:16]}"

    @property
    def photo_bytes(self) -> int:
        """What the features of one photo take on disk."""
        return self.views * self.tokens * self.width * np.dtype(np.float16).itemsize

    @property
    def size(self) -> int:
        """What all of them take on disk, in bytes."""
        return len(self.photos) * self.photo_bytes

    @property
    def part_photos(self) -> int:
        """Photos of a part; the last part may have fewer."""
        return max(1, PART_BYTES // self.photo_bytes)

    @property
    def parts(self) -> list[Part]:
        """All parts, in the photos' order."""
        return [Part(self, first) for first in range(0, len(self.photos), self.part_photos)]


@dataclass(frozen=True)
class Part:
    """The features of the photos from `first` on."""

    whole: FeatureSet
    first: int

    @property
    def path(self) -> Path:
        """Its file."""
        return self.whole.folder / f"part-{self.first // self.whole.part_photos:05d}.npy"

    @property
    def places(self) -> range:
        """Its photos."""
        return range(self.first, min(self.first + self.whole.part_photos, len(self.whole.photos)))

    @property
    def views(self) -> int:
        """How many views of photos the tower has to see for it."""
        return len(self.places) * self.whole.views

    def read(self) -> Values | None:
        """Its features (P, V, N, D), mapped; None where they are missing, cut off or of another form."""
        try:
            values = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (OSError, EOFError, ValueError):
            return None
        whole = self.whole
        shape = (len(self.places), whole.views, whole.tokens, whole.width)
        return values if values.dtype == np.float16 and values.shape == shape else None

    def write(self, values_PVND: Values) -> None:
        """Put its file in place; raises OSError where the disk is full."""
        for left in self.path.parent.glob(f".{self.path.name}.*.part"):  # of a process that was killed
            left.unlink()
        with replacing(self.path) as draft, draft.open("wb") as file:
            np.save(file, values_PVND)


class Features:
    """The features of a set of photos, part behind part."""

    def __init__(
        self,
        parts: Sequence[Values],
        part_photos: int,
        photos: PhotoSet | None = None,
        vision: VisionSpec | None = None,
    ) -> None:
        """`photos` and `vision` say why a photo without features cannot be opened."""
        self._parts = parts
        self._part_photos = part_photos
        self._photos = photos
        self._vision = vision

    @property
    def shape(self) -> tuple[int, int]:
        """N and D."""
        tokens, width = self._parts[0].shape[2:]
        return tokens, width

    def of(self, photo: int, view: int) -> Values:
        """The features (N, D) of a photo in a view; raises PhotoError where it could not be opened."""
        number, place = divmod(photo, self._part_photos)
        values_ND = np.array(self._parts[number][place, view])
        if np.isnan(values_ND[0, 0]):
            self._refuse(photo)
        return values_ND

    def _refuse(self, photo: int) -> None:
        if self._photos is None or self._vision is None:
            raise PhotoError("", str(photo), "it could not be opened")
        for _ in pixels_of(self._photos, photo, [0], self._vision):
            pass
        # It can be opened now, but what is learnt of it may not depend on when.
        raise PhotoError(
            self._photos.name, self._photos.key(photo), "it could not be opened when its features were made"
        )


def cached_features(wanted: FeatureSet) -> Features | None:
    """The features from the cache; None where one of their parts is missing or not as it should be."""
    if _facts_in(wanted.folder) != wanted.facts:
        return None
    found = []
    for part in wanted.parts:
        values = part.read()
        if values is None:
            return None
        found.append(values)
    return Features(found, wanted.part_photos, wanted.photos, wanted.vision)


def begin_folder(wanted: FeatureSet) -> None:
    """Make the folder and its header; one that says something else loses its parts."""
    if _facts_in(wanted.folder) == wanted.facts:
        return
    # Not the whole folder: other processes hold locks in it.
    for part in wanted.folder.glob("part-*.npy"):
        part.unlink()
    with replacing(wanted.folder / HEADER) as draft:
        header = {"name": wanted.name, "facts": wanted.facts}
        draft.write_text(json.dumps(header, indent=2), encoding="utf-8")


def stale_folders(wanted: FeatureSet) -> Iterator[tuple[Path, str]]:
    """Folders with features under the same name that do not fit, and in a few words why not.

    Those in another number of views are another recipe's and not mentioned.
    """
    for folder in sorted(wanted.folder.parent.glob(f"{_plain(wanted.name)}-*")):
        is_ours = re.fullmatch(r"[0-9a-f]{16}", folder.name.removeprefix(f"{_plain(wanted.name)}-"))
        facts = _facts_in(folder)
        if is_ours and facts is None:
            yield folder, "an older form of the cache"
        elif is_ours and facts is not None:
            changed = [name for name, fact in wanted.facts.items() if facts.get(name) != fact]
            if set(changed) - {"views"}:
                yield folder, " and ".join(_OTHER[name] for name in changed)


def _facts_in(folder: Path) -> Mapping[str, object] | None:
    try:
        facts = json.loads((folder / HEADER).read_text(encoding="utf-8"))["facts"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return facts if isinstance(facts, dict) else None


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
