"""Where the projection starts: small noise, and class names for the class probabilities.

The tower's features end in the probabilities of 1,000 ImageNet classes. The weight column of a
class starts as what the language model itself reads for the class's name, so that a class
speaks its name from the first step, also where training shows one photo of it or none.
"""

from __future__ import annotations

import torch
from tokenizers import Tokenizer
from torch import Tensor

from minigpt4.core.errors import UsageError
from minigpt4.core.projection import Projection
from minigpt4.train.classes import load_classes


def initialise(
    projection: Projection,
    *,
    class_columns: slice,
    token_embeddings_VD: Tensor,
    tokenizer: Tokenizer,
    noise: float,
    class_name_scale: float,
    seed: int,
) -> None:
    """Fill a projection in place.

    The first layer's weights are drawn from N(0, noise²), those of layers behind it from N(0, 1/D_llm),
    which keeps what they read at its size; biases are 0. Where `class_name_scale` is above 0,
    column c of `class_columns` becomes that scale times the mean of two texts' embeddings: the
    class's own name ("tabby cat") and its everyday word ("cat"), each the mean over its tokens.
    Raises UsageError where there are layers behind, through which no name would be heard.
    """
    if class_name_scale and projection.deeper:
        raise UsageError(
            f"class_name_scale is {class_name_scale:g}, but a projection of {projection.layers} layers has "
            "no column that could speak a class's name; give --set class_name_scale=0."
        )
    linear = projection.linear
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in (linear, *projection.deeper):
            spread = noise if layer is linear else projection.outputs**-0.5
            layer.weight.normal_(0.0, spread, generator=generator)
            layer.bias.zero_()
        if not class_name_scale:
            return
        embeddings_VD = token_embeddings_VD.detach().float()
        for column, of_class in zip(
            range(*class_columns.indices(linear.in_features)), load_classes(), strict=True
        ):
            names = [
                embeddings_VD[tokenizer.encode(f" {name}", add_special_tokens=False).ids].mean(0)
                for name in (of_class.name, of_class.basic)
            ]
            linear.weight[:, column] = class_name_scale * torch.stack(names).mean(0)
