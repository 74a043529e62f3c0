"""The one linear layer between a vision tower and a language model: all that training moves.

On disk it is a safetensors file with `weight` (D_llm, D_vision) and `bias` (D_llm,) in any
float type; in memory always float32.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from minigpt4.core.atomic import replacing
from minigpt4.core.errors import BundleError

FLOATS = (torch.float16, torch.bfloat16, torch.float32)


class Projection(nn.Module):
    """Vision features (B, N, D_vision) -> the language model's input embeddings (B, N, D_llm)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    @property
    def inputs(self) -> int:
        """Width of the tower's features, D_vision."""
        return self.linear.in_features

    @property
    def outputs(self) -> int:
        """Width of the language model's input embeddings, D_llm."""
        return self.linear.out_features

    def forward(self, features_BND: Tensor) -> Tensor:
        """Features (..., D_vision) -> image tokens (..., D_llm)."""
        tokens_BND: Tensor = self.linear(features_BND)
        return tokens_BND


def load_projection(path: Path, inputs: int, outputs: int) -> Projection:
    """Read a projection from D_vision=`inputs` to D_llm=`outputs`, in float32 and without gradients.

    Raises BundleError where the file is missing, damaged, of another shape or not finite.
    """
    tensors = _tensors(path)
    shapes = {"weight": (outputs, inputs), "bias": (outputs,)}
    for name, shape in shapes.items():
        if name not in tensors:
            held = ", ".join(sorted(tensors)) or "nothing"
            raise BundleError(
                f"The projection file {path} has no tensor '{name}' (it holds {held}); "
                "choose a file that `minigpt4 train` wrote."
            )
        tensor = tensors[name]
        if tuple(tensor.shape) != shape:
            raise BundleError(
                f"The projection file {path} does not fit this bundle: its '{name}' has the shape "
                f"{tuple(tensor.shape)} and {shape} is wanted; choose a projection that was trained "
                "for this bundle."
            )
        if tensor.dtype not in FLOATS:
            raise BundleError(
                f"The projection file {path} holds '{name}' as {tensor.dtype}, which is no float type "
                "it may have (float16, bfloat16, float32); save it again as one of these."
            )
        if not torch.isfinite(tensor).all():
            raise BundleError(
                f"The projection file {path} holds values in '{name}' that are no numbers (NaN or "
                "infinite); take an earlier checkpoint, or fetch or train the projection again."
            )
    projection = Projection(inputs, outputs)
    projection.linear.load_state_dict({name: tensors[name].float() for name in shapes})
    return projection.eval().requires_grad_(False)


def save_projection(path: Path, projection: Projection, dtype: torch.dtype = torch.float32) -> None:
    """Write a projection in `dtype`; the file appears whole or not at all.

    Raises BundleError where a value is not finite in that type, OSError where it cannot be written.
    """
    tensors = {
        name: tensor.detach().to("cpu", dtype).contiguous()
        for name, tensor in projection.linear.state_dict().items()
    }
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise BundleError(
                f"The projection was not saved to {path}: its '{name}' holds values that {dtype} cannot "
                "hold (NaN or too large); training has diverged, go back to an earlier checkpoint."
            )
    with replacing(path) as draft:
        save_file(tensors, draft, metadata={"format": "pt"})


def _tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise BundleError(f"There is no projection file {path}; check the path or train one first.")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BundleError(
            f"The projection file {path} is damaged or is no safetensors file ({error}); "
            "fetch or train it again."
        ) from error
