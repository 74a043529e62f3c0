"""Pictures as LLaVA's language model reads them, computed in torch from an mmproj GGUF.

libmtmd of llama-cpp-python 0.3.36 computes towers with a class token wrongly (llama.cpp issue 25814): it
puts the token last, but numbers positions and picks outputs as if it were first. Every patch gets its
neighbour's position, and the language model reads the class token in place of the first patch.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from minigpt4.core.llava.mmproj import Mmproj, load_mmproj_projection, load_tower, read_mmproj
from minigpt4.core.pixels import to_pixels


class LlavaEncoder:
    """Turns one picture into its embedding (N, D_llm), float32."""

    def __init__(self, mmproj: Path | Mmproj, *, device: str = "cpu") -> None:
        """Load tower and projection; raises BundleError for a file of another form, or a damaged one."""
        self._mmproj = mmproj if isinstance(mmproj, Mmproj) else read_mmproj(mmproj)
        self._device = device
        self._tower = load_tower(self._mmproj, device=device)
        self._projection = load_mmproj_projection(self._mmproj).to(device)
        self.tokens, self.width = self._mmproj.tokens, self._mmproj.outputs

    def __call__(self, picture: Image.Image | NDArray[np.uint8]) -> NDArray[np.float32]:
        """The embedding (N, D_llm) of a picture, RGB (H, W, 3), which is letterboxed as in libmtmd."""
        image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        own = self._mmproj
        pixels_CHW = to_pixels(image, own.image_size, own.mean, own.std, "letterboxed")
        with torch.inference_mode():
            features_BND = self._tower.encode(torch.from_numpy(pixels_CHW)[None].to(self._device))
            image_ND = self._projection(features_BND)[0]
        return np.ascontiguousarray(image_ND.cpu().numpy(), dtype=np.float32)
