"""Loading the vision tower that a bundle names."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from minigpt4.core.bundles.bundle import Bundle, ObjectsSpec, VisionSpec
from minigpt4.core.download.fetch import path_of
from minigpt4.core.dtypes import AUTO, dtype_for
from minigpt4.core.errors import BackendError, BundleError
from minigpt4.core.vision.base import VisionStages, VisionTower
from minigpt4.core.vision.detections import Detections
from minigpt4.core.vision.detector import Detector, load_detector, made_detector
from minigpt4.core.vision.efficientnet import IMAGE_SIZE, EfficientNetLite2
from minigpt4.core.vision.objects import (
    COUNT_COLUMNS,
    NAME_COLUMNS,
    NAMED_COLUMNS,
    PROMPT_SCALE,
    VECTORS,
    object_boxes,
    object_vectors,
)
from minigpt4.core.vision.objects import WIDTH as OBJECT_WIDTH
from minigpt4.core.vision.readout import GridReadout, ReadoutOptions

ARCHITECTURES = ("efficientnet-lite2", "eva-vit-g", "clip-vit")


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


class TowerWithObjects(VisionTower):
    """A tower and a detector on the same pixels: the tower's vectors, a soft prompt, the objects' vectors.

    A vector of one kind is zero in the columns of the others, so that the projection keeps them separate.
    """

    def __init__(self, tower: VisionTower, detector: Detector, spec: ObjectsSpec, vision: VisionSpec) -> None:
        self.network = nn.ModuleList([tower.network, detector.network])
        own, prompt = tower.width + OBJECT_WIDTH, spec.soft_prompt
        self.width = own + prompt
        self.tokens = tower.tokens + prompt + VECTORS * spec.limit
        self.class_columns = tower.class_columns
        self.named_columns = {tower.width + column: word for column, word in NAMED_COLUMNS.items()}
        self.object_columns = slice(tower.width, self.width)
        self.object_names = slice(tower.width + NAME_COLUMNS.start, tower.width + NAME_COLUMNS.stop)
        self.object_counts = slice(tower.width + COUNT_COLUMNS.start, tower.width + COUNT_COLUMNS.stop)
        self.prompt_columns = slice(own, self.width)
        self._tower, self._detector, self._spec, self._vision = tower, detector, spec, vision

    def encode(self, pixels_BCHW: Tensor) -> Tensor:
        """Pixels (B, 3, 300, 300) -> features (B, N + P + 2 K, D), float32."""
        return self.stages(pixels_BCHW).features_BND

    def stages(self, pixels_BCHW: Tensor) -> VisionStages:
        """The features, and those of the objects alone."""
        found = self._found(pixels_BCHW)
        rows_BKD = np.stack([object_vectors(one, self._spec.limit) for one in found])
        objects_BKD = torch.from_numpy(rows_BKD).to(pixels_BCHW.device)
        smaller = F.interpolate(pixels_BCHW, (IMAGE_SIZE, IMAGE_SIZE), mode="bicubic", antialias=True)
        tower_BND = self._tower.encode(smaller)
        features_BND = tower_BND.new_zeros(len(found), self.tokens, self.width)
        first, prompt = self._tower.tokens, self._spec.soft_prompt
        features_BND[:, :first, : self._tower.width] = tower_BND
        features_BND[:, first : first + prompt, self.prompt_columns] = PROMPT_SCALE * torch.eye(prompt)
        features_BND[:, first + prompt :, self._tower.width : self.prompt_columns.start] = objects_BKD
        return VisionStages(tower_BND, None, features_BND, objects_BKD)

    def object_boxes(self, pixels_BCHW: Tensor) -> NDArray[np.float32]:
        """The boxes (B, K, 6) of the objects that have a vector; only the detector runs."""
        return np.stack([object_boxes(one, self._spec.limit) for one in self._found(pixels_BCHW)])

    def _found(self, pixels_BCHW: Tensor) -> list[Detections]:
        pixels_BCHW = unnormalised(pixels_BCHW, self._vision)
        return self._detector.with_flip(pixels_BCHW, min_score=self._spec.min_score)


def unnormalised(pixels_BCHW: Tensor, vision: VisionSpec) -> Tensor:
    """Undo the tower's normalisation: pixels from 0 to 1, as a detector reads them."""
    mean, std = (pixels_BCHW.new_tensor(values)[:, None, None] for values in (vision.mean, vision.std))
    return pixels_BCHW * std + mean


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
            tower = _load_efficientnet(bundle, home)
            if (spec := bundle.objects) is None:
                return tower
            return TowerWithObjects(tower, detector_of(bundle, spec, home), spec, bundle.vision)
        case "eva-vit-g":
            # transformers' BLIP-2 takes 1.7 s to import, and mini does not need it.
            from minigpt4.core.vision.eva import load_eva

            vision, qformer = bundle.vision, bundle.qformer
            return load_eva(
                (path_of(vision.file, bundle), vision.options),
                (path_of(qformer.file, bundle), qformer.options) if qformer else None,
                image_size=vision.image_size,
                dtype=dtype_for(dtype, device),
                device=home,
                bundle=bundle.name,
            )
        case "clip-vit":
            from minigpt4.core.vision.clip import load_clip

            return load_clip(
                path_of(bundle.vision.file, bundle),
                bundle.vision.options,
                image_size=bundle.vision.image_size,
                dtype=dtype_for(dtype, device),
                device=home,
                bundle=bundle.name,
            )
        case unknown:
            raise BundleError(
                f"The bundle '{bundle.name}' asks for a vision tower '{unknown}', which this version "
                f"does not have; it has {', '.join(ARCHITECTURES)}."
            )


def detector_of(bundle: Bundle, spec: ObjectsSpec, device: str) -> Detector:
    """The bundle's detector; raises BundleError if its file is missing or damaged."""
    return load_detector(made_detector(path_of(spec.file, bundle), bundle.name), device)


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
