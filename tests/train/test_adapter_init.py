"""The initial weights of a projection of one layer and of three."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import pytest
import torch

from minigpt4.core.errors import UsageError
from minigpt4.core.projection import Projection
from minigpt4.core.types import Text
from minigpt4.core.vision.base import VisionTower
from minigpt4.core.vision.objects import COUNT_COLUMNS, IS_EMPTY, IS_OBJECT, PROMPT_SCALE, WIDTH
from minigpt4.train.adapter import initialise, name_classes, name_objects
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


class Seeing:
    """The columns of a tower of 3 features beside a detector, with a soft prompt of two vectors."""

    named_columns: ClassVar = {3: "cat", 3 + COUNT_COLUMNS.start: "one"}
    object_columns = slice(3, 3 + WIDTH + 2)
    prompt_columns = slice(3 + WIDTH, 3 + WIDTH + 2)


def with_objects(soft_prompt: str = "ab", layers: int = 1) -> Projection:
    projection = Projection(3 + WIDTH + 2, 8, layers)
    initialise(projection, noise=0.0, seed=0)
    name_objects(
        projection,
        cast(VisionTower, Seeing()),
        token_embeddings_VD=torch.arange(50.0)[:, None].expand(50, 8),
        tokenize=letters_as_tokens,
        soft_prompt=soft_prompt,
    )
    return projection


def test_an_objects_vector_starts_as_its_name_and_number() -> None:
    projection = with_objects()
    row = torch.zeros(3 + WIDTH + 2)
    row[[3, 3 + COUNT_COLUMNS.start, 3 + WIDTH + IS_OBJECT]] = 1
    words = [sum(letters_as_tokens(Text(f" {word}"))) / (len(word) + 1) for word in ("cat", "one")]
    assert projection(row).tolist() == pytest.approx([sum(words)] * 8, rel=1e-5)
    empty = torch.zeros(3 + WIDTH + 2)
    empty[3 + WIDTH + IS_EMPTY] = 1
    assert projection(empty).tolist() == pytest.approx([sum(letters_as_tokens(Text(" ."))) / 2] * 8, rel=1e-5)


def test_a_soft_prompt_starts_as_its_words() -> None:
    projection = with_objects("ab")
    for place, letter in enumerate("ab"):
        row = torch.zeros(3 + WIDTH + 2)
        row[3 + WIDTH + place] = PROMPT_SCALE
        assert projection(row).tolist() == pytest.approx([ord(letter) % 50] * 8, rel=1e-4)
    assert not with_objects("").linear.weight[:, 3 + WIDTH :].any(), "the tower's bias alone"


def test_a_soft_prompt_of_other_length_or_a_deeper_projection_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'soft_prompt' is 'abc', which is 3 tokens, .* has 2 vectors"):
        with_objects("abc")
    with pytest.raises(UsageError, match=r"projection of 3 layers has no columns .*--set layers=1"):
        with_objects(layers=3)


def test_class_names_need_a_projection_of_one_layer() -> None:
    with pytest.raises(UsageError, match=r"class_name_scale is 2, .*3 layers.*--set class_name_scale=0"):
        named(layers=3)


def test_class_names_need_a_tower_with_classes() -> None:
    with pytest.raises(UsageError, match=r"vision tower names no classes; give --set class_name_scale=0"):
        named(class_columns=slice(0, 0))
