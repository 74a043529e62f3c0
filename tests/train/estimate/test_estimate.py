"""Estimates of a run, compared with what the paper's runs took."""

from __future__ import annotations

import pytest

from minigpt4.core.bundles.bundle import load_bundle
from minigpt4.core.errors import UsageError
from minigpt4.train.estimate.estimate import Estimate, device_named, estimate, estimate_text
from minigpt4.train.estimate.flops import GIB
from minigpt4.train.recipe import bundle_for
from minigpt4.train.recipe_file import read_recipe, recipe_path, with_settings


def estimated(
    recipe: str, *settings: str, device: str = "A100", processes: int = 1, photos: int | None = None
) -> Estimate:
    chosen = with_settings(read_recipe(recipe_path(recipe)), settings)
    bundle = bundle_for(chosen, load_bundle(chosen.bundle))
    return estimate(chosen, bundle, device=device_named(device), processes=processes, photos=photos)


def test_the_papers_stage_1_takes_about_ten_hours_of_four_a100() -> None:
    found = estimated("stage1", processes=4)
    assert 7 < found.hours < 11
    assert found.fits
    assert found.photos == 5_120_000


def test_the_papers_stage_2_takes_about_seven_minutes_of_one() -> None:
    assert 4 < estimated("stage2").hours * 60 < 9


def test_more_processes_take_less_time_and_less_memory_each() -> None:
    one, four = (estimated("stage1", "batch_size=64", "micro_batch=0", processes=count) for count in (1, 4))
    assert four.hours == pytest.approx(one.hours / 4)
    assert four.memory["activations"] < one.memory["activations"]


@pytest.mark.parametrize(("precision", "least", "most"), [("bf16", 23, 25), ("int8", 11, 14), ("nf4", 6, 8)])
def test_quantized_weights_take_less_memory(precision: str, least: float, most: float) -> None:
    found = estimated("stage1", f"precision={precision}")
    assert least < found.memory["language model"] / GIB < most


def test_13b_fits_in_24_gib_only_in_four_bits() -> None:
    assert estimated("stage1", device="4090").fits is False
    assert estimated("stage1", "precision=nf4", "micro_batch=8", device="4090").fits


def test_repeated_photos_are_encoded_once() -> None:
    every, few = estimated("stage2"), estimated("stage2", photos=100)
    assert few.flops < every.flops
    assert few.cache_bytes == 100 * 32 * 768 * 2
    assert few.data_bytes < every.data_bytes


def test_without_a_q_former_the_features_take_more_disk_space() -> None:
    assert estimated("ablation-no-qformer").cache_bytes > 10 * estimated("stage1").cache_bytes


def test_nothing_is_fetched_or_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an estimate opened a file of the bundle")

    monkeypatch.setattr("minigpt4.core.download.fetch.ensure", refuse)
    assert estimated("mini-stage1").fetch_bytes > 100_000_000


def test_the_text_lists_every_part_and_whether_it_fits() -> None:
    recipe = read_recipe(recipe_path("stage1"))
    bundle = bundle_for(recipe, load_bundle(recipe.bundle))
    found = estimate(recipe, bundle, device=device_named("a100"), processes=4)
    text = estimate_text(found, recipe, bundle)
    assert "20,000 steps of 256 photos on 4 x A100" in text
    assert all(part in text for part in found.memory)
    assert "of 80.0 GiB: fits" in text


def test_an_unknown_device_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'V100'.*A100, H100, 4090 and CPU"):
        device_named("V100")


def test_this_machines_speed_is_measured() -> None:
    found = device_named("CPU")
    assert found.peak > 1e7
    assert found.memory > 0


@pytest.mark.parametrize("recipe", ["mini-stage1", "stage1"])
def test_small_weights_take_float32_on_a_processor_without_bfloat16(
    recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    for has_amx in (True, False):
        monkeypatch.setattr("minigpt4.train.precision.has_amx", lambda has_amx=has_amx: has_amx)
        found[has_amx] = estimated(recipe, device="cpu").memory["language model"]
    assert found[False] == pytest.approx((2 if recipe == "mini-stage1" else 1) * found[True], rel=0.01)
