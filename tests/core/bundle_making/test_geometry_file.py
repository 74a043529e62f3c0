"""Widths of a ViT and a Q-Former from a JSON file in the original's words."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from minigpt4.core.bundle_making.geometry_file import read_geometry
from minigpt4.core.bundles.geometry import QFormerGeometry, ViTGeometry
from minigpt4.core.errors import BundleError


@pytest.fixture
def config(vectors: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((vectors / "tiny_config.json").read_text())
    return loaded


def written(folder: Path, config: object) -> Path:
    path = folder / "geometry.json"
    path.write_text(json.dumps(config))
    return path


def test_the_references_own_configuration_is_understood(vectors: Path) -> None:
    geometry = read_geometry(vectors / "tiny_config.json", patches_joined=None)
    assert geometry.image_size == 56
    assert geometry.vision == ViTGeometry(width=32, depth=2, heads=4, mlp=139, patch=14)
    assert geometry.qformer == QFormerGeometry(
        queries=4, width=24, layers=4, heads=4, mlp=48, cross_attention_every=2
    )
    assert (geometry.image_tokens, geometry.width) == (4, 24)


def test_without_a_qformer_neighbouring_patches_are_joined(vectors: Path) -> None:
    geometry = read_geometry(vectors / "tiny_config.json", patches_joined=4)
    assert geometry.qformer is None
    assert geometry.vision.patches_joined == 4
    assert (geometry.image_tokens, geometry.width) == (4, 128)


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("vision", "depth"), None, "'vision.depth' is missing"),
        (("vision", "depth"), 2.5, "'vision.depth' is 2.5; it must be a whole number"),
        (("vision", "img_size"), 60, "'vision.img_size' is 60; it must be a multiple of 'patch_size'"),
        (("qformer", "encoder_width"), 48, "'qformer.encoder_width' is 48, but 'vision.embed_dim' is 32"),
        (
            ("qformer", "layer_norm_eps"),
            1e-6,
            "layer_norm_eps' is 1e-06; it must be 1e-12, the only value supp",
        ),
        (
            ("qformer", "hidden_act"),
            "relu",
            "'qformer.hidden_act' is 'relu'; it must be gelu, the only",
        ),
        (("ln_vision_eps",), 1e-6, "'ln_vision_eps' is 1e-06; it must be 1e-05, the only"),
        (("qformer",), None, "'qformer' is missing"),
        (("qformer", "num_attention_heads"), 5, "'qformer.num_attention_heads' is 5, which does not divide"),
    ],
)
def test_what_is_missing_or_impossible_is_named(
    config: dict[str, Any], tmp_path: Path, path: tuple[str, ...], value: object, sentence: str
) -> None:
    changed = copy.deepcopy(config)
    table = changed
    for key in path[:-1]:
        table = table[key]
    table[path[-1]] = value
    if value is None:
        del table[path[-1]]
    with pytest.raises(BundleError) as caught:
        read_geometry(written(tmp_path, changed), patches_joined=None)
    assert sentence in str(caught.value)
    assert str(tmp_path / "geometry.json") in str(caught.value)


def test_patches_that_cannot_be_joined_are_refused(config: dict[str, Any], tmp_path: Path) -> None:
    config["vision"]["img_size"] = 42
    with pytest.raises(BundleError, match="gives 9 patches, which cannot be joined 4 by 4"):
        read_geometry(written(tmp_path, config), patches_joined=4)


@pytest.mark.parametrize(
    ("content", "sentence"), [("{", "is not JSON"), ("[]", "is not a JSON table"), (None, "cannot be read")]
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: str | None, sentence: str) -> None:
    path = tmp_path / "geometry.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BundleError, match=sentence):
        read_geometry(path, patches_joined=None)
