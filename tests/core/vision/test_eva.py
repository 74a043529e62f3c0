"""EVA's ViT and the Q-Former give what the original code gives for the same weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.download.fetch import path_of
from minigpt4.core.dtypes import has_bf16
from minigpt4.core.errors import BackendError, BundleError, UsageError
from minigpt4.core.projection import load_projection
from minigpt4.core.vision.eva import EvaTower, load_eva
from minigpt4.core.vision.tower import load_tower
from minigpt4.core.weights.released import qformer_tensors, vision_tensors

TOLERANCE = {"atol": 1e-5, "rtol": 0.0}
JOINED = 4

TinyWeights = Any
"""The dataclass of conftest.py."""


@pytest.fixture(scope="module")
def reference(vectors: Path) -> dict[str, Tensor]:
    return load_file(vectors / "vision.safetensors")


def tower_of(weights: TinyWeights, *, image_size: int = 56, dtype: str = "fp32") -> EvaTower:
    return load_eva(
        (weights.vit, weights.vision_options),
        (weights.qformer, weights.qformer_geometry),
        image_size=image_size,
        dtype=dtype,
    )


def test_every_stage_matches_the_original(tiny_weights: TinyWeights, reference: dict[str, Tensor]) -> None:
    tower = tower_of(tiny_weights)
    pixels = reference["pixel_values"]
    stages = tower.stages(pixels)
    torch.testing.assert_close(tower.patches(pixels), reference["vit_out"], **TOLERANCE)
    torch.testing.assert_close(stages.vision_BND, reference["vit_ln_out"], **TOLERANCE)
    torch.testing.assert_close(stages.qformer_BND, reference["qformer_out"], **TOLERANCE)
    projection = load_projection(tiny_weights.projection, tower.width, 16)
    torch.testing.assert_close(projection(tower.encode(pixels)), reference["image_embeds"], **TOLERANCE)
    assert (tower.tokens, tower.width) == (4, 24)


def test_another_image_size_interpolates_the_positions_as_the_original(
    tiny_weights: TinyWeights, reference: dict[str, Tensor]
) -> None:
    tensors = vision_tensors(tiny_weights.vit, tiny_weights.vision_options, 112)
    torch.testing.assert_close(
        tensors["embeddings.position_embedding"], reference["pos_embed_112"], **TOLERANCE
    )
    tower = tower_of(tiny_weights, image_size=112)
    projection = load_projection(tiny_weights.projection, tower.width, 16)
    tokens = projection(tower.encode(reference["pixel_values_112"]))
    torch.testing.assert_close(tokens, reference["image_embeds_112"], **TOLERANCE)


def test_without_a_qformer_four_patches_are_joined_as_in_the_original(
    tiny_weights: TinyWeights, reference: dict[str, Tensor]
) -> None:
    options = {**tiny_weights.vision_options, "patches_joined": JOINED}
    tower = load_eva((tiny_weights.vit, options), None, image_size=56, dtype="fp32")
    assert (tower.tokens, tower.width) == (16 // JOINED, 32 * JOINED)
    stages = tower.stages(reference["pixel_values"])
    assert stages.qformer_BND is None
    torch.testing.assert_close(stages.vision_BND, reference["noqformer_vit_ln_out"], **TOLERANCE)
    projection = load_projection(tiny_weights.projection_without_qformer, tower.width, 16)
    tokens = projection(stages.features_BND)
    torch.testing.assert_close(tokens, reference["noqformer_image_embeds"], **TOLERANCE)


@pytest.mark.parametrize(("dtype", "bound"), [("bf16", 0.06), ("fp16", 0.006)])
def test_a_narrow_type_rounds_and_the_features_stay_float32(
    tiny_weights: TinyWeights, reference: dict[str, Tensor], dtype: str, bound: float
) -> None:
    stages = tower_of(tiny_weights, dtype=dtype).stages(reference["pixel_values"])
    assert stages.vision_BND.dtype == stages.features_BND.dtype == torch.float32
    for found, wanted in ((stages.vision_BND, "vit_ln_out"), (stages.features_BND, "qformer_out")):
        difference = float((found - reference[wanted]).abs().max())
        assert 1e-5 < difference < bound


def test_our_own_files_and_the_hubs_give_the_same_features(
    tmp_path: Path, tiny_weights: TinyWeights, reference: dict[str, Tensor]
) -> None:
    vision = vision_tensors(tiny_weights.vit, tiny_weights.vision_options)
    qformer = qformer_tensors(tiny_weights.qformer, tiny_weights.qformer_geometry)
    save_file(vision, tmp_path / "vit.safetensors")
    save_file(qformer, tmp_path / "qformer.safetensors")
    hub = {f"vision_model.{name}": tensor for name, tensor in vision.items()}
    for name, tensor in qformer.items():
        hub[name.replace("ln_vision", "vision_model.post_layernorm")] = tensor
    hub = {
        name if name.startswith("vision_model.") or name == "query_tokens" else f"qformer.{name}": tensor
        for name, tensor in hub.items()
    }
    save_file({**hub, "language_model.lm_head.weight": torch.zeros(3, 3)}, tmp_path / "blip2.safetensors")
    for vit_file, qformer_file in (("vit", "qformer"), ("blip2", "blip2")):
        tower = load_eva(
            (tmp_path / f"{vit_file}.safetensors", tiny_weights.vision_options),
            (tmp_path / f"{qformer_file}.safetensors", tiny_weights.qformer_geometry),
            image_size=56,
            dtype="fp32",
        )
        found = tower.encode(reference["pixel_values"])
        torch.testing.assert_close(found, reference["qformer_out"], **TOLERANCE)


def test_overflow_in_fp16_is_a_sentence_that_names_the_way_out(
    tmp_path: Path, tiny_weights: TinyWeights, reference: dict[str, Tensor]
) -> None:
    tensors = vision_tensors(tiny_weights.vit, tiny_weights.vision_options)
    tensors["encoder.layers.1.mlp.fc2.weight"] = tensors["encoder.layers.1.mlp.fc2.weight"].float() * 1e6
    save_file(tensors, tmp_path / "vit.safetensors")

    def tower(dtype: str) -> EvaTower:
        qformer = (tiny_weights.qformer, tiny_weights.qformer_geometry)
        vision = (tmp_path / "vit.safetensors", tiny_weights.vision_options)
        return load_eva(vision, qformer, image_size=56, dtype=dtype)

    with pytest.raises(BackendError, match=r"overflowed in fp16 .* choose bf16 or fp32"):
        tower("fp16").encode(reference["pixel_values"])
    assert torch.isfinite(tower("fp32").encode(reference["pixel_values"])).all()


def test_pixels_that_are_not_finite_give_a_sentence(
    tiny_weights: TinyWeights, reference: dict[str, Tensor]
) -> None:
    with pytest.raises(BackendError, match="not finite"):
        tower_of(tiny_weights).encode(reference["pixel_values"] * float("nan"))


def test_weights_of_the_right_type_are_used_where_the_file_is_mapped(
    tmp_path: Path, tiny_weights: TinyWeights
) -> None:
    path = tmp_path / "vit.safetensors"
    # Aligned, or the reader would have to copy; real files are.
    save_file(vision_tensors(tiny_weights.vit, tiny_weights.vision_options), path)
    qformer = (tiny_weights.qformer, tiny_weights.qformer_geometry)
    tower = load_eva((path, tiny_weights.vision_options), qformer, image_size=56, dtype="fp16")
    mapped = _addresses_mapped_from(path)
    weights = [p for p in tower.network.parameters() if p.dtype == torch.float16]
    assert len(weights) == 4 + 2 * 12
    assert all(any(start <= p.data_ptr() < end for start, end in mapped) for p in weights)


def test_a_qformer_for_another_width_is_refused(tmp_path: Path, tiny_weights: TinyWeights) -> None:
    tensors = qformer_tensors(tiny_weights.qformer, tiny_weights.qformer_geometry)
    for name, tensor in tensors.items():
        is_wide = name.startswith("ln_vision") or "crossattention.attention.key.weight" in name
        if is_wide or "crossattention.attention.value.weight" in name:
            tensors[name] = torch.zeros(*tensor.shape[:-1], 40)
    save_file(tensors, tmp_path / "qformer.safetensors")
    with pytest.raises(BundleError, match="reads vectors of 40 numbers and the vision tower gives 32"):
        load_eva(
            (tiny_weights.vit, tiny_weights.vision_options),
            (tmp_path / "qformer.safetensors", tiny_weights.qformer_geometry),
            image_size=56,
            dtype="fp32",
        )


@pytest.mark.parametrize(("joined", "image_size", "has_qformer", "message"), [
    (4, 56, True, "a Q-Former reads every patch"),
    (5, 56, False, "does not divide the 16 patches"),
    (1, 10, False, "hold no patch of 14"),
])  # fmt: skip
def test_joining_that_cannot_work_is_refused(
    tiny_weights: TinyWeights, joined: int, image_size: int, has_qformer: bool, message: str
) -> None:
    options = {**tiny_weights.vision_options, "patches_joined": joined}
    qformer = (tiny_weights.qformer, tiny_weights.qformer_geometry) if has_qformer else None
    with pytest.raises(BundleError, match=message):
        load_eva((tiny_weights.vit, options), qformer, image_size=image_size, dtype="fp32")


def test_a_bundle_loads_in_this_machines_default_type(
    tiny_bundle: Callable[..., Bundle], reference: dict[str, Tensor]
) -> None:
    tower = load_tower(tiny_bundle())
    assert tower.class_columns == slice(0, 0)
    types = {parameter.dtype for parameter in tower.network.parameters()}
    assert types == {torch.float32, torch.bfloat16 if has_bf16() else torch.float32}
    exact = load_tower(tiny_bundle(), dtype="fp32").encode(reference["pixel_values"])
    torch.testing.assert_close(exact, reference["qformer_out"], **TOLERANCE)


def test_wrong_choices_for_a_bundle_are_sentences(tiny_bundle: Callable[..., Bundle]) -> None:
    bundle = tiny_bundle()
    with pytest.raises(UsageError, match="no float type 'fp8'"):
        load_tower(bundle, dtype="fp8")
    other = dataclasses.replace(bundle, vision=dataclasses.replace(bundle.vision, architecture="vit-z"))
    with pytest.raises(BundleError, match="'vit-z', which this version does not have; it has eff"):
        load_tower(other)
    path_of(bundle.vision.file, bundle).unlink()
    with pytest.raises(BundleError, match="There is no vision tower's file"):
        load_tower(bundle)


def _addresses_mapped_from(path: Path) -> list[tuple[int, int]]:
    spans = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(str(path)):
            start, end = line.split()[0].split("-")
            spans.append((int(start, 16), int(end, 16)))
    return spans
