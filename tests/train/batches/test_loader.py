"""Batches: the same for any number of workers and processes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from minigpt4.core.bundles.bundle import VisionSpec, load_bundle
from minigpt4.train.batches.loader import VALIDATION_BATCH, Loader
from minigpt4.train.batches.run_data import RunData
from minigpt4.train.batches.samples import Batch, Sample, Skipped
from minigpt4.train.batches.shuffle import Order
from minigpt4.train.data.open import open_photos
from minigpt4.train.data.subset import Selection
from minigpt4.train.features.cache import Features, FeatureSet
from minigpt4.train.features.crops import pixels_of

WriteShard = Callable[..., Path]
PHOTOS, BATCH = 12, 5


@pytest.fixture
def vision() -> VisionSpec:
    return replace(load_bundle("mini").vision, image_size=6)


@pytest.fixture
def data(write_shard: WriteShard) -> RunData:
    """Twelve photos, of which number 3 is damaged; the last two are held out."""
    shard = write_shard("s.tar", {str(number): "A dog." for number in range(PHOTOS)}, {"3": b"no photo"})
    whole = open_photos(shard, name="dogs")
    trained = Selection("dogs", (whole,), np.arange(PHOTOS - 2))
    held = Selection("held", (whole,), np.array([11, 10]))
    return RunData((trained,), held, ((whole, 2),))


def sample_of(number: int) -> Sample | Skipped:
    """Each photo in turn, shuffled; number 7 has no caption."""
    if number == 7:
        return Skipped("dogs", "7", "no caption", 7)
    place = Order(1, [PHOTOS - 2], [1]).at(number)
    return Sample(0, place.photo, number % 2, (), number)


@pytest.fixture
def features(data: RunData, vision: VisionSpec, monkeypatch: pytest.MonkeyPatch) -> Features:
    values_PVND = np.arange(PHOTOS * 2 * 3 * 4, dtype=np.float16).reshape(PHOTOS, 2, 3, 4)
    values_PVND[3] = np.nan
    monkeypatch.setattr("minigpt4.train.features.cache.CHUNK_BYTES", values_PVND[:8].nbytes)
    (photos, crops), *_ = data.photo_sets
    return Features(FeatureSet(photos, crops, "tower", 3, 4, vision), [values_PVND[:8], values_PVND[8:]])


def same(one: Batch, other: Batch) -> bool:
    """Whether all but the clock is equal."""
    tensors = [(batch.pixels_BCHW, batch.features_BND) for batch in (one, other)]
    return (one.samples, one.skipped) == (other.samples, other.skipped) and all(
        (first is None) == (second is None) and (first is None or torch.equal(first, second))
        for first, second in zip(*tensors, strict=True)
    )


def test_pixels_are_those_of_the_sampled_crops(data: RunData, vision: VisionSpec) -> None:
    with Loader(sample_of, data, None, vision, batch_size=BATCH) as loader:
        batch = loader.batch(0)
    assert batch.features_BND is None
    assert batch.pixels_BCHW is not None
    assert batch.pixels_BCHW.shape == (len(batch.samples), 3, 6, 6)
    whole = data.photo_sets[0][0]
    for sample, pixels in zip(batch.samples, batch.pixels_BCHW, strict=True):
        (wanted,) = pixels_of(whole, sample.photo, [sample.crop], vision)
        assert np.array_equal(pixels.numpy(), wanted)
    assert len({sample.photo for sample in batch.samples}) == len(batch.samples)


def test_features_are_those_of_the_sampled_crops(
    data: RunData, vision: VisionSpec, features: Features
) -> None:
    with Loader(sample_of, data, [features], vision, batch_size=BATCH) as loader:
        batch = loader.batch(0)
    assert batch.pixels_BCHW is None
    assert batch.features_BND is not None
    for sample, found in zip(batch.samples, batch.features_BND, strict=True):
        assert np.array_equal(found.numpy(), features.of(sample.photo, sample.crop))


@pytest.mark.parametrize("is_cached", [False, True])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_batch_depends_only_on_its_step(
    data: RunData, vision: VisionSpec, features: Features, workers: int, is_cached: bool
) -> None:
    cached = [features] if is_cached else None

    def batches(steps: list[int], workers: int) -> dict[int, Batch]:
        with Loader(sample_of, data, cached, vision, batch_size=BATCH, workers=workers) as loader:
            return {step: loader.batch(step) for step in steps}

    wanted = batches([0, 1, 2, 3], workers=2)
    found = batches([3, 1, 2, 0, 1], workers)
    assert all(same(found[step], wanted[step]) for step in wanted)


@pytest.mark.parametrize("size", [2, 4, 7])
def test_processes_divide_a_step_without_overlap(
    data: RunData, vision: VisionSpec, features: Features, size: int
) -> None:
    def numbers(rank: int, size: int) -> list[int]:
        with Loader(
            sample_of, data, [features], vision, batch_size=BATCH, rank=rank, world_size=size
        ) as loader:
            batches = [loader.batch(step) for step in (0, 1, 2)]
        return [one.index for batch in batches for one in (*batch.samples, *batch.skipped)]

    together = [number for rank in range(size) for number in numbers(rank, size)]
    assert sorted(together) == sorted(numbers(0, 1)) == list(range(3 * BATCH))


@pytest.mark.parametrize("is_cached", [False, True])
def test_unusable_photos_are_reported_and_the_others_loaded(
    data: RunData, vision: VisionSpec, features: Features, is_cached: bool
) -> None:
    with Loader(sample_of, data, [features] if is_cached else None, vision, batch_size=10) as loader:
        batch = loader.batch(0)
    assert {one.key for one in batch.skipped if one.reason == "no caption"} == {"7"}
    broken = [one for one in batch.skipped if one.reason != "no caption"]
    assert [(one.source, one.key) for one in broken] == [("dogs", "3")]
    assert len(batch.samples) == 8
    values = batch.features_BND if is_cached else batch.pixels_BCHW
    assert values is not None
    assert len(values) == 8
    assert torch.isfinite(values).all()


def test_a_batch_without_a_usable_sample_is_empty(data: RunData, vision: VisionSpec) -> None:
    def nothing(number: int) -> Skipped:
        return Skipped("dogs", str(number), "no caption", number)

    with Loader(nothing, data, None, vision, batch_size=2) as loader:
        batch = loader.batch(0)
    assert (batch.samples, batch.pixels_BCHW, batch.features_BND) == ((), None, None)
    assert [one.key for one in batch.skipped] == ["0", "1"]


def test_the_next_step_is_prefetched(data: RunData, vision: VisionSpec, features: Features) -> None:
    drawn: list[int] = []
    is_ready = threading.Event()

    def drawing(number: int) -> Sample | Skipped:
        drawn.append(number)
        if number == 2 * BATCH - 1:
            is_ready.set()
        return sample_of(number)

    with Loader(drawing, data, [features], vision, batch_size=BATCH, workers=1) as loader:
        loader.batch(0)
        assert is_ready.wait(20)
        batch = loader.batch(1)
        assert drawn[: 2 * BATCH] == list(range(2 * BATCH))
        assert 0 <= batch.waited < 20


def test_the_wait_for_data_is_measured(data: RunData, vision: VisionSpec) -> None:
    gate = threading.Event()

    def slow(number: int) -> Sample | Skipped:
        gate.wait(20)
        return sample_of(number)

    with Loader(slow, data, None, vision, batch_size=2) as loader:
        threading.Timer(0.05, gate.set).start()
        assert loader.batch(0).waited > 0.04


def test_a_programming_error_is_not_a_skipped_photo(data: RunData, vision: VisionSpec) -> None:
    def wrong(number: int) -> Sample:
        raise ZeroDivisionError

    with Loader(wrong, data, None, vision, batch_size=2) as loader, pytest.raises(ZeroDivisionError):
        loader.batch(0)


@pytest.mark.parametrize("size", [1, 3])
def test_processes_divide_the_validation_samples(
    data: RunData, vision: VisionSpec, features: Features, size: int
) -> None:
    samples = [Sample(0, number % 2, 0, (), number) for number in range(2 * VALIDATION_BATCH + 1)]
    seen: list[Sample] = []
    for rank in range(size):
        with Loader(
            sample_of, data, [features], vision, batch_size=BATCH, rank=rank, world_size=size
        ) as loader:
            batches = list(loader.validation(samples))
            assert all(map(same, batches, loader.validation(samples)))
        assert max(len(batch.samples) for batch in batches) <= VALIDATION_BATCH
        for batch in batches:
            assert batch.features_BND is not None
            for sample, found in zip(batch.samples, batch.features_BND, strict=True):
                assert np.array_equal(found.numpy(), features.of(11 - sample.photo, 0))
        seen += [sample for batch in batches for sample in batch.samples]
    assert sorted(seen, key=lambda sample: sample.index) == samples


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_pinned_batches_are_pinned(data: RunData, vision: VisionSpec) -> None:
    with Loader(sample_of, data, None, vision, batch_size=2, pinned=True) as loader:
        pixels = loader.batch(0).pixels_BCHW
    assert pixels is not None
    assert pixels.is_pinned()
