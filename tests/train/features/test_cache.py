"""Cached features: computed once, with a fingerprint, in chunks that are written atomically."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from minigpt4.core.bundles.bundle import VisionSpec, load_bundle
from minigpt4.core.errors import BackendError, BundleError, DataError
from minigpt4.core.storage.locks import locked
from minigpt4.core.storage.paths import cache_home
from minigpt4.core.vision.base import VisionStages
from minigpt4.train.data.dataset import PhotoError
from minigpt4.train.data.open import open_photos
from minigpt4.train.events import Event, FeaturesComputed, FeaturesMissing, FeaturesStale, PhotoSkipped
from minigpt4.train.features import cache as features
from minigpt4.train.features.cache import HEADER, Features, FeatureSet, cached_features, prepare_folder
from minigpt4.train.features.compute import compute_missing_features
from minigpt4.train.features.crops import pixels_of

WriteShard = Callable[..., Path]
CAPTIONS = {key: f"A photo of {key}." for key in "abcdefg"}
CROPS = 2


class FakeTower:
    """Its features: an image's mean, and how much lighter its right half is than its left."""

    width, tokens = 2, 1
    class_columns = slice(0, 0)
    network = nn.Identity()

    def __init__(self, scale: float = 1.0) -> None:
        self.seen = 0
        self._scale = scale

    def encode(self, pixels_BCHW: Tensor) -> Tensor:
        self.seen += len(pixels_BCHW)
        left, right = (half.mean(dim=(1, 2, 3)) for half in pixels_BCHW.chunk(2, dim=3))
        return self._scale * torch.stack([(left + right) / 2, right - left], dim=1)[:, None]

    def stages(self, pixels_BCHW: Tensor) -> VisionStages:
        raise NotImplementedError


@pytest.fixture
def tower() -> FakeTower:
    return FakeTower()


@pytest.fixture
def vision() -> VisionSpec:
    return replace(load_bundle("mini").vision, image_size=4)


@pytest.fixture
def shard(write_shard: WriteShard) -> Path:
    return write_shard("0.tar", CAPTIONS)


@pytest.fixture(autouse=True)
def _parts_of_three_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "CHUNK_BYTES", 3 * CROPS * 2 * 2 + 1)


@pytest.fixture
def wanted(shard: Path, vision: VisionSpec) -> FeatureSet:
    """Seven photos in two crops: chunks of three, three and one."""
    return FeatureSet(open_photos(shard, name="people/train"), CROPS, "t1", 1, 2, vision)


def silent(_event: Event) -> None:
    """Ignores events."""


def all_of(found: Features | None, photos: int = 7, crops: int = CROPS) -> Any:
    assert found is not None
    return np.stack([[found.of(photo, crop) for crop in range(crops)] for photo in range(photos)])


def test_features_are_computed_once_and_then_read(wanted: FeatureSet, tower: FakeTower) -> None:
    loaded: list[FakeTower] = []
    events: list[Event] = []
    single = replace(wanted, crops=1)

    def load() -> FakeTower:
        loaded.append(tower)
        return tower

    compute_missing_features([wanted, single, wanted], load, events.append)
    assert (len(loaded), tower.seen) == (1, 7 * CROPS + 7)
    assert events[0] == FeaturesMissing(photos=14, crops=21, bytes=21 * 2 * 2)
    assert events[-1] == FeaturesComputed(21, 21)
    events.clear()
    compute_missing_features([wanted, single], load, events.append)
    assert (len(loaded), tower.seen, events) == (1, 21, [])
    assert len(list(wanted.folder.glob("part-*.npy"))) == 3
    found = cached_features(wanted)
    assert found is not None
    assert (found.of(6, 1).shape, found.of(6, 1).dtype) == ((1, 2), np.float16)


