"""The released files' parts under one set of names, and every way in which a file can be the wrong one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from minigpt4.core.bundles.geometry import ViTGeometry, qformer_shapes, vision_shapes
from minigpt4.core.errors import BundleError
from minigpt4.core.weights.released import projection_tensors, qformer_tensors, vision_tensors

TinyWeights = Any
"""The dataclass of conftest.py."""

Change = Callable[[dict[str, Tensor]], None]


def changed(source: Path, target: Path, change: Change) -> Path:
    """A copy of a checkpoint with its tensors changed."""
    held = torch.load(source, weights_only=True)
    change(held.get("model", held))
    torch.save(held, target)
    return target


def test_the_vits_tensors_are_all_there_with_the_fp16_of_the_file(tiny_weights: TinyWeights) -> None:
    tensors = vision_tensors(tiny_weights.vit, tiny_weights.vision_options)
    shapes = vision_shapes(ViTGeometry.parse(tiny_weights.vision_options), tiny_weights.image_size)
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == shapes
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    queries, keys, values = tensors["encoder.layers.1.self_attn.qkv.bias"].chunk(3)
    held = torch.load(tiny_weights.vit, weights_only=True)
    assert torch.equal(queries, held["blocks.1.attn.q_bias"])
    assert not keys.any()
    assert torch.equal(values, held["blocks.1.attn.v_bias"])


def test_the_qformers_tensors_are_all_there_without_the_text_branch(
    tmp_path: Path, tiny_weights: TinyWeights
) -> None:
    def add_text_branch(held: dict[str, Tensor]) -> None:
        held["Qformer.bert.embeddings.word_embeddings.weight"] = torch.zeros(40, 24)
        held["Qformer.bert.embeddings.position_embeddings.weight"] = torch.zeros(512, 24)
        held["Qformer.bert.encoder.layer.0.intermediate.dense.weight"] = torch.zeros(48, 24)
        held["Qformer.bert.encoder.layer.0.output.LayerNorm.bias"] = torch.zeros(24)
        held["Qformer.cls.predictions.bias"] = torch.zeros(40)
        held["t5_model.shared.weight"] = torch.zeros(2, 2)

    path = changed(tiny_weights.qformer, tmp_path / "blip2.pth", add_text_branch)
    shapes = qformer_shapes(tiny_weights.qformer_geometry, 32)
    for file in (path, tiny_weights.qformer):
        tensors = qformer_tensors(file, tiny_weights.qformer_geometry)
        assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == shapes


def test_what_we_write_reads_back_bit_for_bit(tmp_path: Path, tiny_weights: TinyWeights) -> None:
    read: tuple[Callable[..., dict[str, Tensor]], Path, object]
    for read in (
        (vision_tensors, tiny_weights.vit, tiny_weights.vision_options),
        (qformer_tensors, tiny_weights.qformer, tiny_weights.qformer_geometry),
    ):
        function, source, options = read
        tensors = function(source, options)
        save_file(tensors, tmp_path / "ours.safetensors")
        again = function(tmp_path / "ours.safetensors", options)
        assert again.keys() == tensors.keys()
        assert all(torch.equal(again[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("name", ["minigpt4.pth", "minigpt4_noqformer.pth"])
def test_a_minigpt4_checkpoint_gives_its_projection_alone(vectors: Path, name: str) -> None:
    tensors = projection_tensors(vectors / name)
    assert set(tensors) == {"weight", "bias"}
    assert tensors["weight"].shape[0] == tensors["bias"].shape[0] == 16


def test_missing_and_unknown_tensors_are_listed_and_counted(
    tmp_path: Path, tiny_weights: TinyWeights
) -> None:
    def spoil(held: dict[str, Tensor]) -> None:
        for name in [name for name in held if name.startswith("blocks.1.mlp.")]:
            del held[name]
        held["blocks.0.attn.inner_norm.weight"] = torch.ones(32)

    path = changed(tiny_weights.vit, tmp_path / "vit.pth", spoil)
    message = (
        r"4 tensors missing \(blocks\.1\.mlp\.fc1\.weight, blocks\.1\.mlp\.fc1\.bias, "
        r"blocks\.1\.mlp\.fc2\.weight, \.\.\.\) and 1 tensor not known "
        r"\(blocks\.0\.attn\.inner_norm\.weight\)"
    )
    with pytest.raises(BundleError, match=message) as error:
        vision_tensors(path, tiny_weights.vision_options)
    assert str(path) in str(error.value)


def test_trained_parts_beside_the_projection_are_not_dropped_in_silence(
    tmp_path: Path, vectors: Path
) -> None:
    def add(held: dict[str, Tensor]) -> None:
        held["Qformer.bert.encoder.layer.0.attention.self.query.weight"] = torch.ones(24, 24)

    path = changed(vectors / "minigpt4.pth", tmp_path / "finetuned.pth", add)
    with pytest.raises(BundleError, match=r"1 tensor not known \(Qformer\.bert"):
        projection_tensors(path)


def test_a_deeper_vit_than_the_file_is_refused(tiny_weights: TinyWeights) -> None:
    options = {**tiny_weights.vision_options, "depth": 4}
    with pytest.raises(BundleError, match=r"tensors missing \(blocks\.3\."):
        vision_tensors(tiny_weights.vit, options)


@pytest.mark.parametrize(("option", "value", "message"), [
    ("mlp", 140, r"'encoder\.layers\.0\.mlp\.fc1\.weight' has the shape \(139, 32\) and \(140, 32\)"),
    ("patch", 16, r"patch_embedding\.weight' has the shape"),
    ("width", 64, r"\(\d\d tensors differ so\)"),
])  # fmt: skip
def test_another_geometry_is_refused_with_both_shapes(
    tiny_weights: TinyWeights, option: str, value: int, message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        vision_tensors(tiny_weights.vit, {**tiny_weights.vision_options, option: value})


def test_a_table_of_positions_for_no_square_is_refused(tmp_path: Path, tiny_weights: TinyWeights) -> None:
    def cut(held: dict[str, Tensor]) -> None:
        held["pos_embed"] = held["pos_embed"][:, :16]

    path = changed(tiny_weights.vit, tmp_path / "vit.pth", cut)
    with pytest.raises(BundleError, match=r"positions of the shape \(1, 16, 32\)"):
        vision_tensors(path, tiny_weights.vision_options)


def test_a_file_of_another_part_is_called_what_it_is(
    tmp_path: Path, vectors: Path, tiny_weights: TinyWeights
) -> None:
    vit, qformer, projection = tiny_weights.vit, tiny_weights.qformer, vectors / "minigpt4.pth"
    llama, other = tmp_path / "llama.safetensors", tmp_path / "other.safetensors"
    save_file({"model.embed_tokens.weight": torch.zeros(2, 2)}, llama)
    save_file({"conv.weight": torch.zeros(2, 2)}, other)
    save_file({"weight": torch.zeros(2, 2), "bias": torch.zeros(2)}, tmp_path / "ours.safetensors")

    def vision(path: Path) -> object:
        return vision_tensors(path, tiny_weights.vision_options)

    def queries(path: Path) -> object:
        return qformer_tensors(path, tiny_weights.qformer_geometry)

    for read, path, message in (
        (vision, qformer, "is a Q-Former's file, not an EVA ViT"),
        (vision, projection, r"is a MiniGPT-4 checkpoint \(a projection\), not an EVA ViT"),
        (vision, llama, "is a language model's file, not an EVA ViT"),
        (queries, vit, "is a ViT's file, not a Q-Former"),
        (queries, tmp_path / "ours.safetensors", "is a projection, not a Q-Former"),
        (projection_tensors, vit, "is a ViT's file, not a projection"),
        (projection_tensors, other, r"is a file of 1 other tensors \(conv\.weight\), not a projection"),
    ):
        with pytest.raises(BundleError, match=message):
            read(path)


def test_only_the_wanted_tensors_of_a_whole_blip2_are_read(tmp_path: Path, tiny_weights: TinyWeights) -> None:
    vision = vision_tensors(tiny_weights.vit, tiny_weights.vision_options)
    save_file({f"vision_model.{name}": tensor for name, tensor in vision.items()}, tmp_path / "1.safetensors")
    names = dict.fromkeys((f"vision_model.{name}" for name in vision), "1.safetensors")
    names |= {"language_model.shared.weight": "2.safetensors", "qformer.layernorm.weight": "2.safetensors"}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": names}))
    # Shard 2 is not here at all.
    found = vision_tensors(tmp_path, tiny_weights.vision_options)
    assert found.keys() == vision.keys()
    assert all(torch.equal(found[name], vision[name]) for name in vision)
