"""Loading the vision tower that a bundle names."""

from __future__ import annotations

import torch
from torch import Tensor

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.download.fetch import path_of
from minigpt4.core.dtypes import AUTO, dtype_for
from minigpt4.core.errors import BackendError, BundleError
from minigpt4.core.vision.base import VisionTower
from minigpt4.core.vision.efficientnet import EfficientNetLite2
from minigpt4.core.vision.readout import GridReadout, ReadoutOptions

ARCHITECTURES = ("efficientnet-lite2", "eva-vit-g")


class EfficientNetTower(VisionTower):
    """mini's tower: EfficientNet-Lite2's feature map, pooled to a short row of vectors."""

    def __init__(self, network: EfficientNetLite2, options: ReadoutOptions) -> None:
        self.network = network
        self._readout = GridReadout(options, network.classifier)
        self.width = self._readout.width
        self.tokens = self._readout.tokens
        self.class_columns = self._readout.class_columns

    def encode(self, pixels_BCHW: Tensor) -> Tensor:
        """Pixels (B, 3, 260, 260) -> features (B, N, D), float32."""
        pixels_BCHW = pixels_BCHW.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            return self._readout(self.network(pixels_BCHW))


def load_tower(
    bundle: Bundle, *, device: str = "cpu", dtype: str = AUTO, offload: bool = False
) -> VisionTower:
    """The bundle's tower on `device`, computing in `dtype` (fp32, bf16, fp16; auto: the device's own).

    With `offload` the weights have that type but stay in CPU memory; see ImageEncoder.
    Raises BundleError if a file or an option is wrong, UsageError for an unknown `dtype`,
    BackendError for one that the tower does not support.
    """
    home = "cpu" if offload else device
    match bundle.vision.architecture:
        case "efficientnet-lite2":
            if dtype != AUTO and dtype_for(dtype, device) != "fp32":
                raise BackendError(
                    f"The vision tower of the bundle '{bundle.name}' computes in fp32 only, not in {dtype}."
                )
            return _load_efficientnet(bundle, home)
        case "eva-vit-g":
            # transformers' BLIP-2 takes 1.7 s to import, which mini does without.
            from minigpt4.core.vision.eva import load_eva

            spec, qformer = bundle.vision, bundle.qformer
            return load_eva(
                (path_of(spec.file, bundle), spec.options),
                (path_of(qformer.file, bundle), qformer.options) if qformer else None,
                image_size=spec.image_size,
                dtype=dtype_for(dtype, device),
                device=home,
                bundle=bundle.name,
            )
        case unknown:
            raise BundleError(
                f"The bundle '{bundle.name}' asks for a vision tower '{unknown}', which this version "
                f"does not have; it has {' and '.join(ARCHITECTURES)}."
            )


def _load_efficientnet(bundle: Bundle, device: str) -> EfficientNetTower:
    spec = bundle.vision
    options = ReadoutOptions.parse(spec.options, bundle.name)
    path = path_of(spec.file, bundle)
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        network = EfficientNetLite2.from_tensors(tensors)
    except Exception as error:  # torch.load raises a dozen types for a damaged file
        raise BundleError(
            f"The vision tower's file {path} cannot be read ({type(error).__name__}); "
            f"fetch it again with `minigpt4 models pull {bundle.name}`."
        ) from error
    return EfficientNetTower(network.to(device), options)
