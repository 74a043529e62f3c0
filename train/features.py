"""The frozen tower's features of whole sets of photos, computed once and kept on disk.

A set is a folder of the cache with `features.npy` (P photos, V views, N, D; float16, read through
a memory map) and `features.json`. Its name holds a fingerprint of everything that the features
follow from, so features of other photos, views or towers are never mistaken for it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from minigpt4.core.bundle import Bundle, VisionSpec
from minigpt4.core.errors import DataError, ImageError
from minigpt4.core.home import cache_home
from minigpt4.core.pixels import open_picture, to_pixels
from minigpt4.core.vision.fingerprint import tower_fingerprint
from minigpt4.core.vision.tower import VisionTower
from minigpt4.train.shards import Skip, count_photos, read_shard
from minigpt4.train.views import VERSION, view_of

BATCH = 32
"""Views that the tower sees at once; larger batches are no faster on two cores."""

ARRAY, HEADER = "features.npy", "features.json"


@dataclass(frozen=True, eq=False)
class Features:
    """The features (P, V, N, D), float16, of the photos with these keys, in the shards' order."""

    keys: tuple[str, ...]
    values_PVND: NDArray[np.float16]


@dataclass(frozen=True)
class FeatureSet:
    """Which features are meant: the photos of some shards, as a bundle's tower sees them.

    `photos` is how many the shards list, `size` the bytes their features take.
    """

    name: str
    shards: tuple[Path, ...]
    views: int
    fingerprint: str
    photos: int
    size: int
    vision: VisionSpec

    @property
    def folder(self) -> Path:
        """Where they are kept."""
        plain = re.sub(r"[^A-Za-z0-9]+", "-", self.name).strip("-")
        return cache_home() / "features" / f"{plain}-{self.fingerprint[:16]}"


def feature_set(name: str, shards: Sequence[Path], views: int, bundle: Bundle) -> FeatureSet:
    """The set of these shards' photos in `views` views; reads every shard once, for its checksum."""
    facts = {
        "tower": tower_fingerprint(bundle),
        "shards": [_checksum(shard) for shard in shards],
        "views": views,
        "views_version": VERSION if views > 1 else None,
    }
    photos = count_photos(shards)
    shape = bundle.projection.image_tokens * bundle.projection.inputs
    return FeatureSet(
        name=name,
        shards=tuple(shards),
        views=views,
        fingerprint=hashlib.sha256(json.dumps(facts).encode()).hexdigest(),
        photos=photos,
        size=photos * views * shape * np.dtype(np.float16).itemsize,
        vision=bundle.vision,
    )


def cached_features(wanted: FeatureSet) -> Features | None:
    """The features from the cache; None where they are missing, cut off or of another making."""
    try:
        header = json.loads((wanted.folder / HEADER).read_text(encoding="utf-8"))
        values = np.load(wanted.folder / ARRAY, mmap_mode="r")
        keys = tuple(str(key) for key in header["keys"])
        whole = header["fingerprint"] == wanted.fingerprint and values.dtype == np.float16
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None
    if not whole or values.ndim != 4 or len(values) < len(keys) or values.shape[1] != wanted.views:
        return None
    return Features(keys, values[: len(keys)])


def compute_features(
    wanted: FeatureSet,
    tower: VisionTower,
    *,
    advance: Callable[[int], None] = lambda _views: None,
    skipped: Skip = lambda _key, _reason: None,
) -> Features:
    """Look at every photo of the set and keep the features; `advance` is told how many views were seen.

    Photos that cannot be opened are left out and told to `skipped`. The set appears in the cache
    whole or not at all. Raises DataError where the shards hold no photo that can be used, OSError
    where the disk is full.
    """
    folder = wanted.folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free
    if free < wanted.size:
        # Said before an hour of work, not after.
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        keys = _fill(draft, wanted, tower, advance, skipped)
        if not keys:
            raise DataError(f"The shards of '{wanted.name}' hold no photo with a caption that can be opened.")
        header = {"fingerprint": wanted.fingerprint, "name": wanted.name, "keys": keys}
        (draft / HEADER).write_text(json.dumps(header), encoding="utf-8")
        draft.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            draft.rename(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            # Another process has just put the same features there.
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    features = cached_features(wanted)
    assert features is not None
    return features


def _fill(
    draft: Path, wanted: FeatureSet, tower: VisionTower, advance: Callable[[int], None], skipped: Skip
) -> list[str]:
    keys: list[str] = []
    shape = (wanted.photos, wanted.views, tower.tokens, tower.width)
    values = np.lib.format.open_memmap(draft / ARRAY, mode="w+", dtype=np.float16, shape=shape)
    with (draft / ARRAY).open("rb+") as file:
        # The file is a hole so far, and a write through the map to a full disk kills the process.
        os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
    flat = values.reshape(-1, tower.tokens, tower.width)
    pixels = _pixels_of(wanted, keys, skipped)
    done = 0
    while batch := list(islice(pixels, BATCH)):
        features_BND = tower.encode(torch.from_numpy(np.stack(batch)))
        flat[done : done + len(batch)] = features_BND.cpu().numpy()
        done += len(batch)
        advance(len(batch))
    values.flush()
    return keys


def _pixels_of(wanted: FeatureSet, keys: list[str], skipped: Skip) -> Iterator[NDArray[np.float32]]:
    """Every view of every photo as the tower's pixels; the keys of the photos are added to `keys`."""
    vision = wanted.vision
    for shard in wanted.shards:
        for sample in read_shard(shard, skipped=skipped):
            try:
                photo = open_picture(sample.jpg, name=sample.key).image
            except ImageError as error:
                skipped(sample.key, str(error))
                continue
            keys.append(sample.key)
            for view in range(wanted.views):
                seen = view_of(photo, sample.key, view)
                yield to_pixels(seen, vision.image_size, vision.mean, vision.std)


def _checksum(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"The shard {path} cannot be read: {error.strerror or error}.") from error
