from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from minigpt4.core.errors import BundleError
from minigpt4.core.projection import Projection, export_projection_pth, load_projection, save_projection

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
    with pytest.raises(BundleError, match="'bias' that are not finite"):
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
    with pytest.raises(BundleError, match=r"1 tensor missing \(bias\) and 1 tensor not known \(other\)"):
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


def test_three_layers_have_a_gelu_between_each_two(tmp_path: Path) -> None:
    torch.manual_seed(0)
    projection = Projection(INPUTS, OUTPUTS, layers=3)
    features_BND = torch.randn(2, 3, INPUTS)
    first, second, third = (projection.linear, *projection.deeper)
    gelu = torch.nn.functional.gelu
    torch.testing.assert_close(projection(features_BND), third(gelu(second(gelu(first(features_BND))))))
    path = tmp_path / "three.safetensors"
    save_projection(path, projection)
    assert set(load_file(path)) == {f"layers.{i}.{kind}" for i in range(3) for kind in ("weight", "bias")}
    loaded = load_projection(path, INPUTS, OUTPUTS, layers=3)
    assert torch.equal(loaded(features_BND), projection(features_BND))


@pytest.mark.parametrize(("held", "wanted", "reason"), [
    (1, 3, "it holds one layer and 3 layers are wanted"),
    (3, 1, "it holds 3 layers and one layer is wanted"),
])  # fmt: skip
def test_another_number_of_layers_is_refused(tmp_path: Path, held: int, wanted: int, reason: str) -> None:
    path = tmp_path / "projection.safetensors"
    save_projection(path, Projection(INPUTS, OUTPUTS, held))
    with pytest.raises(BundleError, match=reason):
        load_projection(path, INPUTS, OUTPUTS, wanted)


def test_a_layer_that_is_missing_between_others_is_named(tmp_path: Path) -> None:
    path = tmp_path / "projection.safetensors"
    tensors = {name: tensor.clone() for name, tensor in Projection(4, 4, 3).named_tensors().items()}
    del tensors["layers.1.bias"]
    save_file(tensors, path)
    with pytest.raises(BundleError, match=r"1 tensor missing \(layers\.1\.bias\)"):
        load_projection(path, 4, 4, 3)


@pytest.mark.parametrize(("held", "wanted", "reason"), [
    ((2, 5120), (2, 4096), "this projection is for the 13B model and the bundle has the 7B model"),
    ((2, 4096), (2, 5120), "this projection is for the 7B model and the bundle has the 13B model"),
    ((768, 3), (5632, 3), "this projection was trained with a Q-Former and the bundle has no Q-Former"),
    ((5632, 3), (768, 3), "this projection was trained with no Q-Former and the bundle has a Q-Former"),
])  # fmt: skip
def test_a_mixed_up_model_is_named(
    tmp_path: Path, held: tuple[int, int], wanted: tuple[int, int], reason: str
) -> None:
    path = tmp_path / "projection.safetensors"
    save_projection(path, Projection(*held))
    with pytest.raises(BundleError, match=reason):
        load_projection(path, *wanted)


def test_a_minigpt4_checkpoint_loads_as_it_is(vectors: Path) -> None:
    held = torch.load(vectors / "minigpt4.pth", weights_only=True)["model"]
    loaded = load_projection(vectors / "minigpt4.pth", 24, 16)
    assert torch.equal(loaded.linear.weight, held["llama_proj.weight"])
    assert torch.equal(loaded.linear.bias, held["llama_proj.bias"])


def test_what_is_exported_is_what_the_original_reads(tmp_path: Path, projection: Projection) -> None:
    path = tmp_path / "checkpoint.pth"
    export_projection_pth(path, projection, epoch=3)
    saved = torch.load(path, map_location="cpu", weights_only=True)
    assert saved["epoch"] == 3

    class Original(torch.nn.Module):
        """As much of the original's model as its checkpoints speak of."""

        def __init__(self) -> None:
            super().__init__()
            self.llama_proj = torch.nn.Linear(INPUTS, OUTPUTS)

    original = Original()
    message = original.load_state_dict(saved["model"], strict=False)
    assert not message.missing_keys and not message.unexpected_keys
    assert torch.equal(original.llama_proj.weight, projection.linear.weight)
    assert torch.equal(load_projection(path, INPUTS, OUTPUTS).linear.bias, projection.linear.bias)


def test_three_layers_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="A projection of 3 layers"):
        export_projection_pth(tmp_path / "checkpoint.pth", Projection(INPUTS, OUTPUTS, 3))
    assert not list(tmp_path.iterdir())