def test_cached_features_equal_the_tower_s(wanted: FeatureSet, tower: FakeTower, vision: VisionSpec) -> None:
    compute_missing_features([wanted], lambda: tower, silent)
    found = all_of(cached_features(wanted))
    for place in range(7):
        pixels = np.stack(list(pixels_of(wanted.photos, place, range(CROPS), vision)))
        seen = tower.encode(torch.from_numpy(pixels)).numpy()
        np.testing.assert_allclose(found[place], seen, atol=1e-3)
    assert len(np.unique(found.reshape(14, 2), axis=0)) == 14


def test_several_batches_stay_in_order(
    write_shard: WriteShard, tower: FakeTower, vision: VisionSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "CHUNK_BYTES", 10**6)
    shard = write_shard("many.tar", {str(number): "A thing." for number in range(90)})
    many = FeatureSet(open_photos(shard), 3, "t1", 1, 2, vision)
    compute_missing_features([many], lambda: tower, silent, workers=4)
    found = all_of(cached_features(many), 90, 3)
    alone = FeatureSet(open_photos(shard), 1, "t1", 1, 2, vision)
    compute_missing_features([alone], lambda: tower, silent, workers=1)
    assert np.array_equal(found[:, :1], all_of(cached_features(alone), 90, 1))
    assert tower.seen == 360


def test_the_fingerprint_depends_on_tower_photos_and_crops(
    wanted: FeatureSet, shard: Path, write_shard: WriteShard
) -> None:
    other = write_shard("other.tar", CAPTIONS | {"c": "A crow."})
    sets = [
        wanted,
        replace(wanted, crops=1),
        replace(wanted, tower="t2"),
        replace(wanted, tokens=2),
        replace(wanted, photos=open_photos(other, name="people/train")),
    ]
    assert len({one.folder for one in sets}) == len(sets)
    # A set's name and path decide where its features are cached, not their values.
    moved = shard.rename(shard.with_name("moved.tar"))
    assert replace(wanted, photos=open_photos(moved, name="x")).fingerprint == wanted.fingerprint


def test_interrupted_work_resumes_with_the_next_chunk(wanted: FeatureSet, tower: FakeTower) -> None:
    def interrupt(event: Event) -> None:
        if event == FeaturesComputed(4 * CROPS, 7 * CROPS):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute_missing_features([wanted], lambda: tower, interrupt)
    assert cached_features(wanted) is None
    assert [part.read() is not None for part in wanted.chunks] == [True, False, False]
    again = FakeTower()
    events: list[Event] = []
    compute_missing_features([wanted], lambda: again, events.append)
    assert again.seen == 4 * CROPS
    assert events[0] == FeaturesMissing(photos=4, crops=8, bytes=8 * 2 * 2)
    assert cached_features(wanted) is not None


def test_a_killed_process_s_partial_file_is_removed(wanted: FeatureSet, tower: FakeTower) -> None:
    compute_missing_features([wanted], lambda: tower, silent)
    part = wanted.chunks[1].path
    part.unlink()
    litter = part.with_name(f".{part.name}.abc123.part")
    litter.write_bytes(b"half")
    compute_missing_features([wanted], lambda: tower, silent)
    assert not litter.exists()
    assert cached_features(wanted) is not None


def cut_off(part: Path) -> None:
    os.truncate(part, part.stat().st_size - 3)


def empty(part: Path) -> None:
    part.write_bytes(b"")


def of_another_type(part: Path) -> None:
    np.save(part, np.load(part).astype(np.float32))


def too_short(part: Path) -> None:
    np.save(part, np.load(part)[:1])


def missing(part: Path) -> None:
    part.unlink()


@pytest.mark.parametrize("damage", [cut_off, empty, of_another_type, too_short, missing])
def test_a_damaged_chunk_is_computed_again(
    wanted: FeatureSet, tower: FakeTower, damage: Callable[[Path], None]
) -> None:
    compute_missing_features([wanted], lambda: tower, silent)
    before = all_of(cached_features(wanted))
    damage(wanted.chunks[1].path)
    assert cached_features(wanted) is None
    tower.seen = 0
    compute_missing_features([wanted], lambda: tower, silent)
    assert tower.seen == 3 * CROPS
    assert np.array_equal(all_of(cached_features(wanted)), before)


