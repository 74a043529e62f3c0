"""The FLOPs of training, from a bundle's sizes alone; neither its files nor torch are needed.

One multiply-add is 2 FLOPs. The matrix products of useful tokens count: no padding, and a shared
prefix once. A frozen model's backward pass costs as much as its forward pass, because its weights
need no gradient. The language model's attention scores are ignored: 1 % at the lengths of stage 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from minigpt4.core.bundles.bundle import Bundle, LanguageGeometry
from minigpt4.core.bundles.geometry import ClipGeometry, ViTGeometry
from minigpt4.core.errors import BundleError
from minigpt4.core.memory import geometry_of

EFFICIENTNET_LITE2 = 2 * 0.869e9
"""FLOPs per picture: 869 million multiply-adds (the table of tensorflow/tpu's EfficientNet-lite)."""

SSD_MOBILENET_V2 = 2 * 1.875e9
"""FLOPs per picture of its convolutions; the class predictors take half of them."""


@dataclass(frozen=True)
class Device:
    """A device to train on."""

    name: str
    peak: float
    """FLOP/s of dense 16-bit matrix products with 32-bit accumulation."""

    memory: int
    """Bytes."""


GIB = 1 << 30
DEVICES = {
    device.name: device
    for device in (
        # NVIDIA's data sheets: A100 80GB SXM, H100 SXM (both without sparsity), GeForce RTX 4090.
        Device("A100", 312e12, 80 * GIB),
        Device("H100", 989e12, 80 * GIB),
        Device("4090", 165e12, 24 * GIB),
    )
}


@dataclass(frozen=True)
class Work:
    """What one or more steps computed, useful tokens only."""

    photos: int
    """Photos that passed through the projection."""

    encoded: int
    """Photos that the vision tower encoded, without those with cached features."""

    positions: int
    """Image and text tokens that the language model read; a shared prefix is not counted."""

    label_tokens: int
    """Tokens that were predicted."""


@dataclass(frozen=True)
class Arithmetic:
    """The FLOPs of one training step's parts, for one bundle."""

    encoding: float
    """Vision tower and Q-Former, one photo, forward."""

    projecting: float
    """The projection, one photo: forward, and the gradient of its weights."""

    reading: float
    """The language model's layers, one position: forward and backward."""

    predicting: float
    """The language model's output layer, one label token: forward and backward."""

    def of(self, work: Work) -> float:
        """The FLOPs of `work`."""
        return (
            work.encoded * self.encoding
            + work.photos * self.projecting
            + work.positions * self.reading
            + work.label_tokens * self.predicting
        )


def arithmetic_of(bundle: Bundle, *, trains_qformer: bool = False) -> Arithmetic:
    """The FLOPs of training this bundle's projection.

    With `trains_qformer` every sample passes the Q-Former forward, backward and for its weights'
    gradients. Raises BundleError if neither manifest nor files contain the language model's sizes.
    """
    geometry = geometry_of(bundle)
    if geometry is None:
        raise BundleError(
            f"The sizes of the language model of '{bundle.name}' are not known; fetch it with "
            f"`minigpt4 models pull {bundle.name}`, or give its manifest a [language.geometry] table."
        )
    width = bundle.language.width
    projection = bundle.projection
    weights = projection.inputs * projection.outputs + (projection.layers - 1) * projection.outputs**2
    qformer = _qformer(bundle)
    return Arithmetic(
        encoding=_tower(bundle) + (0 if trains_qformer else qformer),
        projecting=2 * 2 * weights * projection.image_tokens + (3 * qformer if trains_qformer else 0),
        reading=2 * 2 * _layer_weights(width, geometry) * geometry.layers,
        predicting=2 * 2 * width * geometry.vocabulary,
    )


def _tower(bundle: Bundle) -> float:
    if bundle.vision.architecture == "efficientnet-lite2":
        return EFFICIENTNET_LITE2 + (SSD_MOBILENET_V2 if bundle.objects else 0)
    size = bundle.vision.image_size
    vit: ViTGeometry | ClipGeometry
    if bundle.vision.architecture == "clip-vit":
        vit = ClipGeometry.parse(bundle.vision.options, bundle.name)
        positions = vit.patches(size) + vit.class_row
    else:
        vit = ViTGeometry.parse(bundle.vision.options, bundle.name)
        positions = vit.positions(size)
    weights = 4 * vit.width**2 + 2 * vit.width * vit.mlp
    attention = 2 * positions * vit.width  # scores, and the weighted sum of values
    patches = (positions - 1) * 3 * vit.patch**2 * vit.width
    return 2 * (vit.depth * positions * (weights + attention) + patches)


def _qformer(bundle: Bundle) -> float:
    if bundle.qformer is None:
        return 0.0
    former = bundle.qformer.options
    vit = ViTGeometry.parse(bundle.vision.options, bundle.name)
    seen = vit.positions(bundle.vision.image_size)
    width, queries = former.width, former.queries
    layer = queries * (4 * width**2 + 2 * width * former.mlp + 2 * queries * width)
    crossing = queries * (2 * width**2 + 2 * seen * width) + seen * 2 * vit.width * width
    crossings = len(range(0, former.layers, former.cross_attention_every))
    return 2.0 * (former.layers * layer + crossings * crossing)


def _layer_weights(width: int, geometry: LanguageGeometry) -> int:
    """Weights of one layer's matrices, of the LLaMA architecture."""
    keys = width * geometry.key_value_heads // geometry.heads
    return 2 * width * width + 2 * keys * width + 3 * width * geometry.mlp
