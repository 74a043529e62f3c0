"""Features: computed once, never taken for others, and in the cache whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from minigpt4.core.bundle import Bundle, load_bundle
from minigpt4.core.errors import BundleError, DataError
from minigpt4.core.home import cache_home
from minigpt4.train import assemble, features
from minigpt4.train.assemble import FeatureSets, make_missing_features
from minigpt4.train.events import Event, FeaturesMade, FeaturesMissing, PhotoLeftOut
from minigpt4.train.features import ARRAY, HEADER, cached_features, compute_features, feature_set

WriteShard = Callable[..., Path]
CAPTIONS = {"a": "An ant.", "b": "A bee.", "c": "A cow."}
VIEWS = 2


class FakeTower:
    """Sees the mean of a picture, and how much lighter its right half is than its left."""

    width, tokens = 2, 1
    class_columns = slice(0, 0)

    def __init__(self) -> None:
        self.seen = 0

    def encode(self, pixels_BCHW: Tensor) -> Tensor:
        self.seen += len(pixels_BCHW)
        left, right = (half.mean(dim=(1, 2, 3)) for half in pixels_BCHW.chunk(2, dim=3))
        return torch.stack([(left + right) / 2, right - left], dim=1)[:, None]


@pytest.fixture
def tower() -> FakeTower:
    return FakeTower()


@pytest.fixture
def bundle(write_bundle: Any) -> Bundle:
    """A bundle whose tower sees 4 x 4 pixels and gives one vector of two numbers."""
    nowhere = [{"kind": "path", "path": "/nowhere"}]
    write_bundle("small", vision=b"v", vision_sources=nowhere, language=b"l", language_sources=nowhere)
    return load_bundle("small")


@pytest.fixture
def shard(write_shard: WriteShard) -> Path:
    return write_shard("0.tar", CAPTIONS)


def left_in_the_cache() -> list[str]:
    """Hidden drafts included."""
    folder = cache_home() / "features"
    return sorted(place.name for place in folder.iterdir()) if folder.is_dir() else []


def test_features_are_computed_once_and_read_ever_after(
    bundle: Bundle, shard: Path, tower: FakeTower, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Bundle] = []
    monkeypatch.setattr(assemble, "load_tower", lambda bundle: (loaded.append(bundle), tower)[1])
    one = feature_set("people/train", [shard], VIEWS, bundle)
    sets = FeatureSets(sources=(one, None, one), validation=feature_set("val", [shard], 1, bundle))
    events: list[Event] = []
    make_missing_features(sets, bundle, events.append)
    assert (len(loaded), tower.seen) == (1, 3 * VIEWS + 3)
    assert events[0] == FeaturesMissing(photos=6, views=9, bytes=9 * 2 * 2)
    assert events[-1] == FeaturesMade(9, 9)
    make_missing_features(sets, bundle, events.append)
    assert (len(loaded), tower.seen) == (1, 9)
    found = cached_features(feature_set("people/train", [shard], VIEWS, bundle))
    assert found is not None
    assert found.keys == ("a", "b", "c")
    assert found.values_PVND.shape == (3, VIEWS, 1, 2)
    assert found.values_PVND.dtype == np.float16


def test_every_view_is_what_the_tower_sees_of_it(bundle: Bundle, tower: FakeTower, write_shard: Any) -> None:
    shard = write_shard("many.tar", {str(number): "A thing." for number in range(20)})
    made = compute_features(feature_set("many", [shard], 4, bundle), tower)  # more than one batch
    alone = [
        compute_features(feature_set(f"one{views}", [shard], views, bundle), tower).values_PVND
        for views in (1, 3)
    ]
    assert np.array_equal(made.values_PVND[:, :1], alone[0])
    assert np.array_equal(made.values_PVND[:, :3], alone[1])
    assert len(np.unique(made.values_PVND.reshape(80, 2), axis=0)) > 75


def test_what_features_follow_from_tells_them_apart(bundle: Bundle, shard: Path, write_shard: Any) -> None:
    vision = bundle.vision
    sets = [
        feature_set("people", [shard], 1, bundle),
        feature_set("people", [shard], 2, bundle),
        feature_set("people", [write_shard("other.tar", CAPTIONS | {"c": "A crow."})], 1, bundle),
        feature_set("people", [shard, shard], 1, bundle),
        feature_set("people", [shard], 1, replace(bundle, vision=replace(vision, options={"grid": 2}))),
        feature_set("people", [shard], 1, replace(bundle, vision=replace(vision, image_size=8))),
    ]
    assert len({one.fingerprint for one in sets}) == len({one.folder for one in sets}) == len(sets)
    # Neither the folder's name nor what reads the features decides what they are.
    same = feature_set("elsewhere", [shutil.copy(shard, shard.with_name("copy.tar"))], 1, bundle)
    longer = replace(bundle, language=replace(bundle.language, context=16))
    assert {same.fingerprint, feature_set("people", [shard], 1, longer).fingerprint} == {sets[0].fingerprint}


def test_a_shard_that_has_changed_is_looked_at_again(
    bundle: Bundle, shard: Path, tower: FakeTower, write_shard: Any
) -> None:
    compute_features(feature_set("people", [shard], 1, bundle), tower)
    write_shard("0.tar", {"a": "An ant.", "d": "A dog."})
    changed = feature_set("people", [shard], 1, bundle)
    assert cached_features(changed) is None
    assert compute_features(changed, tower).keys == ("a", "d")


def cut_off(folder: Path) -> None:
    os.truncate(folder / ARRAY, (folder / ARRAY).stat().st_size - 3)


def empty(folder: Path) -> None:
    (folder / ARRAY).write_bytes(b"")


def of_another_type(folder: Path) -> None:
    np.save(folder / ARRAY, np.load(folder / ARRAY).astype(np.float32))


def too_short(folder: Path) -> None:
    np.save(folder / ARRAY, np.load(folder / ARRAY)[:2])


def without_header(folder: Path) -> None:
    (folder / HEADER).unlink()


def half_a_header(folder: Path) -> None:
    (folder / HEADER).write_text('{"keys": ["a", ')


def a_header_of_something_else(folder: Path) -> None:
    (folder / HEADER).write_text('{"keys": ["a", "b", "c"]}')


def of_another_making(folder: Path) -> None:
    header = json.loads((folder / HEADER).read_text())
    (folder / HEADER).write_text(json.dumps(header | {"fingerprint": "0" * 64}))


@pytest.mark.parametrize(
    "damage",
    [
        cut_off,
        empty,
        of_another_type,
        too_short,
        without_header,
        half_a_header,
        a_header_of_something_else,
        of_another_making,
    ],
)
def test_a_damaged_cache_is_not_trusted_and_made_again(
    bundle: Bundle, shard: Path, tower: FakeTower, damage: Callable[[Path], None]
) -> None:
    wanted = feature_set("people", [shard], VIEWS, bundle)
    before = np.array(compute_features(wanted, tower).values_PVND)
    damage(wanted.folder)
    assert cached_features(wanted) is None
    compute_features(wanted, tower)
    again = cached_features(wanted)
    assert again is not None
    assert np.array_equal(again.values_PVND, before)
    assert left_in_the_cache() == [wanted.folder.name]


def test_photos_that_cannot_be_opened_are_left_out_and_told(
    bundle: Bundle, tower: FakeTower, write_shard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = {"a": b"no photo at all", "c": b"\xff\xd8\xff\xe0 half"}
    shard = write_shard("0.tar", CAPTIONS | {"d": "A dog."}, broken)
    monkeypatch.setattr(assemble, "load_tower", lambda _bundle: tower)
    one = feature_set("people", [shard], VIEWS, bundle)
    events: list[Event] = []
    make_missing_features(FeatureSets((one,), one), bundle, events.append)
    told = [event for event in events if isinstance(event, PhotoLeftOut)]
    assert [(event.source, event.key) for event in told] == [("people", "a"), ("people", "c")]
    assert all("\n" not in event.reason for event in told)
    found = cached_features(one)
    assert found is not None
    assert found.keys == ("b", "d")
    assert found.values_PVND.shape[0] == 2
    assert np.isfinite(found.values_PVND).all()


def test_shards_without_a_usable_photo_leave_nothing_behind(
    bundle: Bundle, tower: FakeTower, write_shard: Any
) -> None:
    shard = write_shard("0.tar", {"a": "An ant."}, {"a": b"no photo"})
    with pytest.raises(DataError, match="The shards of 'people' hold no photo with a caption that can be op"):
        compute_features(feature_set("people", [shard], 1, bundle), tower)
    assert left_in_the_cache() == []


def test_too_small_a_disk_is_told_before_anything_is_looked_at(
    bundle: Bundle, shard: Path, tower: FakeTower, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = feature_set("people", [shard], VIEWS, bundle)
    usage = shutil.disk_usage("/")._replace(free=wanted.size - 1)
    monkeypatch.setattr(features.shutil, "disk_usage", lambda _folder: usage)
    with pytest.raises(OSError, match="No space left") as caught:
        compute_features(wanted, tower)
    assert caught.value.errno == errno.ENOSPC
    assert tower.seen == 0
    assert left_in_the_cache() == []


def test_the_space_on_the_disk_is_taken_before_the_tower_looks(
    bundle: Bundle, shard: Path, tower: FakeTower, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        compute_features(feature_set("people", [shard], VIEWS, bundle), tower)
    assert tower.seen == 0
    assert left_in_the_cache() == []


def test_an_interrupt_leaves_nothing_half_made(bundle: Bundle, shard: Path, tower: FakeTower) -> None:
    def interrupt(_views: int) -> None:
        raise KeyboardInterrupt

    wanted = feature_set("people", [shard], VIEWS, bundle)
    with pytest.raises(KeyboardInterrupt):
        compute_features(wanted, tower, advance=interrupt)
    assert cached_features(wanted) is None
    assert left_in_the_cache() == []


def test_a_tower_that_does_not_fit_its_projection_is_refused(
    bundle: Bundle, shard: Path, tower: FakeTower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assemble, "load_tower", lambda _bundle: tower)
    wrong = replace(bundle, projection=replace(bundle.projection, inputs=7))
    one = feature_set("people", [shard], 1, wrong)
    with pytest.raises(
        BundleError, match=r"tower gives \(N, D\) = \(1, 2\) and its projection reads \(1, 7\)"
    ):
        make_missing_features(FeatureSets((one,), one), wrong, lambda _event: None)
    assert tower.seen == 0
