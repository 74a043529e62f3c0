"""mmproj files of LLaVA's form as they are read and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.core.llava.conftest import WriteMmproj, tiny_llava

from minigpt4.core.bundles.geometry import ClipGeometry, clip_shapes
from minigpt4.core.errors import BundleError
from minigpt4.core.llava.mmproj import blocks_used, load_mmproj_projection, load_tower, read_mmproj
from minigpt4.core.llava.mmproj_writer import write_mmproj as write_ours
from minigpt4.core.projection import Projection


@pytest.mark.parametrize(
    ("blocks", "feature_layers", "width", "used"),
    [
        (24, (), 1024, 23),
        (23, (), 1024, 23),
        (22, (), 1024, 21),
        (3, (), 64, 2),
        (24, (23,), 1024, 23),
        (23, (12,), 1024, 12),
    ],
    ids=["all of ViT-L", "the last left out", "of another depth", "unknown", "named", "named and earlier"],
)
def test_the_layer_of_the_features_is_found(
    blocks: int, feature_layers: tuple[int, ...], width: int, used: int
) -> None:
    assert blocks_used(blocks, feature_layers, width) == used


def changed(**values: Any) -> Any:
    def change(metadata: dict[str, Any]) -> None:
        for key, value in values.items():
            name = key.replace("__", ".")
            if value is None:
                del metadata[name]
            else:
                metadata[name] = value

    return change


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ({"change": changed(clip__projector_type="gemma3")}, "'clip.projector_type' is 'gemma3', not 'mlp'"),
        ({"change": changed(clip__vision__image_grid_pinpoints=[56, 112])}, "LLaVA-1.6"),
        ({"change": changed(clip__vision__image_mean=None)}, "it lacks 'clip.vision.image_mean'"),
        ({"change": changed(clip__vision__image_std=[0.5, 0.5])}, "not enough values"),
        ({"change": changed(clip__vision__image_size=70)}, "'v.position_embd.weight' has the shape (17, 32)"),
        ({"change": changed(clip__vision__patch_size=0)}, "'clip.vision.patch_size' is 0"),
        ({"change": changed(clip__vision__attention__head_count=5)}, "does not divide the width 32"),
        ({"change": changed(clip__vision__block_count=9)}, "it lacks 'v.blk.3.ln1.weight'"),
        ({"change": changed(clip__vision__embedding_length="wide")}, "wide"),
        ({"feature_layer": [4]}, "layer 4 of 3"),
        ({"feature_layer": [1, 2]}, "several layers"),
        ({"without": "mm.0.bias"}, "it lacks 'mm.0.bias'"),
    ],
)
def test_another_form_is_refused_with_its_reason(
    write_mmproj: WriteMmproj, form: dict[str, Any], reason: str
) -> None:
    path = write_mmproj(tiny_llava(class_row=True), **form)
    with pytest.raises(BundleError) as raised:
        read_mmproj(path)
    assert reason in str(raised.value)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_files_that_are_missing_or_cut_short_are_refused(write_mmproj: WriteMmproj, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot be read: No such file"):
        read_mmproj(tmp_path / "none.gguf")
    path = write_mmproj(tiny_llava(class_row=True))
    data = path.read_bytes()
    for length in (0, 3, 100, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(BundleError):
            read_mmproj(path)


def test_weights_that_are_not_finite_are_refused(write_mmproj: WriteMmproj) -> None:
    model = tiny_llava(class_row=True)
    with torch.no_grad():
        model.model.multi_modal_projector.linear_2.weight[0, 0] = torch.nan
    with pytest.raises(BundleError, match=r"mm\.2\.weight"):
        load_mmproj_projection(read_mmproj(write_mmproj(model)))


@pytest.fixture
def whole(write_mmproj: WriteMmproj) -> bytes:
    return write_mmproj(tiny_llava(class_row=True)).read_bytes()


def test_more_blocks_than_tensors_are_refused_before_they_are_listed(whole: bytes, tmp_path: Path) -> None:
    key = b"clip.vision.block_count"
    place = whole.index(key) + len(key) + 4
    path = tmp_path / "changed.gguf"
    path.write_bytes(whole[:place] + (1 << 31).to_bytes(4, "little") + whole[place + 4 :])
    with pytest.raises(BundleError, match="it says that it has 2147483648 blocks"):
        read_mmproj(path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 5000), value=st.integers(0, 255))
def test_a_changed_byte_of_the_header_is_read_or_refused(
    whole: bytes, tmp_path: Path, place: int, value: int
) -> None:
    data = bytearray(whole)
    data[place] = value
    path = tmp_path / "changed.gguf"
    path.write_bytes(data)
    try:
        mmproj = read_mmproj(path)
        load_tower(mmproj)
        load_mmproj_projection(mmproj)
    except BundleError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_what_is_written_is_read_back(tmp_path: Path, dtype: torch.dtype) -> None:
    geometry = ClipGeometry(
        width=32, depth=2, heads=2, mlp=64, patch=7, eps=1e-5, activation="quick_gelu", class_row=True
    )
    tensors = {name: torch.randn(shape).to(dtype) for name, shape in clip_shapes(geometry, 28).items()}
    projection = Projection(32, 48, 2)
    path = tmp_path / "mmproj.gguf"
    colors = (0.5, 0.25, 0.125)
    write_ours(path, tensors, projection, geometry, image_size=28, mean=colors, std=colors, name="tiny")
    found = read_mmproj(path)
    assert (found.geometry.depth, found.blocks_in_library, found.image_size) == (2, 2, 28)
    assert found.geometry.class_row
    assert (found.mean, found.std, found.outputs, found.layers) == (colors, colors, 48, 2)
    held = load_tower(found).network.state_dict()
    assert all(torch.equal(held[name], tensor.float()) for name, tensor in tensors.items())
    own = load_mmproj_projection(found).named_tensors()
    assert all(torch.equal(own[name], tensor) for name, tensor in projection.named_tensors().items())
    is_half = dtype == torch.float16
    assert (
        path.stat().st_size
        < sum(tensor.numel() for tensor in tensors.values()) * (3 if is_half else 5) + 30_000
    )


def test_a_projection_that_is_not_finite_leaves_the_earlier_file(tmp_path: Path) -> None:
    geometry = ClipGeometry(
        width=32, depth=1, heads=2, mlp=64, patch=7, eps=1e-5, activation="gelu", class_row=False
    )
    tensors = {name: torch.zeros(shape) for name, shape in clip_shapes(geometry, 28).items()}
    projection = Projection(32, 48, 2)
    with torch.no_grad():
        projection.linear.bias[0] = np.inf
    path = tmp_path / "mmproj.gguf"
    path.write_bytes(b"earlier")
    grays = (0.5, 0.5, 0.5)
    with pytest.raises(BundleError, match=r"mm\.0\.bias"):
        write_ours(path, tensors, projection, geometry, image_size=28, mean=grays, std=grays, name="tiny")
    with pytest.raises(BundleError, match="1 layers"):
        write_ours(
            path, tensors, Projection(32, 48), geometry, image_size=28, mean=grays, std=grays, name="tiny"
        )
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]
