"""The frozen tower's features of whole photo sets, computed once and cached on disk.

    cache_home()/features/NAME-FINGERPRINT/features.json     what they depend on
    cache_home()/features/NAME-FINGERPRINT/part-00000.npy    (P photos, V crops, N, D), float16

The fingerprint covers everything that the features depend on: tower, photos, crops. The files are
memory-mapped and written atomically, so that interrupted work resumes with the next one. A photo
that cannot be opened has NaN features.
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

from minigpt4.core.bundles.bundle import VisionSpec
from minigpt4.core.pixels import PIXELS_VERSION
from minigpt4.core.storage.atomic import replacing
from minigpt4.core.storage.paths import cache_home
from minigpt4.train.data.dataset import PhotoError, PhotoSet
from minigpt4.train.features.crops import VERSION, pixels_of

CHUNK_BYTES = 64 * 2**20
"""Size of a chunk: seconds of work for a GPU, a minute for a CPU."""

HEADER = "features.json"

_OTHER = {
    "tower": "another tower",
    "photos": "other photos",
    "views": "other crops",
    "pixels": "an earlier reading of color profiles",
}

Values = NDArray[np.float16]


@dataclass(frozen=True)
class FeatureSet:
    """Identifies features: (N, D) of every photo in a number of crops, from a tower with a fingerprint
    (core/vision/fingerprint.py).
    """

    photos: PhotoSet
    crops: int
    tower: str
    tokens: int
    width: int
    vision: VisionSpec
    kind: str = ""
    """The kind of features, for the folder's name; empty for the tower's."""

    @property
    def name(self) -> str:
        """The name of the photo set."""
        return self.photos.name

    @property
    def folder_name(self) -> str:
        """The beginning of the folder's name."""
        return _slug(f"{self.name} {self.kind}")

    @cached_property
    def dependencies(self) -> Mapping[str, object]:
        """What the features depend on; written to the header."""
        found: dict[str, object] = {"tower": self.tower, "photos": self.photos.fingerprint}
        found["views"] = [self.crops, VERSION] if self.crops > 1 else 1
        # For all photos: finding those with a color profile would take as long as reading them all.
        found["pixels"] = PIXELS_VERSION
        return found

    @cached_property
    def fingerprint(self) -> str:
        """Equal only for equal features."""
        values = [*self.dependencies.values(), self.tokens, self.width, self.chunk_photos]
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()

    @property
    def folder(self) -> Path:
        """The folder in the cache."""
        return cache_home() / "features" / f"{self.folder_name}-{self.fingerprint[:16]}"

    @property
    def photo_bytes(self) -> int:
        """Bytes on disk of one photo's features."""
        return self.crops * self.tokens * self.width * np.dtype(np.float16).itemsize

    @property
    def size(self) -> int:
        """Bytes on disk of all features."""
        return len(self.photos) * self.photo_bytes

    @property
    def chunk_photos(self) -> int:
        """Photos of a chunk; the last one may have fewer."""
        return max(1, CHUNK_BYTES // self.photo_bytes)

    @property
    def chunks(self) -> list[Chunk]:
        """All chunks, in the photos' order."""
        return [Chunk(self, first) for first in range(0, len(self.photos), self.chunk_photos)]


@dataclass(frozen=True)
class Chunk:
    """The features of the photos from `first` on, in one file."""

    feature_set: FeatureSet
    first: int

    @property
    def path(self) -> Path:
        """The chunk's file."""
        return self.feature_set.folder / f"part-{self.first // self.feature_set.chunk_photos:05d}.npy"

    @property
    def places(self) -> range:
        """The indices of the chunk's photos."""
        return range(
            self.first, min(self.first + self.feature_set.chunk_photos, len(self.feature_set.photos))
        )

    @property
    def crops(self) -> int:
        """The number of crops that the tower encodes for the chunk."""
        return len(self.places) * self.feature_set.crops

    def read(self) -> Values | None:
        """The features (P, V, N, D), memory-mapped; None if missing, truncated or of another form."""
        try:
            values = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (OSError, EOFError, ValueError):
            return None
        wanted = self.feature_set
        shape = (len(self.places), wanted.crops, wanted.tokens, wanted.width)
        return values if values.dtype == np.float16 and values.shape == shape else None

    def write(self, values_PVND: Values) -> None:
        """Write the file atomically; raises OSError if the disk is full."""
        for left in self.path.parent.glob(f".{self.path.name}.*.part"):  # left by a process that was killed
            left.unlink()
        with replacing(self.path) as draft, draft.open("wb") as file:
            np.save(file, values_PVND)


class Features:
    """The features of a photo set, chunk by chunk."""

    def __init__(self, feature_set: FeatureSet, chunks: Sequence[Values]) -> None:
        """`chunks` are those of `feature_set`, in its order."""
        self._feature_set = feature_set
        self._chunks = chunks

    def of(self, photo: int, crop: int) -> Values:
        """The features (N, D) of a photo's crop; raises PhotoError if it could not be opened."""
        number, place = divmod(photo, self._feature_set.chunk_photos)
        values_ND = np.array(self._chunks[number][place, crop])
        if np.isnan(values_ND[0, 0]):
            photos = self._feature_set.photos
            list(pixels_of(photos, photo, [0], self._feature_set.vision))  # raises if it still fails
            # It can be opened now, but the samples of a run must not depend on the time.
            reason = "it could not be opened when its features were computed"
            raise PhotoError(photos.name, photos.key(photo), reason)
        return values_ND


def cached_features(wanted: FeatureSet) -> Features | None:
    """The cached features; None if a chunk is missing or invalid."""
    if _header(wanted.folder) != wanted.dependencies:
        return None
    found = []
    for chunk in wanted.chunks:
        values = chunk.read()
        if values is None:
            return None
        found.append(values)
    return Features(wanted, found)


def prepare_folder(wanted: FeatureSet) -> None:
    """Create the folder and its header; delete the chunks of a folder with another header."""
    if _header(wanted.folder) == wanted.dependencies:
        return
    # Not the whole folder: other processes hold locks in it.
    for path in wanted.folder.glob("part-*.npy"):
        path.unlink()
    with replacing(wanted.folder / HEADER) as draft:
        header = {"name": wanted.name, "facts": wanted.dependencies}
        draft.write_text(json.dumps(header, indent=2), encoding="utf-8")


def stale_folders(wanted: FeatureSet) -> Iterator[tuple[Path, str]]:
    """Folders with features of the same name that do not match, each with the reason.

    Features with another number of crops belong to another recipe and are not listed.
    """
    for folder in sorted(wanted.folder.parent.glob(f"{wanted.folder_name}-*")):
        is_ours = re.fullmatch(r"[0-9a-f]{16}", folder.name.removeprefix(f"{wanted.folder_name}-"))
        header = _header(folder)
        if is_ours and header is None:
            yield folder, "an older form of the cache"
        elif is_ours and header is not None:
            changed = [name for name, value in wanted.dependencies.items() if header.get(name) != value]
            if set(changed) - {"views"}:
                yield folder, " and ".join(_OTHER[name] for name in changed)


def _header(folder: Path) -> Mapping[str, object] | None:
    try:
        found = json.loads((folder / HEADER).read_text(encoding="utf-8"))["facts"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, dict) else None


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
