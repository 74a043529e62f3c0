"""The layer between a vision tower and a language model: the only one that is trained.

MiniGPT-4 has one linear layer, LLaVA-1.5 two. The paper's ablation has three, of unstated widths; here they
are D_vision -> D_llm -> D_llm -> D_llm with GELU in between, as LLaVA's two are D_vision -> D_llm -> D_llm.

On disk it is a safetensors file with `weight` (D_llm, D_vision) and `bias` (D_llm,), or with
`layers.0.weight`, `layers.0.bias`, `layers.1.weight`, ..., in any float type; in memory always
float32. MiniGPT-4's own checkpoints (.pth) are read as well.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from minigpt4.core.bundles.geometry import size_mismatch, tower_mismatch
from minigpt4.core.errors import BundleError
from minigpt4.core.storage.atomic import replacing
from minigpt4.core.weights.released import LLAMA_PROJ, projection_tensors

FLOATS = (torch.float16, torch.bfloat16, torch.float32)


class Projection(nn.Module):
    """Vision features (B, N, D_vision) -> the language model's input embeddings (B, N, D_llm)."""

    def __init__(self, inputs: int, outputs: int, layers: int = 1) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        """The first layer, and the only one in MiniGPT-4 itself."""
        self.deeper = nn.ModuleList(nn.Linear(outputs, outputs) for _ in range(layers - 1))

    @property
    def inputs(self) -> int:
        """Width of the tower's features, D_vision."""
        return self.linear.in_features

    @property
    def outputs(self) -> int:
        """Width of the language model's input embeddings, D_llm."""
        return self.linear.out_features

    @property
    def layers(self) -> int:
        """How many linear layers there are: 1, 2 in LLaVA, or 3 for the paper's ablation."""
        return 1 + len(self.deeper)

    def forward(self, features_BND: Tensor) -> Tensor:
        """Features (..., D_vision) -> image tokens (..., D_llm)."""
        tokens_BND: Tensor = self.linear(features_BND)
        for layer in self.deeper:
            tokens_BND = layer(F.gelu(tokens_BND))
        return tokens_BND

    def named_tensors(self) -> dict[str, Tensor]:
        """The weights under the names that they have in a file."""
        if not self.deeper:
            return dict(self.linear.state_dict())
        return {
            f"layers.{index}.{name}": tensor
            for index, layer in enumerate((self.linear, *self.deeper))
            for name, tensor in layer.state_dict().items()
        }


def load_projection(path: Path, inputs: int, outputs: int, layers: int = 1) -> Projection:
    """Read a projection from D_vision=`inputs` to D_llm=`outputs`, in float32 and without gradients.

    Raises BundleError if the file is missing, damaged, of another shape or not finite.
    """
    found = projection_tensors(path)
    _check_layers(path, found, layers)
    projection = Projection(inputs, outputs, layers)
    held = projection.named_tensors()
    for name, own in held.items():
        _check_tensor(path, name, found[name], tuple(own.shape))
    with torch.no_grad():
        for name, own in held.items():
            own.copy_(found[name])
    return projection.eval().requires_grad_(False)


def save_projection(path: Path, projection: Projection, dtype: torch.dtype = torch.float32) -> None:
    """Write a projection in `dtype`; the file appears whole or not at all.

    Raises BundleError if a value is not finite in that type, OSError if it cannot be written.
    """
    tensors = {
        name: tensor.detach().to("cpu", dtype).contiguous()
        for name, tensor in projection.named_tensors().items()
    }
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise BundleError(
                f"The projection was not saved to {path}: its '{name}' holds values that {dtype} cannot "
                "hold (NaN or too large); training has diverged, go back to an earlier checkpoint."
            )
    with replacing(path) as draft:
        save_file(tensors, draft, metadata={"format": "pt"})


def export_projection_pth(path: Path, projection: Projection, epoch: int | None = None) -> None:
    """Write a projection in MiniGPT-4's format, for its option `ckpt`: {"model": {"llama_proj.weight", ...}}.

    Raises BundleError for a projection of several layers, which the original does not support, and
    OSError if the file cannot be written.
    """
    if projection.layers != 1:
        raise BundleError(
            f"A projection of {projection.layers} layers cannot be written to {path}: the original "
            "MiniGPT-4 reads one layer; keep it as safetensors."
        )
    model = {
        f"{LLAMA_PROJ}{name}": tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in projection.linear.state_dict().items()
    }
    state: dict[str, object] = {"model": model} | ({} if epoch is None else {"epoch": epoch})
    with replacing(path) as draft:
        torch.save(state, draft)


def _check_layers(path: Path, tensors: dict[str, Tensor], layers: int) -> None:
    found = len(tensors) // 2
    if found != layers:
        raise BundleError(
            f"The projection file {path} does not fit this bundle: it holds {_layers(found)} and "
            f"{_layers(layers)} {'is' if layers == 1 else 'are'} wanted; choose a projection that was "
            "trained for this bundle, or correct 'projection.layers' in its manifest."
        )


def _layers(number: int) -> str:
    return "one layer" if number == 1 else f"{number} layers"


def _check_tensor(path: Path, name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise BundleError(
            f"The projection file {path} does not fit this bundle: {_misfit(tuple(tensor.shape), shape)}"
            f"its '{name}' has the shape {tuple(tensor.shape)} and {shape} is wanted; choose a "
            "projection that was trained for this bundle."
        )
    if tensor.dtype not in FLOATS:
        raise BundleError(
            f"The projection file {path} holds '{name}' as {tensor.dtype}, which is not a float type "
            "it may have (float16, bfloat16, float32); save it again as one of these."
        )
    if not torch.isfinite(tensor).all():
        raise BundleError(
            f"The projection file {path} holds values in '{name}' that are not finite (NaN or "
            "infinite); take an earlier checkpoint, or fetch or train the projection again."
        )


def _misfit(found: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """A hint at what was mixed up, if the widths show it; else an empty text."""
    confused = size_mismatch(found[0], wanted[0]) or tower_mismatch(found[-1], wanted[-1])
    return f"{confused}; " if confused else ""
