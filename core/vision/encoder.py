"""Vision tower and projection together: the part of encoding a picture that needs torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.cores import use_torch_threads
from minigpt4.core.dtypes import AUTO
from minigpt4.core.errors import BundleError, UsageError
from minigpt4.core.pixels import Picture, to_pixels
from minigpt4.core.projection import load_projection
from minigpt4.core.vision.tower import load_tower


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
        """Load both parts; raises BundleError if one is damaged or they do not fit each other.

        `dtype` is the tower's type (fp32, bf16, fp16); the projection's is float32. With `offload`
        the tower stays in CPU memory and is copied to the GPU for each picture, which costs the
        transfer and leaves 2 GB of GPU memory to the language model. `threads` sets torch's number
        for the whole process.
        """
        use_torch_threads(threads)
        if device == "auto" or not torch.cuda.is_available():
            # llama.cpp may reach a GPU that this torch cannot; the tower is then small enough for the CPU.
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self._vision = bundle.vision
        self._device = device
        self._is_offloaded = offload and device != "cpu"
        self._tower = load_tower(bundle, device=device, dtype=dtype, offload=self._is_offloaded)
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
        """The picture's embedding (N, D_llm); raises BackendError if the tower overflows."""
        with self._tower_on_device(), torch.inference_mode():
            features_BND = self._tower.encode(self._pixels(picture))
            image_ND: Tensor = self._projection(features_BND)[0]
        return np.ascontiguousarray(image_ND.cpu().numpy(), dtype=np.float32)

    def object_boxes(self, picture: Picture) -> NDArray[np.float32]:
        """The boxes (K, 6) of the objects that the embedding holds, see `objects.object_boxes`."""
        with self._tower_on_device(), torch.inference_mode():
            boxes_K6: NDArray[np.float32] = self._tower.object_boxes(self._pixels(picture))[0]
        return boxes_K6

    def _pixels(self, picture: Picture) -> Tensor:
        """The tower's input (1, 3, H, W) on its device."""
        vision = self._vision
        pixels_CHW = to_pixels(picture.image, vision.image_size, vision.mean, vision.std, vision.fit)
        return torch.from_numpy(pixels_CHW)[None].to(self._device)

    def trace(self, pixels_BCHW: Tensor) -> dict[str, NDArray[np.float32]]:
        """Encode normalised pixels (B, 3, H, W) and keep the output of each step, float32.

        `pixels_BCHW`, `vision_BND` (the tower's tokens after `ln_vision`; its features if it has none),
        `qformer_BND` (if it has a Q-Former), `objects_BKD` (if it has a detector: the vectors of up to K
        objects) and `image_BND`, the image embeddings. Raises UsageError for pixels of another size than
        the tower's, BackendError if it overflows.
        """
        size = self._vision.image_size
        if pixels_BCHW.ndim != 4 or tuple(pixels_BCHW.shape[1:]) != (3, size, size):
            raise UsageError(
                f"The pixels have the shape {tuple(pixels_BCHW.shape)}; this bundle's vision tower reads "
                f"(pictures, 3, {size}, {size})."
            )
        with self._tower_on_device(), torch.inference_mode():
            stages = self._tower.stages(pixels_BCHW.to(self._device, torch.float32))
            image_BND = self._projection(stages.features_BND)
        tensors = {
            "pixels_BCHW": pixels_BCHW,
            "vision_BND": stages.vision_BND,
            "qformer_BND": stages.qformer_BND,
            "objects_BKD": stages.objects_BKD,
            "image_BND": image_BND,
        }
        return {name: tensor.float().cpu().numpy() for name, tensor in tensors.items() if tensor is not None}

    def _tower_on_device(self) -> AbstractContextManager[None]:
        return on_device(self._tower.network, self._device) if self._is_offloaded else nullcontext()


@contextmanager
def on_device(network: nn.Module, device: str) -> Iterator[None]:
    """Move `network`'s weights to `device` for the block, and restore the original tensors after it.

    The originals stay in place meanwhile, so nothing is copied back.
    """
    originals = [
        (module, name, tensor, tensor.data)
        for module in network.modules()
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    ]
    try:
        network.to(device)
        yield
    finally:
        for module, name, tensor, data in originals:
            # Depending on the devices, `to` changes a parameter in place or replaces it.
            tensor.data = data
            setattr(module, name, tensor)
        if device.startswith("cuda"):
            # torch's allocator would keep the memory, and llama.cpp could not use it.
            torch.cuda.empty_cache()
