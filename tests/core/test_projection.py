from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from minigpt4.core.errors import BundleError
from minigpt4.core.projection import Projection, load_projection, save_projection

INPUTS, OUTPUTS = 6, 4


@pytest.fixture
def projection() -> Projection:
    torch.manual_seed(0)
    return Projection(INPUTS, OUTPUTS)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_what_is_saved_loads_as_float32(tmp_path: Path, projection: Projection, dtype: torch.dtype) -> None:
    path = tmp_path / "projection.safetensors"
    save_projection(path, projection, dtype)
    assert {tensor.dtype for tensor in load_file(path).values()} == {dtype}
    loaded = load_projection(path, INPUTS, OUTPUTS)
    assert (loaded.inputs, loaded.outputs) == (INPUTS, OUTPUTS)
    assert loaded.linear.weight.dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert torch.equal(loaded.linear.weight, projection.linear.weight.to(dtype).float())
    assert torch.equal(loaded.linear.bias, projection.linear.bias.to(dtype).float())


def test_it_maps_every_vector_by_weight_and_bias(projection: Projection) -> None:
    features_BND = torch.randn(2, 3, INPUTS)
    expected = features_BND @ projection.linear.weight.T + projection.linear.bias
    torch.testing.assert_close(projection(features_BND), expected)


def test_the_file_holds_weight_and_bias_alone(tmp_path: Path, projection: Projection) -> None:
    path = tmp_path / "new" / "projection.safetensors"
    save_projection(path, projection)
    shapes = {name: tuple(tensor.shape) for name, tensor in load_file(path).items()}
    assert shapes == {"weight": (OUTPUTS, INPUTS), "bias": (OUTPUTS,)}


def test_a_projection_for_another_bundle_is_refused_with_both_shapes(
    tmp_path: Path, projection: Projection
) -> None:
    path = tmp_path / "projection.safetensors"
    save_projection(path, projection)
    with pytest.raises(BundleError, match=r"'weight' has the shape \(4, 6\) and \(5, 6\) is wanted") as error:
        load_projection(path, INPUTS, 5)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_is_refused(tmp_path: Path, projection: Projection, value: float) -> None:
    path = tmp_path / "projection.safetensors"
    tensors = {name: tensor.clone() for name, tensor in projection.linear.state_dict().items()}
    tensors["bias"][1] = value
    save_file(tensors, path)
    with pytest.raises(BundleError, match="'bias' that are no numbers"):
        load_projection(path, INPUTS, OUTPUTS)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, projection: Projection, share: float) -> None:
    path = tmp_path / "projection.safetensors"
    save_projection(path, projection)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(BundleError, match="damaged") as error:
        load_projection(path, INPUTS, OUTPUTS)
    assert str(path) in str(error.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.safetensors"):
        with pytest.raises(BundleError, match="There is no projection file"):
            load_projection(path, INPUTS, OUTPUTS)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    path = tmp_path / "projection.safetensors"
    save_file({"weight": torch.zeros(OUTPUTS, INPUTS), "other": torch.zeros(1)}, path)
    with pytest.raises(BundleError, match=r"no tensor 'bias' \(it holds other, weight\)"):
        load_projection(path, INPUTS, OUTPUTS)


def test_a_whole_number_type_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "projection.safetensors"
    tensors = {"weight": torch.zeros(OUTPUTS, INPUTS, dtype=torch.int8), "bias": torch.zeros(OUTPUTS)}
    save_file(tensors, path)
    with pytest.raises(BundleError, match=r"torch\.int8"):
        load_projection(path, INPUTS, OUTPUTS)


def test_a_diverged_projection_is_not_saved_and_the_old_file_stays(
    tmp_path: Path, projection: Projection
) -> None:
    path = tmp_path / "projection.safetensors"
    save_projection(path, projection)
    before = path.read_bytes()
    with torch.no_grad():
        projection.linear.weight[0, 0] = 1e6
    with pytest.raises(BundleError, match="diverged"):
        save_projection(path, projection, torch.float16)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_breaks_off_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, projection: Projection, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "projection.safetensors"
    save_projection(path, projection)
    before = path.read_bytes()

    def full(tensors: object, draft: Path, metadata: object) -> None:
        draft.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("minigpt4.core.projection.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        save_projection(path, projection)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
