"""The vision tower: geometry, folding, and the row of vectors that it reads off."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from minigpt4.core.bundles.bundle import load_bundle
from minigpt4.core.download.fetch import path_of
from minigpt4.core.errors import BundleError
from minigpt4.core.pixels import open_picture, to_pixels
from minigpt4.core.vision.efficientnet import EfficientNetLite2
from minigpt4.core.vision.inverted_residual import SameConv2d
from minigpt4.core.vision.readout import GridReadout, ReadoutOptions
from minigpt4.core.vision.tower import load_tower

OPTIONS = {"grid": 3, "class_grid": 2, "feature_mean": 0.2, "feature_std": 0.5}
EGYPTIAN_CAT, TABBY_CAT, TIGER_CAT, ESPRESSO = 285, 281, 282, 967
EXAMPLES = Path(__file__).parents[3] / "examples"


def test_same_padding_puts_the_odd_pixel_on_the_far_side() -> None:
    convolution = SameConv2d(1, 1, 3, stride=2, bias=False)
    nn.init.ones_(convolution.weight)
    with torch.inference_mode():
        out = convolution(torch.arange(16.0).view(1, 1, 4, 4))
    assert out.shape == (1, 1, 2, 2)
    assert out[0, 0, 0, 0] == sum([0, 1, 2, 4, 5, 6, 8, 9, 10])


def test_a_convolution_and_its_batch_norm_fold_into_one() -> None:
    torch.manual_seed(0)
    tensors = _random_checkpoint()
    network = EfficientNetLite2.from_tensors(tensors)
    x = torch.rand(1, 3, 20, 20)
    norm = nn.BatchNorm2d(32, eps=1e-3).eval()
    norm.load_state_dict(
        {k.removeprefix("_bn0."): v for k, v in tensors.items() if k.startswith("_bn0.")}, strict=False
    )
    plain = SameConv2d(3, 32, 3, stride=2, bias=False)
    plain.weight = nn.Parameter(tensors["_conv_stem.weight"])
    with torch.inference_mode():
        torch.testing.assert_close(network.stem(x), norm(plain(x)), atol=1e-5, rtol=1e-5)


def test_a_row_holds_class_vectors_then_feature_vectors() -> None:
    torch.manual_seed(0)
    classifier = nn.Linear(4, 6)
    readout = GridReadout(ReadoutOptions.parse(OPTIONS, "mini"), classifier)
    features = torch.rand(2, 4, 9, 9)
    with torch.inference_mode():
        rows = readout(features)
        whole = classifier(features.mean((2, 3))).softmax(-1)
    assert rows.shape == (2, readout.tokens, readout.width) == (2, 15, 10)
    assert rows[:, :5, :4].abs().max() == 0 and rows[:, 5:, 4:].abs().max() == 0
    torch.testing.assert_close(rows[:, 0, readout.class_columns], whole)
    torch.testing.assert_close(rows[:, :5, 4:].sum(-1), torch.ones(2, 5))
    torch.testing.assert_close(rows[:, 5, :4], (features.mean((2, 3)) - 0.2) / 0.5)
    torch.testing.assert_close(rows[:, 6, :4], (features[:, :, :3, :3].mean((2, 3)) - 0.2) / 0.5)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"gird": 3}, "gird"),
        ({"grid": 2.5}, "grid"),
        ({"grid": 0}, "grid"),
        ({"feature_std": 0}, "feature_std"),
        ({"class_grid": True}, "class_grid"),
        ({"feature_mean": "x"}, "feature_mean"),
        ({"feature_mean": math.nan}, "feature_mean"),
        ({"feature_std": math.inf}, "feature_std"),
    ],
)
def test_a_wrong_option_is_named(change: dict[str, object], named: str) -> None:
    with pytest.raises(BundleError, match=named):
        ReadoutOptions.parse({**OPTIONS, **change}, "mini")  # type: ignore[arg-type]


@pytest.mark.usefixtures("mini_home")
def test_minis_tower_knows_a_cat_and_a_cup_of_coffee() -> None:
    bundle = load_bundle("mini")
    tower = load_tower(bundle)
    assert (tower.tokens, tower.width) == (bundle.projection.image_tokens, bundle.projection.inputs)
    spec = bundle.vision
    for photo, classes in (("chelsea", {EGYPTIAN_CAT, TABBY_CAT, TIGER_CAT}), ("coffee", {ESPRESSO})):
        [path] = EXAMPLES.glob(f"{photo}.*")
        pixels = to_pixels(open_picture(path).image, spec.image_size, spec.mean, spec.std)
        whole = tower.encode(torch.from_numpy(pixels)[None])[0, 0, tower.class_columns]
        assert int(whole.argmax()) in classes
        assert math.isclose(float(whole.sum()), 1.0, rel_tol=1e-4)


@pytest.mark.usefixtures("mini_home")
def test_a_damaged_tower_file_is_named_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = load_bundle("mini")
    monkeypatch.setenv("MINIGPT4_HOME", str(tmp_path))
    path = path_of(bundle.vision.file, bundle)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(BundleError, match=r"models pull mini"):
        load_tower(bundle)


def _random_checkpoint() -> dict[str, torch.Tensor]:
    """Tensors under the names of the pip package, of the right shapes."""
    names = {
        "stem": ("_conv_stem", "_bn0"),
        "head": ("_conv_head", "_bn1"),
        "expand": ("_expand_conv", "_bn0"),
        "depthwise": ("_depthwise_conv", "_bn1"),
        "project": ("_project_conv", "_bn2"),
    }
    tensors: dict[str, torch.Tensor] = {}
    for name, value in EfficientNetLite2().state_dict().items():
        *block, layer, kind = name.split(".")
        if layer == "classifier":
            tensors[f"_fc.{kind}"] = value
        elif kind == "weight":
            prefix = f"_blocks.{block[1]}." if block else ""
            convolution, norm = names[layer]
            tensors[f"{prefix}{convolution}.weight"] = value
            for part in ("weight", "bias", "running_mean", "running_var"):
                tensors[f"{prefix}{norm}.{part}"] = torch.rand(value.shape[0]) + 0.5
    return tensors
