"""The sizes of EVA's and CLIP's ViT and of the Q-Former, as stated in a manifest's options; needs no torch.

MiniGPT-4's own: ViT-G/14 of EVA-CLIP (arXiv 2211.07636) without its last block, and the Q-Former of
BLIP-2 (arXiv 2301.12597), a BERT-base whose every second layer attends to the image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Self, TypeVar

from minigpt4.core.errors import BundleError
from minigpt4.core.storage.dataclass_toml import InvalidValueError, bounded, read

T = TypeVar("T")

Options = Mapping[str, int | float | str | bool]
PATCHES_JOINED = "patches_joined"

Fit = Literal["squashed", "letterboxed"]
"""How a picture becomes a tower's square: distorted, or with a border."""

LLAMA_SIZES = {4096: "the 7B model", 5120: "the 13B model"}
"""Language models by the width of their embeddings."""

TOWER_KINDS = {768: "a Q-Former", 5632: "no Q-Former"}
"""The inputs of the released projections by width: the Q-Former, or four joined patches of ViT-G."""

MINI_KINDS = {
    2280: ("mini before it had a detector", "mini-without-detector"),
    2385: ("mini with its detector", "mini"),
}
"""The inputs of mini's projections by width: the model they belong to, and the bundle that takes them."""


@dataclass(frozen=True, kw_only=True)
class ViTGeometry:
    """`[vision.options]` of the architecture `eva-vit-g`."""

    width: int = bounded(1)
    depth: int = bounded(1)
    """Blocks; a file may hold more, and the last ones are then dropped (MiniGPT-4 uses 39 of 40)."""

    heads: int = bounded(1)
    mlp: int = bounded(1)
    patch: int = bounded(1)
    """Side of a patch in pixels."""

    patches_joined: int = bounded(1, default=1)
    """Without a Q-Former: how many neighbouring patch tokens become one (4 in the LLaMA-2 release)."""

    @classmethod
    def parse(cls, options: Options, bundle: str = "") -> Self:
        """Read the table; raises BundleError naming an unknown, missing or ill-typed key."""
        return parse_options(cls, options, bundle)

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """Heads that do not divide the width."""
        return _uneven_heads(self.width, self.heads)

    def positions(self, image_size: int) -> int:
        """The ViT's output tokens for one image: its patches and the class token."""
        return (image_size // self.patch) ** 2 + 1


@dataclass(frozen=True, kw_only=True)
class ClipGeometry:
    """`[vision.options]` of the architecture `clip-vit`: the towers of LLaVA, CLIP's ViT or SigLIP's."""

    width: int = bounded(1)
    depth: int = bounded(1)
    """Blocks up to the layer whose output is the features; LLaVA-1.5 computes 23 of CLIP's 24."""

    heads: int = bounded(1)
    mlp: int = bounded(1)
    patch: int = bounded(1)
    """Side of a patch in pixels."""

    eps: float = bounded(0, 1)
    """Epsilon of the LayerNorms: 1e-5 in CLIP, 1e-6 in SigLIP."""

    activation: Literal["quick_gelu", "gelu", "gelu_pytorch_tanh", "silu"]
    """The MLPs' activation, by transformers' name: `quick_gelu` in CLIP, `gelu_pytorch_tanh` in SigLIP."""

    class_row: bool
    """Whether a class token precedes the patches, as in CLIP; its output is not among the features."""

    @classmethod
    def parse(cls, options: Options, bundle: str = "") -> Self:
        """Read the table; raises BundleError naming an unknown, missing or ill-typed key."""
        return parse_options(cls, options, bundle)

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """Heads that do not divide the width."""
        return _uneven_heads(self.width, self.heads)

    def patches(self, image_size: int) -> int:
        """The feature vectors of one image."""
        return (image_size // self.patch) ** 2


@dataclass(frozen=True, kw_only=True)
class QFormerGeometry:
    """`[qformer.options]`."""

    queries: int = bounded(1)
    width: int = bounded(1)
    layers: int = bounded(1)
    heads: int = bounded(1)
    mlp: int = bounded(1)
    cross_attention_every: int = bounded(1)
    """Layers 0, n, 2n, ... attend to the image."""

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """Heads that do not divide the width."""
        return _uneven_heads(self.width, self.heads)


def vision_shapes(geometry: ViTGeometry, image_size: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the ViT's tensors under the names of transformers' Blip2VisionModel.

    `post_layernorm` is not among them: it is the Q-Former's `ln_vision`.
    """
    width, mlp = geometry.width, geometry.mlp
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.class_embedding": (1, 1, width),
        "embeddings.position_embedding": (1, geometry.positions(image_size), width),
        "embeddings.patch_embedding.weight": (width, 3, geometry.patch, geometry.patch),
        "embeddings.patch_embedding.bias": (width,),
    }
    layer: dict[str, tuple[int, ...]] = {
        **_norm("layer_norm1", width),
        **_linear("self_attn.qkv", width, 3 * width),
        **_linear("self_attn.projection", width, width),
        **_norm("layer_norm2", width),
        **_linear("mlp.fc1", width, mlp),
        **_linear("mlp.fc2", mlp, width),
    }
    for index in range(geometry.depth):
        shapes |= {f"encoder.layers.{index}.{name}": shape for name, shape in layer.items()}
    return shapes


def clip_shapes(geometry: ClipGeometry, image_size: int) -> dict[str, tuple[int, ...]]:
    """Shapes of a tower's tensors under the names of transformers' CLIPVisionModel or SiglipVisionModel.

    `post_layernorm` is not among them: LLaVA reads a layer's output before it.
    """
    width, mlp = geometry.width, geometry.mlp
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.patch_embedding.weight": (width, 3, geometry.patch, geometry.patch),
        "embeddings.position_embedding.weight": (geometry.patches(image_size) + geometry.class_row, width),
    }
    if geometry.class_row:
        shapes |= {"embeddings.class_embedding": (width,), **_norm("pre_layrnorm", width)}
    else:
        shapes["embeddings.patch_embedding.bias"] = (width,)
    layer: dict[str, tuple[int, ...]] = {
        **_norm("layer_norm1", width),
        **_linear("self_attn.q_proj", width, width),
        **_linear("self_attn.k_proj", width, width),
        **_linear("self_attn.v_proj", width, width),
        **_linear("self_attn.out_proj", width, width),
        **_norm("layer_norm2", width),
        **_linear("mlp.fc1", width, mlp),
        **_linear("mlp.fc2", mlp, width),
    }
    for index in range(geometry.depth):
        shapes |= {f"encoder.layers.{index}.{name}": shape for name, shape in layer.items()}
    return shapes


def qformer_shapes(geometry: QFormerGeometry, vision_width: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the Q-Former's tensors: `query_tokens`, `ln_vision.*`, then Blip2QFormerModel's names."""
    width, mlp = geometry.width, geometry.mlp
    shapes: dict[str, tuple[int, ...]] = {
        "query_tokens": (1, geometry.queries, width),
        **_norm("ln_vision", vision_width),
        **_norm("layernorm", width),
    }
    for index in range(geometry.layers):
        layer = _attention("attention", width, width)
        if index % geometry.cross_attention_every == 0:
            layer |= _attention("crossattention", width, vision_width)
        layer |= _linear("intermediate_query.dense", width, mlp)
        layer |= _linear("output_query.dense", mlp, width) | _norm("output_query.LayerNorm", width)
        shapes |= {f"encoder.layer.{index}.{name}": shape for name, shape in layer.items()}
    return shapes


def size_mismatch(outputs: int, width: int) -> str:
    """A clause about a projection for the other size of LLaMA; empty if it is none."""
    if outputs == width or not {outputs, width} <= set(LLAMA_SIZES):
        return ""
    return f"this projection is for {LLAMA_SIZES[outputs]} and the bundle has {LLAMA_SIZES[width]}"


def tower_mismatch(inputs: int, width: int) -> str:
    """A clause about a projection with a Q-Former in a bundle without one, or the reverse; else empty."""
    if inputs == width:
        return ""
    if {inputs, width} <= set(MINI_KINDS):
        (trained_for, its_bundle), (kind, _) = MINI_KINDS[inputs], MINI_KINDS[width]
        return (
            f"this projection was trained for {trained_for} and the bundle is {kind}; use it with "
            f"`--bundle {its_bundle}`, or train it anew"
        )
    if not {inputs, width} <= set(TOWER_KINDS):
        return ""
    return f"this projection was trained with {TOWER_KINDS[inputs]} and the bundle has {TOWER_KINDS[width]}"


def _attention(name: str, width: int, attended_width: int) -> dict[str, tuple[int, ...]]:
    return {
        **_linear(f"{name}.attention.query", width, width),
        **_linear(f"{name}.attention.key", attended_width, width),
        **_linear(f"{name}.attention.value", attended_width, width),
        **_linear(f"{name}.output.dense", width, width),
        **_norm(f"{name}.output.LayerNorm", width),
    }


def _linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def parse_options(kind: type[T], options: Options, bundle: str) -> T:
    """A tower's own [vision.options] as the dataclass; raises BundleError for a wrong key or value."""
    try:
        return read(kind, options, "vision.options.")
    except InvalidValueError as problem:
        place = f"In the bundle '{bundle}'" if bundle else "In the geometry"
        raise BundleError(f"{place} {problem}") from problem


def _uneven_heads(width: int, heads: int) -> Iterator[tuple[str, str]]:
    if width % heads:
        yield "heads", f"is {heads}, which does not divide the width {width}"
