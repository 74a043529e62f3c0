"""Where the projection starts: small noise, and class names for the class probabilities.

The tower's features end in the probabilities of 1,000 ImageNet classes. The weight column of a
class starts as what the language model itself reads for the class's name, so that a class
speaks its name from the first step, also where training shows one photo of it or none.
"""

from __future__ import annotations

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from minigpt4.train.classes import load_classes


def initialise(
    linear: nn.Linear,
    *,
    class_columns: slice,
    token_embeddings_VD: Tensor,
    tokenizer: Tokenizer,
    noise: float,
    class_name_scale: float,
    seed: int,
) -> None:
    """Fill a projection Linear(D_vision, D_llm) in place.

    Weights are drawn from N(0, noise²) and the bias is 0. Where `class_name_scale` is above 0,
    column c of `class_columns` becomes that scale times the mean of two texts' embeddings: the
    class's own name ("tabby cat") and its everyday word ("cat"), each the mean over its tokens.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        linear.weight.normal_(0.0, noise, generator=generator)
        linear.bias.zero_()
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
