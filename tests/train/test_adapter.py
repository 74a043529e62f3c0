"""The adapter: initialised or loaded, saved, and averaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from minigpt4.core.bundles.bundle import Bundle, ObjectsSpec, load_bundle
from minigpt4.core.bundles.source import File
from minigpt4.core.errors import BundleError, UsageError
from minigpt4.core.projection import Projection, load_projection, save_projection
from minigpt4.core.vision.objects import WIDTH as OBJECT_WIDTH
from minigpt4.core.vision.tower import load_tower
from minigpt4.core.weights.released import qformer_tensors
from minigpt4.train import build
from minigpt4.train.adapter import (
    PROJECTION,
    QFORMER,
    Adapter,
    average_adapters,
    check_start,
    feature_shape,
    features_fingerprint,
    initial_adapter,
    load_adapter,
    save_adapter,
    tower_for,
)
from minigpt4.train.recipe import Recipe, bundle_for

MakeRecipe = Callable[..., Recipe]


def small_bundle(layers: int = 1) -> Bundle:
    """mini with a projection of four numbers to three."""
    mini = load_bundle("mini")
    return replace(mini, projection=replace(mini.projection, inputs=4, outputs=3, layers=layers))


def filled(value: float, layers: int = 1) -> Adapter:
    adapter = Adapter(Projection(4, 3, layers))
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.fill_(value)
    return adapter


def saved(folder: Path, adapter: Adapter) -> Path:
    folder.mkdir(parents=True)
    save_adapter(folder, adapter)
    return folder


def values(adapter: Adapter) -> list[Tensor]:
    return [parameter.detach() for parameter in adapter.parameters()]


@pytest.mark.parametrize("layers", [1, 3])
def test_a_saved_adapter_loads_equal(tmp_path: Path, layers: int) -> None:
    adapter = filled(0.25, layers)
    again = filled(0.0, layers)
    load_adapter(saved(tmp_path / "adapter", adapter), again)
    assert all(torch.equal(one, other) for one, other in zip(values(adapter), values(again), strict=True))
    assert not (tmp_path / "adapter" / QFORMER).exists()


def test_adapters_are_averaged_by_weight(tmp_path: Path) -> None:
    folders = [saved(tmp_path / str(value), filled(value)) for value in (1.0, 3.0)]
    like = filled(9.0)
    mean = average_adapters(like, {folders[0]: 0.25, folders[1]: 0.75})
    assert all((value == 2.5).all() for value in values(mean))
    assert all((value == 9.0).all() for value in values(like))


def test_initial_weights_follow_from_the_seed(tiny_recipe: MakeRecipe) -> None:
    first, again, other = (
        initial_adapter(tiny_recipe(seed=seed), small_bundle(), None) for seed in (1, 1, 2)
    )
    assert torch.equal(values(first)[0], values(again)[0])
    assert not torch.equal(values(first)[0], values(other)[0])
    assert all(parameter.requires_grad for parameter in first.parameters())


@pytest.mark.parametrize("where", ["a file", "an ended run", "a checkpoint", "a running run"])
def test_a_run_starts_from_trained_weights(tiny_recipe: MakeRecipe, tmp_path: Path, where: str) -> None:
    run = tmp_path / "run"
    saved(run / "checkpoints" / "9", filled(9.0))
    newest = saved(run / "checkpoints" / "10", filled(10.0))
    if where == "an ended run":
        save_adapter(run, filled(11.0))
    start, value = {
        "a file": (newest / PROJECTION, 10.0),
        "an ended run": (run, 11.0),
        "a checkpoint": (run / "checkpoints" / "9", 9.0),
        "a running run": (run, 10.0),
    }[where]
    adapter = initial_adapter(tiny_recipe(), small_bundle(), start)
    assert all((found == value).all() for found in values(adapter))


@pytest.mark.parametrize("start", ["none.safetensors", "."])
def test_a_missing_start_is_an_error(tiny_recipe: MakeRecipe, tmp_path: Path, start: str) -> None:
    with pytest.raises(BundleError, match="There is no projection file"):
        check_start(tmp_path / start, tiny_recipe(), small_bundle())
    check_start(None, tiny_recipe(), small_bundle())


def test_a_start_of_another_shape_is_an_error(tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    save_projection(tmp_path / "other.safetensors", Projection(5, 3))
    with pytest.raises(BundleError, match=r"has the shape \(3, 5\) and \(3, 4\) is wanted"):
        initial_adapter(tiny_recipe(), small_bundle(), tmp_path / "other.safetensors")


def test_only_the_columns_that_are_to_be_trained_get_a_gradient() -> None:
    adapter = filled(1.0)
    adapter.train_only(slice(2, 4))
    adapter(torch.ones(2, 5, 4)).sum().backward()
    linear = adapter.projection.linear
    assert linear.weight.grad is not None and linear.bias.grad is not None
    assert linear.weight.grad.tolist() == [[0, 0, 10, 10]] * 3
    assert not linear.bias.grad.any()


@pytest.mark.parametrize(("which", "trained"), [("objects", slice(4, None)), ("tower", slice(4))])
def test_a_recipe_trains_the_columns_of_the_detector_or_of_the_tower(
    which: str, trained: slice, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    objects = ObjectsSpec("ssd-mobilenet-v2", File("detector.pb", 1), limit=2, min_score=0.3, soft_prompt=1)
    width = 4 + OBJECT_WIDTH + 1
    seeing = replace(small_bundle(), objects=objects)
    seeing = replace(seeing, projection=replace(seeing.projection, inputs=width))
    start = Adapter(Projection(width, 3))
    recipe = tiny_recipe(trained_columns=which, weight_decay=0.0)
    tower: Any = SimpleNamespace(object_columns=slice(4, width))
    nothing: Any = None  # the language model is asked for names only where there is no start
    adapter = build._adapter(recipe, seeing, saved(tmp_path / "run", start), nothing, nothing, lambda: tower)
    adapter(torch.ones(2, 5, width)).sum().backward()
    gradient = adapter.projection.linear.weight.grad
    assert gradient is not None and gradient[:, trained].all()
    gradient[:, trained] = 0
    assert not gradient.any()


def test_a_projection_from_before_the_detector_gets_empty_columns_for_it(
    tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    mini = small_bundle()
    objects = ObjectsSpec("ssd-mobilenet-v2", File("detector.pb", 1), limit=2, min_score=0.3, soft_prompt=1)
    seeing = replace(mini, objects=objects, projection=replace(mini.projection, inputs=4 + OBJECT_WIDTH + 1))
    start = saved(tmp_path / "run", filled(2.0))
    linear = initial_adapter(tiny_recipe(), seeing, start).projection.linear
    assert (linear.weight[:, :4] == 2).all() and (linear.bias == 2).all()
    assert linear.weight.shape == (3, 4 + OBJECT_WIDTH + 1) and not linear.weight[:, 4:].any()
    check_start(start, tiny_recipe(), seeing)


def test_weight_decay_applies_to_matrices_only() -> None:
    adapter = filled(1.0, layers=3)
    matrices, vectors = adapter.param_groups(0.05)
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.05, 0.0)
    assert [parameter.ndim for parameter in matrices["params"]] == [2, 2, 2]
    assert [parameter.ndim for parameter in vectors["params"]] == [1, 1, 1]


class TestTrainedQFormer:
    """The ablation that trains the Q-Former too."""

    @pytest.fixture
    def bundle(self, import_tiny: Any) -> Bundle:
        found: Bundle = import_tiny()
        return found

    @pytest.fixture
    def recipe(self, tiny_recipe: MakeRecipe) -> Recipe:
        return tiny_recipe(qformer="trained")

    def pixels(self, bundle: Bundle) -> Tensor:
        side = bundle.vision.image_size
        return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))

    def test_it_has_the_outputs_of_the_frozen_one(self, bundle: Bundle, recipe: Recipe) -> None:
        pixels_BCHW = self.pixels(bundle)
        adapter, tower = initial_adapter(recipe, bundle, None), tower_for(recipe, bundle)
        tokens_BND = tower.encode(pixels_BCHW)
        assert tokens_BND.shape[1:] == (tower.tokens, tower.width) == feature_shape(recipe, bundle)
        assert adapter.qformer is not None
        features_BND = adapter.qformer(tokens_BND.clone())
        torch.testing.assert_close(features_BND, load_tower(bundle).encode(pixels_BCHW))
        frozen = replace(recipe, qformer="frozen")
        assert feature_shape(frozen, bundle) == tuple(features_BND.shape[1:])
        assert features_fingerprint(recipe, bundle) != features_fingerprint(frozen, bundle)
        torch.testing.assert_close(tower.stages(pixels_BCHW).features_BND, tokens_BND)

    def test_every_weight_gets_a_gradient(self, bundle: Bundle, recipe: Recipe) -> None:
        adapter = initial_adapter(recipe, bundle, None)
        adapter(tower_for(recipe, bundle).encode(self.pixels(bundle)).clone()).square().sum().backward()
        assert len(list(adapter.parameters())) > 10
        assert all(parameter.grad is not None for parameter in adapter.parameters())
        with torch.no_grad():  # none is mapped from a file that cannot be written
            for parameter in adapter.parameters():
                parameter.add_(1.0)

    def test_it_is_saved_in_the_format_of_a_bundle_s_q_former(
        self, bundle: Bundle, recipe: Recipe, tmp_path: Path
    ) -> None:
        adapter = initial_adapter(recipe, bundle, None)
        with torch.no_grad():
            for parameter in adapter.parameters():
                parameter.mul_(1.5)
        folder = saved(tmp_path / "adapter", adapter)
        assert bundle.qformer is not None
        tensors = qformer_tensors(folder / QFORMER, bundle.qformer.options)
        assert adapter.qformer is not None
        torch.testing.assert_close(tensors["query_tokens"], adapter.qformer.query_tokens.detach())
        assert "ln_vision.weight" in tensors
        again = initial_adapter(recipe, bundle, folder)
        for one, other in zip(values(adapter), values(again), strict=True):
            assert torch.equal(one, other)
        other = initial_adapter(recipe, bundle, None)
        load_adapter(folder, other)
        assert all(torch.equal(one, two) for one, two in zip(values(adapter), values(other), strict=True))

    def test_a_recipe_without_it_cannot_start_from_its_projection(
        self, bundle: Bundle, recipe: Recipe, tmp_path: Path
    ) -> None:
        folder = saved(tmp_path / "adapter", initial_adapter(recipe, bundle, None))
        with pytest.raises(UsageError, match=r"trained together with its Q-Former .*--set qformer=trained"):
            initial_adapter(replace(recipe, qformer="frozen"), bundle, folder)

    def test_a_damaged_file_is_an_error(self, bundle: Bundle, recipe: Recipe, tmp_path: Path) -> None:
        adapter = initial_adapter(recipe, bundle, None)
        folder = saved(tmp_path / "adapter", adapter)
        save_projection(folder / QFORMER, adapter.projection)
        with pytest.raises(BundleError, match=r"qformer\.safetensors does not fit: its 'query_tokens' is"):
            load_adapter(folder, adapter)


def test_without_a_q_former_four_patches_are_joined(import_tiny: Any, tiny_recipe: MakeRecipe) -> None:
    recipe = tiny_recipe(qformer="none")
    bundle = bundle_for(recipe, import_tiny())
    tower = tower_for(recipe, bundle)
    side = bundle.vision.image_size
    features_BND = tower.encode(torch.zeros(1, 3, side, side))
    assert features_BND.shape[1:] == feature_shape(recipe, bundle) == (tower.tokens, tower.width)
    adapter = initial_adapter(recipe, bundle, None)
    assert adapter(features_BND.clone()).shape[-1] == bundle.language.width


def test_projections_are_written_atomically(tmp_path: Path) -> None:
    folder = saved(tmp_path / "adapter", filled(0.5))
    found = load_projection(folder / PROJECTION, 4, 3)
    assert (found.linear.weight == 0.5).all()
