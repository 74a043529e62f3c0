"""Tower and projection together: the part of looking at a picture that needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.dtypes import AUTO
from minigpt4.core.errors import BundleError, UsageError
from minigpt4.core.pixels import Picture, to_pixels
from minigpt4.core.projection import load_projection
from minigpt4.core.vision.offload import lent_to
from minigpt4.core.vision.stages import VisionStages
from minigpt4.core.vision.tower import load_tower


@dataclass(frozen=True)
class EncoderTrace:
    """Everything between pixels and language model, float32 on the CPU."""

    pixels_BCHW: Tensor
    vision_BND: Tensor
    """The tower's tokens after `ln_vision`; of a tower without one, its features."""

    qformer_BND: Tensor | None
    image_BND: Tensor
    """What the language model reads in the picture's place."""


class ImageEncoder:
    """Turns one picture into its embedding (N, D_llm), float32."""

    def __init__(
        self,
        bundle: Bundle,
        projection: Path,
        *,
        device: str = "auto",
        threads: int | None = None,
        dtype: str = AUTO,
        offload: bool = False,
    ) -> None:
        """Load both parts; raises BundleError where one is damaged or they do not fit each other.

        `dtype` is the tower's type (fp32, bf16, fp16); the projection's is float32. With `offload`
        the tower lies in the CPU's memory and is on the GPU only while it looks, which costs its
        transfer each time and leaves its 2 GB to the language model. `threads` is torch's own setting
        and so holds for the whole process.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        if device == "auto" or not torch.cuda.is_available():
            # llama.cpp may reach a GPU that this torch cannot; the tower is then small enough for the CPU.
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self._vision = bundle.vision
        self._device = device
        self._is_lent = offload and device != "cpu"
        self._tower = load_tower(bundle, device=device, dtype=dtype, offload=self._is_lent)
        spec = bundle.projection
        self._projection = load_projection(projection, spec.inputs, spec.outputs, spec.layers).to(device)
        found = (self._tower.tokens, self._tower.width)
        wanted = (spec.image_tokens, spec.inputs)
        if found != wanted:
            raise BundleError(
                f"The bundle '{bundle.name}' does not fit together: its vision tower gives (N, D) = {found} "
                f"and its projection reads {wanted}; correct `image_tokens` or `inputs` in its manifest."
            )

    def __call__(self, picture: Picture) -> NDArray[np.float32]:
        """The picture's embedding (N, D_llm); raises BackendError where the tower overflows."""
        vision = self._vision
        pixels_CHW = to_pixels(picture.image, vision.image_size, vision.mean, vision.std)
        tokens_BND = self.trace(torch.from_numpy(pixels_CHW)[None]).image_BND
        return np.ascontiguousarray(tokens_BND[0].numpy(), dtype=np.float32)

    def trace(self, pixels_BCHW: Tensor) -> EncoderTrace:
        """Look at normalised pixels (B, 3, H, W) and keep each step.

        Raises UsageError for pixels of another size than the tower's, BackendError where it overflows.
        """
        size = self._vision.image_size
        if pixels_BCHW.ndim != 4 or tuple(pixels_BCHW.shape[1:]) != (3, size, size):
            raise UsageError(
                f"The pixels have the shape {tuple(pixels_BCHW.shape)}; this bundle's vision tower reads "
                f"(pictures, 3, {size}, {size})."
            )
        stages = self._look(pixels_BCHW.to(self._device, torch.float32))
        with torch.inference_mode():
            image_BND = self._projection(stages.features_BND)
        qformer_BND = stages.qformer_BND
        return EncoderTrace(
            pixels_BCHW.to("cpu", torch.float32),
            stages.vision_BND.cpu(),
            qformer_BND.cpu() if qformer_BND is not None else None,
            image_BND.cpu(),
        )

    def _look(self, pixels_BCHW: Tensor) -> VisionStages:
        if not self._is_lent:
            return self._tower.stages(pixels_BCHW)
        with lent_to(self._tower.network, self._device):
            return self._tower.stages(pixels_BCHW)