@pytest.mark.parametrize(
    "header", ["", "{", "[]", '{"facts": 7}', '{"name": "people/train", "facts": {"tower": "t0"}}']
)
def test_features_with_another_header_are_computed_again(
    wanted: FeatureSet, tower: FakeTower, header: str
) -> None:
    compute_missing_features([wanted], lambda: tower, silent)
    (wanted.folder / HEADER).write_text(header)
    assert cached_features(wanted) is None
    tower.seen = 0
    compute_missing_features([wanted], lambda: tower, silent)
    assert tower.seen == 7 * CROPS
    assert json.loads((wanted.folder / HEADER).read_text())["facts"] == wanted.dependencies


@pytest.mark.parametrize(
    ("changes", "output"),
    [({"tower": "t2"}, "another tower"), ({"crops": 1, "tower": "t2"}, "another tower and other crops")],
)
def test_stale_features_are_reported_and_kept(
    wanted: FeatureSet, tower: FakeTower, changes: dict[str, Any], output: str
) -> None:
    compute_missing_features([wanted], lambda: tower, silent)
    (cache_home() / "features" / "people-train-other-0123456789abcdef").mkdir()  # of another source
    events: list[Event] = []
    compute_missing_features([replace(wanted, **changes)], lambda: tower, events.append)
    stale = [event for event in events if isinstance(event, FeaturesStale)]
    assert stale == [FeaturesStale("people/train", output, str(wanted.folder))]
    assert cached_features(wanted) is not None


def test_features_of_another_number_of_crops_are_not_stale(wanted: FeatureSet, tower: FakeTower) -> None:
    events: list[Event] = []
    compute_missing_features([wanted], lambda: tower, silent)
    compute_missing_features([replace(wanted, crops=3)], lambda: tower, events.append)
    assert not any(isinstance(event, FeaturesStale) for event in events)


def test_a_cache_of_the_older_form_is_reported_and_not_read(wanted: FeatureSet, tower: FakeTower) -> None:
    older = cache_home() / "features" / "people-train-0123456789abcdef"
    older.mkdir(parents=True)
    (older / HEADER).write_text('{"fingerprint": "f", "keys": ["a"]}')
    events: list[Event] = []
    compute_missing_features([wanted], lambda: tower, events.append)
    assert events[0] == FeaturesStale("people/train", "an older form of the cache", str(older))
    assert tower.seen == 14


