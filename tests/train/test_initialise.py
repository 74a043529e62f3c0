"""Where a projection starts, of one layer and of three."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models

from minigpt4.core.errors import UsageError
from minigpt4.core.projection import Projection
from minigpt4.train.initialise import initialise


def initialised(layers: int, **changes: Any) -> Projection:
    projection = Projection(200, 300, layers)
    settings: dict[str, Any] = {
        "class_columns": slice(0, 0),
        "token_embeddings_VD": torch.zeros(4, 300),
        "tokenizer": Tokenizer(models.BPE()),
        "noise": 0.01,
        "class_name_scale": 0.0,
        "seed": 3,
    }
    initialise(projection, **(settings | changes))
    return projection


@pytest.mark.parametrize("layers", [1, 3])
def test_a_seed_gives_the_same_weights_again(layers: int) -> None:
    first, again, other = (initialised(layers, seed=seed).named_tensors() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if name.endswith("weight"))


def test_layers_behind_the_first_keep_what_they_read_at_its_size() -> None:
    projection = initialised(3)
    assert projection.linear.weight.std().item() == pytest.approx(0.01, rel=0.05)
    values = torch.randn(100, 300, generator=torch.Generator().manual_seed(0))
    for layer in projection.deeper:
        assert layer(values).std().item() == pytest.approx(1, rel=0.05)
    assert not any(tensor.any() for name, tensor in projection.named_tensors().items() if "bias" in name)


def test_class_names_are_not_spoken_through_layers_behind() -> None:
    with pytest.raises(UsageError, match=r"class_name_scale is 1, .*3 layers.*--set class_name_scale=0"):
        initialised(3, class_name_scale=1.0)
