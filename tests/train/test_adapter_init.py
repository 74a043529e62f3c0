"""The initial weights of a projection of one layer and of three."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from minigpt4.core.errors import UsageError
from minigpt4.core.projection import Projection
from minigpt4.core.types import Text
from minigpt4.train.adapter import initialise, name_classes
from minigpt4.train.captions.labels import load_classes


def initialised(layers: int, noise: float = 0.01, seed: int = 3) -> Projection:
    projection = Projection(200, 300, layers)
    initialise(projection, noise=noise, seed=seed)
    return projection


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("noise", [0.01, 0.0])
def test_equal_seeds_initialise_equal_weights(layers: int, noise: float) -> None:
    first, again, other = (initialised(layers, noise, seed).named_tensors() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if name.endswith("weight"))


def test_later_layers_keep_the_scale_of_their_inputs() -> None:
    projection = initialised(3)
    assert projection.linear.weight.std().item() == pytest.approx(0.01, rel=0.05)
    values = torch.randn(100, 300, generator=torch.Generator().manual_seed(0))
    for layer in projection.deeper:
        assert layer(values).std().item() == pytest.approx(1, rel=0.05)
    assert not any(tensor.any() for name, tensor in projection.named_tensors().items() if "bias" in name)


def test_without_noise_weights_are_initialised_as_in_nn_linear() -> None:
    torch.manual_seed(0)
    ours, torchs = initialised(1, noise=0.0).linear, torch.nn.Linear(200, 300)
    for name in ("weight", "bias"):
        own, theirs = ours.get_parameter(name).detach(), torchs.get_parameter(name).detach()
        assert own.abs().max().item() == pytest.approx(200**-0.5, rel=0.05)
        assert own.std().item() == pytest.approx(theirs.std().item(), rel=0.1)


def letters_as_tokens(*texts: Text) -> list[int]:
    return [ord(letter) % 50 for text in texts for letter in text.text]


def named(layers: int = 1, **changes: Any) -> Projection:
    projection = Projection(1010, 8, layers)
    initialise(projection, noise=0.0, seed=0)
    settings: dict[str, Any] = {
        "class_columns": slice(10, 1010),
        "token_embeddings_VD": torch.arange(50.0)[:, None].expand(50, 8),
        "tokenize": letters_as_tokens,
        "scale": 2.0,
    }
    name_classes(projection, **(settings | changes))
    return projection


def test_a_class_starts_as_the_mean_of_its_two_names() -> None:
    weight = named().linear.weight
    for place in (0, 281, 999):
        one = load_classes()[place]
        means = [sum(letters_as_tokens(Text(f" {name}"))) / (len(name) + 1) for name in (one.name, one.basic)]
        assert weight[:, 10 + place].tolist() == pytest.approx([sum(means)] * 8)
    assert weight[:, :10].abs().max() < 1010**-0.5


def test_a_detectors_columns_start_as_their_words() -> None:
    weight = named(named_columns={3: "cat", 7: "two"}).linear.weight
    for column, word in ((3, "cat"), (7, "two")):
        mean = sum(letters_as_tokens(Text(f" {word}"))) / (len(word) + 1)
        assert weight[:, column].tolist() == pytest.approx([2 * mean] * 8)


def test_class_names_need_a_projection_of_one_layer() -> None:
    with pytest.raises(UsageError, match=r"class_name_scale is 2, .*3 layers.*--set class_name_scale=0"):
        named(layers=3)


def test_class_names_need_a_tower_with_classes() -> None:
    with pytest.raises(UsageError, match=r"vision tower names no classes; give --set class_name_scale=0"):
        named(class_columns=slice(0, 0))
