"""LLaVA's towers: CLIP's ViT, or SigLIP's, up to the layer whose output a projection reads.

The networks are transformers' CLIPVisionModel and SiglipVisionModel, with as many blocks as are used.
The features are a block's output as it is: LLaVA omits the final norm (`post_layernorm`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel, SiglipVisionConfig, SiglipVisionModel

from minigpt4.core.bundles.geometry import ClipGeometry, Options, clip_shapes
from minigpt4.core.errors import BackendError, BundleError
from minigpt4.core.vision.base import VisionTower
from minigpt4.core.weights.read_tensors import read_tensors

TORCH_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class ClipTower(VisionTower):
    """Pixels (B, 3, H, W) -> the patches' features (B, N, D), without the class token's."""

    def __init__(self, network: Any, geometry: ClipGeometry, image_size: int) -> None:
        self.network = network
        self.width = geometry.width
        self.tokens = geometry.patches(image_size)
        self._class_rows = int(geometry.class_row)

    def encode(self, pixels_BCHW: Tensor) -> Tensor:
        """Normalised pixels (B, 3, H, W) -> features (B, N, D), float32.

        Raises BackendError if a value is not finite: float16 ends at 65504.
        """
        network: Any = self.network
        with torch.inference_mode():
            hidden_BND = network.embeddings(pixels_BCHW)
            if self._class_rows:
                hidden_BND = network.pre_layrnorm(hidden_BND)
            hidden_BND = network.encoder(inputs_embeds=hidden_BND).last_hidden_state
        features_BND: Tensor = hidden_BND[:, self._class_rows :].float()
        if not torch.isfinite(features_BND).all():
            raise BackendError(
                "The vision tower gave values that are not finite (NaN or infinite): its weights are "
                "damaged, or too large for fp16; choose fp32, or check the bundle with `minigpt4 models "
                "verify`."
            )
        return features_BND


def load_clip(
    path: Path, options: Options, *, image_size: int, dtype: str, device: str = "cpu", bundle: str = ""
) -> ClipTower:
    """Read a tower from its file; `dtype` is fp32, bf16 or fp16.

    Raises BundleError if the file or an option is wrong, or they do not fit.
    """
    geometry = ClipGeometry.parse(options, bundle)
    tensors = clip_tensors(path, geometry, image_size)
    return clip_tower(tensors, geometry, image_size, dtype=TORCH_TYPES[dtype], device=device)


def clip_tensors(path: Path, geometry: ClipGeometry, image_size: int) -> Mapping[str, Tensor]:
    """The tower's tensors in a file, each read when accessed; raises BundleError for a wrong one."""
    tensors = read_tensors(path, what="vision tower's file")
    check_clip(path, tensors, geometry, image_size)
    return tensors


def check_clip(path: Path, tensors: Mapping[str, Tensor], geometry: ClipGeometry, image_size: int) -> None:
    """Raise BundleError unless every tensor is there with its shape; more (later blocks) are allowed."""
    shapes = clip_shapes(geometry, image_size)
    if missing := sorted(shapes.keys() - tensors.keys()):
        raise BundleError(
            f"The vision tower in {path} lacks {len(missing)} tensors (the first is '{missing[0]}'); it is "
            "another model's, or does not have the sizes that are stated for it."
        )
    for name, shape in shapes.items():
        if tuple(tensors[name].shape) != shape:
            raise BundleError(
                f"The vision tower in {path} does not fit: its '{name}' has the shape "
                f"{tuple(tensors[name].shape)} and {shape} is wanted."
            )


def clip_tower(
    tensors: Mapping[str, Tensor],
    geometry: ClipGeometry,
    image_size: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> ClipTower:
    """The tower of these tensors, whose names and shapes are those of `clip_shapes`."""
    with torch.device("meta"):
        network = _network(geometry, image_size)
    names = clip_shapes(geometry, image_size)
    network.load_state_dict({name: tensors[name].to(device, dtype) for name in names}, assign=True)
    # They hold positions 0, 1, 2, ... and are not weights; on "meta" they would have no values.
    embeddings = network.embeddings
    rows = geometry.patches(image_size) + geometry.class_row
    embeddings.position_ids = torch.arange(rows, device=device)[None]
    return ClipTower(network.eval().requires_grad_(False), geometry, image_size)


def _network(geometry: ClipGeometry, image_size: int) -> Any:
    sizes: dict[str, Any] = {
        "hidden_size": geometry.width,
        "intermediate_size": geometry.mlp,
        "num_hidden_layers": geometry.depth,
        "num_attention_heads": geometry.heads,
        "image_size": image_size,
        "patch_size": geometry.patch,
        "layer_norm_eps": geometry.eps,
        "hidden_act": geometry.activation,
    }
    network: Any
    if geometry.class_row:
        network = CLIPVisionModel(CLIPVisionConfig(**sizes))
    else:
        network = SiglipVisionModel(SiglipVisionConfig(**sizes, vision_use_head=False))
    # Before transformers 5 both had one more wrapper.
    network = getattr(network, "vision_model", network)
    network.post_layernorm = nn.Identity()
    return network
