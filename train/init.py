"""Where the projection starts: small noise, and class names for the class probabilities.

mini's features end in the probabilities of 1,000 ImageNet classes. The weight column of a class
starts as what the language model itself reads for the class's name, so that a class speaks its name
from the first step, also where training shows one photo of it or none.
"""

from __future__ import annotations

import torch
from torch import Tensor

from minigpt4.core.errors import UsageError
from minigpt4.core.projection import Projection
from minigpt4.core.types import Text, Tokenize
from minigpt4.train.captions.imagenet import load_classes


def initialise(projection: Projection, *, noise: float, seed: int) -> None:
    """Fill a projection in place, the same for the same seed.

    With a `noise` above 0 the first layer's weights are drawn from N(0, noise²), those of layers behind
    it from N(0, 1/D_llm), which keeps what they read at its size, and biases are 0. With none, all are
    drawn as torch draws a linear layer's, evenly between -1/sqrt(inputs) and 1/sqrt(inputs).
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in (projection.linear, *projection.deeper):
            if not noise:
                bound = layer.in_features**-0.5
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.uniform_(-bound, bound, generator=generator)
                continue
            spread = noise if layer is projection.linear else projection.outputs**-0.5
            layer.weight.normal_(0.0, spread, generator=generator)
            layer.bias.zero_()


def name_classes(
    projection: Projection,
    *,
    class_columns: slice,
    token_embeddings_VD: Tensor,
    tokenize: Tokenize,
    scale: float,
) -> None:
    """Have each class start as its name.

    Column c of `class_columns` becomes `scale` times the mean of two texts' embeddings: the class's own
    name ("tabby cat") and its everyday word ("cat"), each the mean over its tokens. Raises UsageError
    where there are layers behind, through which no name would be heard, or no classes.
    """
    if projection.deeper:
        raise UsageError(
            f"class_name_scale is {scale:g}, but a projection of {projection.layers} layers has "
            "no column that could speak a class's name; give --set class_name_scale=0."
        )
    columns = range(*class_columns.indices(projection.inputs))
    if not columns:
        raise UsageError(
            f"class_name_scale is {scale:g}, but this bundle's vision tower names no classes; give "
            "--set class_name_scale=0."
        )
    embeddings_VD = token_embeddings_VD.detach().float().cpu()
    with torch.no_grad():
        for column, of_class in zip(columns, load_classes(), strict=True):
            names = [
                embeddings_VD[list(tokenize(Text(f" {name}")))].mean(0)
                for name in (of_class.name, of_class.basic)
            ]
            projection.linear.weight[:, column] = scale * torch.stack(names).mean(0)
