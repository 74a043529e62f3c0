"""What a vision tower gives on its way to the features."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class VisionStages:
    """One look's vectors, float32; `models trace` writes them down."""

    vision_BND: Tensor
    """Before the Q-Former: the ViT's tokens after `ln_vision`, class token first."""

    qformer_BND: Tensor | None
    """The Q-Former's answer, where there is one."""

    features_BND: Tensor
    """What the projection reads."""