def test_photos_that_cannot_be_opened_are_reported_and_raise_on_access(
    write_shard: WriteShard, tower: FakeTower, vision: VisionSpec
) -> None:
    broken = {"a": b"no photo at all", "c": b"\xff\xd8\xff\xe0 half"}
    shard = write_shard("0.tar", {"a": "An ant.", "b": "A bee.", "c": "A cow."}, broken)
    one = FeatureSet(open_photos(shard, name="people"), CROPS, "t1", 1, 2, vision)
    events: list[Event] = []
    compute_missing_features([one], lambda: tower, events.append)
    reported = [event for event in events if isinstance(event, PhotoSkipped)]
    assert [(event.source, event.key) for event in reported] == [("people", "a"), ("people", "c")]
    assert events[-1] == FeaturesComputed(6, 6)
    found = cached_features(one)
    assert found is not None
    assert np.isfinite(found.of(1, 1)).all()
    for photo in (0, 2):
        with pytest.raises(PhotoError, match="cannot be used: ") as caught:
            found.of(photo, 0)
        assert caught.value.reason == reported[photo // 2].reason


def test_a_set_without_a_usable_photo_leaves_no_files(
    write_shard: WriteShard, tower: FakeTower, vision: VisionSpec
) -> None:
    shard = write_shard("0.tar", {"a": "An ant."}, {"a": b"no photo"})
    one = FeatureSet(open_photos(shard, name="people"), 1, "t1", 1, 2, vision)
    with pytest.raises(DataError, match="'people' holds no photo that can be opened"):
        compute_missing_features([one], lambda: tower, silent)
    assert not one.folder.exists()


def test_too_small_a_disk_is_an_error_before_the_tower_is_loaded(
    wanted: FeatureSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": wanted.size - 1})
    monkeypatch.setattr("minigpt4.core.download.sources.shutil.disk_usage", lambda _folder: usage)
    with pytest.raises(
        DataError, match=r"The features of the photos cannot be cached: .* 55 bytes free and 56"
    ):
        compute_missing_features([wanted], lambda: pytest.fail("the tower was loaded"), silent)


def test_a_full_disk_leaves_only_complete_chunks(
    wanted: FeatureSet, tower: FakeTower, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, saved = np.save, []

    def save(file: Any, values: Any) -> None:
        saved.append(values)
        if len(saved) == 2:
            file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file, values)

    monkeypatch.setattr(features.np, "save", save)
    with pytest.raises(OSError, match="No space left"):
        compute_missing_features([wanted], lambda: tower, silent)
    assert [path.name for path in wanted.folder.iterdir() if path.suffix != ".lock"] in (
        ["features.json", "part-00000.npy"],
        ["part-00000.npy", "features.json"],
    )


def test_processes_divide_the_chunks_and_all_get_complete_features(
    wanted: FeatureSet, tower: FakeTower
) -> None:
    """Two locks on a file opened twice exclude each other, in one process as in two."""
    other = FakeTower()
    begun = threading.Event()
    prepare_folder(wanted)

    def load() -> FakeTower:
        begun.set()
        return other

    with locked(wanted.chunks[1].path):  # as if it were being made elsewhere
        helper = threading.Thread(target=compute_missing_features, args=([wanted], load, silent))
        helper.start()
        assert begun.wait(20)
        while wanted.chunks[2].read() is None:
            helper.join(0.01)
        assert wanted.chunks[1].read() is None
        assert helper.is_alive()
        wanted.chunks[1].write(np.ones((3, CROPS, 1, 2), np.float16))
    helper.join(20)
    assert not helper.is_alive()
    assert other.seen == 4 * CROPS
    assert (all_of(cached_features(wanted))[3:6] == 1).all()


def test_a_chunk_locked_by_a_dead_process_is_computed(wanted: FeatureSet, tower: FakeTower) -> None:
    with locked(wanted.chunks[0].path):
        pass
    compute_missing_features([wanted], lambda: tower, silent)
    assert cached_features(wanted) is not None


def test_a_tower_of_another_shape_is_an_error(wanted: FeatureSet, tower: FakeTower) -> None:
    with pytest.raises(
        BundleError, match=r"tower outputs \(N, D\) = \(1, 2\) and its projection expects \(1, 7\)"
    ):
        compute_missing_features([replace(wanted, width=7)], lambda: tower, silent)
    assert tower.seen == 0


def test_features_above_float16_s_range_are_an_error(wanted: FeatureSet) -> None:
    with pytest.raises(BackendError, match="'people/train' exceed 65504"):
        compute_missing_features([wanted], lambda: FakeTower(scale=1e9), silent)
    assert cached_features(wanted) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_features_on_a_gpu_equal_those_on_a_cpu(wanted: FeatureSet, tower: FakeTower) -> None:
    compute_missing_features([wanted], lambda: tower, silent, device="cuda")
    on_gpu = all_of(cached_features(wanted))
    for part in wanted.chunks:
        part.path.unlink()
    compute_missing_features([wanted], lambda: tower, silent)
    np.testing.assert_allclose(on_gpu, all_of(cached_features(wanted)), atol=1e-3)
