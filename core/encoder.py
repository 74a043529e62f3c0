"""Tower and projection together: the part of looking at a picture that needs torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from minigpt4.core.bundle import Bundle
from minigpt4.core.errors import BundleError
from minigpt4.core.pixels import Picture, to_pixels
from minigpt4.core.projection import load_projection
from minigpt4.core.vision.tower import load_tower


class ImageEncoder:
    """Turns one picture into its embedding (N, D_llm), float32."""

    def __init__(
        self, bundle: Bundle, projection: Path, *, device: str = "auto", threads: int | None = None
    ) -> None:
        """Load both parts; raises BundleError where one is damaged or they do not fit each other.

        `threads` is torch's own setting and so holds for the whole process.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        if device == "auto" or not torch.cuda.is_available():
            # llama.cpp may reach a GPU that this torch cannot; the tower is then small enough for the CPU.
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self._vision = bundle.vision
        self._device = device
        self._tower = load_tower(bundle, device=device)
        shape = (bundle.projection.inputs, bundle.projection.outputs)
        self._projection = load_projection(projection, *shape).to(device)
        found = (self._tower.tokens, self._tower.width)
        wanted = (bundle.projection.image_tokens, bundle.projection.inputs)
        if found != wanted:
            raise BundleError(
                f"The bundle '{bundle.name}' does not fit together: its vision tower gives (N, D) = {found} "
                f"and its projection reads {wanted}; correct `image_tokens` or `inputs` in its manifest."
            )

    def __call__(self, picture: Picture) -> NDArray[np.float32]:
        """The picture's embedding (N, D_llm)."""
        vision = self._vision
        pixels_CHW = to_pixels(picture.image, vision.image_size, vision.mean, vision.std)
        with torch.inference_mode():
            features_BND = self._tower.encode(torch.from_numpy(pixels_CHW)[None].to(self._device))
            tokens_ND = self._projection(features_BND)[0].cpu().numpy()
        return np.ascontiguousarray(tokens_ND, dtype=np.float32)
