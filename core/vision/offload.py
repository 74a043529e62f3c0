"""A tower that visits the GPU for one look and leaves its memory to the language model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def lent_to(network: nn.Module, device: str) -> Iterator[None]:
    """Hold `network`'s weights on `device` inside the block; afterwards they are where they were.

    The weights are kept at home meanwhile, so nothing is copied back.
    """
    home = [
        (module, name, tensor, tensor.data)
        for module in network.modules()
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    ]
    try:
        network.to(device)
        yield
    finally:
        for module, name, tensor, data in home:
            # `to` changes a parameter in place or puts another in its stead, as the devices allow.
            tensor.data = data
            setattr(module, name, tensor)
        if device.startswith("cuda"):
            # torch would keep the memory for itself, where llama.cpp could not have it.
            torch.cuda.empty_cache()
