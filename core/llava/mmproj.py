"""An mmproj GGUF of LLaVA's form, read for torch: its metadata, its tower and its projection.

Its `clip.projector_type` is `mlp`, its tower CLIP's or SigLIP's ViT, its projection `mm.0` and `mm.2`.
Names and keys are those of llama.cpp's tools/mtmd/clip-impl.h, rules those of its clip.cpp.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minigpt4.core.bundles.geometry import ClipGeometry, clip_shapes
from minigpt4.core.errors import BundleError
from minigpt4.core.projection import Projection
from minigpt4.core.vision.clip import ClipTower, clip_tower
from minigpt4.core.weights.gguf.header import GgufHeader, read_header

CLASS_ROW = "v.class_embd"
LLAVA_GRAPH = ("mlp", "ldp", "ldpv2")
"""Projections that follow a tower with a class token in libmtmd's models/llava.cpp: LLaVA's, MobileVLM's."""

EMBEDDINGS = {
    "embeddings.class_embedding": CLASS_ROW,
    "embeddings.patch_embedding": "v.patch_embd",
    "embeddings.position_embedding": "v.position_embd",
    "pre_layrnorm": "v.pre_ln",
}
BLOCK = {
    "layer_norm1": "ln1",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_out",
    "layer_norm2": "ln2",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
}
"""transformers' names of a tower's modules, and llama.cpp's."""

SWAPPED = {"ffn_up": "ffn_down", "ffn_down": "ffn_up"}
"""llama.cpp's first converter swapped the two."""

PROJECTION = ("mm.0", "mm.2")
UNSUPPORTED = {
    "mm.3.weight": "a projection with norms (Yi-VL's)",
    "v.blk.0.attn_q_norm.weight": "a tower that normalises its queries",
    "v.blk.0.attn_qkv.weight": "a tower with joined queries, keys and values",
}

FEATURE_LAYER, MEAN, STD = ("clip.vision.feature_layer", "clip.vision.image_mean", "clip.vision.image_std")

CLIP_DEPTHS = {768: 12, 1024: 24, 1280: 32, 1408: 40, 1664: 48}
"""The blocks of CLIP's ViTs by width: B, L, H, g and bigG."""


@dataclass(frozen=True)
class Mmproj:
    """The metadata of an mmproj. `outputs` is the width of the language model's embeddings."""

    path: Path
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    geometry: ClipGeometry
    outputs: int
    layers: int
    """Linear layers of the projection."""

    blocks_in_library: int
    """How many of the file's blocks libmtmd computes; `geometry.depth` is the correct number."""

    @property
    def tokens(self) -> int:
        """N, the vectors of one picture."""
        return self.geometry.patches(self.image_size)


def has_class_row(header: GgufHeader) -> bool:
    """Whether libmtmd computes it as LLaVA with a class token, which 0.3.36 puts in the wrong place."""
    return header.metadata.get("clip.projector_type") in LLAVA_GRAPH and CLASS_ROW in header.tensors


def read_mmproj_header(path: Path) -> GgufHeader:
    """The header; raises BundleError for a file that is damaged, truncated or no GGUF."""
    try:
        size, header = path.stat().st_size, read_header(path, (FEATURE_LAYER, MEAN, STD))
    except OSError as error:
        raise BundleError(f"The mmproj {path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise BundleError(f"The mmproj {path} is damaged or no GGUF: {error}; fetch it again.") from error
    if size < header.end:
        raise BundleError(
            f"The mmproj {path} is cut short: it has {size} bytes, but its weights end at {header.end}; "
            "fetch it again."
        )
    return header


def read_mmproj(path: Path) -> Mmproj:
    """Read and check the header; the weights stay on disk.

    Raises BundleError for a damaged file, for another form, and for sizes that contradict each other.
    """
    header = read_mmproj_header(path)
    try:
        return _parsed(path, header)
    except (KeyError, TypeError, ValueError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise BundleError(
            f"The mmproj {path} cannot be read as LLaVA's form: {reason}; fetch it again, or take another."
        ) from error


def load_tower(mmproj: Mmproj, dtype: torch.dtype = torch.float32, device: str = "cpu") -> ClipTower:
    """The tower with the file's weights; raises BundleError if they are damaged."""
    geometry, size = mmproj.geometry, mmproj.image_size
    names = _file_names(read_mmproj_header(mmproj.path), geometry, size)
    tensors = dict(zip(names, _tensors(mmproj.path, list(names.values())), strict=True))
    return clip_tower(tensors, geometry, size, dtype=dtype, device=device)


def load_mmproj_projection(mmproj: Mmproj) -> Projection:
    """The file's projection in float32, without gradients; raises BundleError if it is damaged."""
    projection = Projection(mmproj.geometry.width, mmproj.outputs, mmproj.layers)
    names = [f"{name}.{kind}" for name in PROJECTION[: mmproj.layers] for kind in ("weight", "bias")]
    held = projection.named_tensors()
    with torch.no_grad():
        for own, tensor in zip(held.values(), _tensors(mmproj.path, names), strict=True):
            own.copy_(tensor)
    return projection.eval().requires_grad_(False)


def blocks_used(blocks: int, feature_layers: tuple[Any, ...], geometry_width: int) -> int:
    """How many of a file's blocks come before the features that its projection reads.

    `clip.vision.feature_layer` states it. Without that key it is LLaVA's second-to-last layer of all blocks.
    llama.cpp's first converter left the last block out, so a CLIP that is one block short of its known depth
    is used whole (llama.cpp issue 25817: for such files, the library computes one block too few).
    """
    if feature_layers:
        return int(feature_layers[0])
    return blocks if blocks == CLIP_DEPTHS.get(geometry_width, 0) - 1 else blocks - 1


def _parsed(path: Path, header: GgufHeader) -> Mmproj:
    values, lists = header.metadata, header.lists
    kind = values.get("clip.projector_type")
    if kind != "mlp":
        raise ValueError(f"its 'clip.projector_type' is '{kind}', not 'mlp'")
    if "clip.vision.image_grid_pinpoints" in header.lengths:
        raise ValueError("it cuts pictures into tiles (LLaVA-1.6), which only libmtmd does")
    for name, what in UNSUPPORTED.items():
        if name in header.tensors:
            raise ValueError(f"it has {what}")
    class_row = CLASS_ROW in header.tensors
    width, blocks = _positive(values, "embedding_length"), _positive(values, "block_count")
    if blocks > len(header.tensors):  # before building the names of all their tensors exhausts memory
        raise ValueError(f"it says that it has {blocks} blocks, and has {len(header.tensors)} tensors")
    feature_layers = tuple(lists.get(FEATURE_LAYER, ()))
    if len(feature_layers) > 1:
        raise ValueError("its features are those of several layers")
    depth = blocks_used(blocks, feature_layers, width if class_row else 0)
    if not 1 <= depth <= blocks:
        raise ValueError(f"its features are those of layer {depth} of {blocks}")
    geometry = ClipGeometry(
        width=width,
        depth=depth,
        heads=_positive(values, "attention.head_count"),
        mlp=_positive(values, "feed_forward_length"),
        patch=_positive(values, "patch_size"),
        eps=float(values["clip.vision.attention.layer_norm_epsilon"]),
        activation=_activation(values, class_row),
        class_row=class_row,
    )
    for _, problem in geometry.contradictions():
        raise ValueError(f"its number of heads {problem}")
    size = _positive(values, "image_size")
    _check_shapes(header, _file_names(header, geometry, size), clip_shapes(geometry, size))
    outputs, layers = _projection_shape(header, width)
    return Mmproj(
        path,
        size,
        _colors(lists[MEAN]),
        _colors(lists[STD]),
        geometry,
        outputs,
        layers,
        int(feature_layers[0]) if feature_layers else blocks - 1,
    )


def _positive(values: Mapping[str, Any], key: str) -> int:
    number = int(values[f"clip.vision.{key}"])
    if number < 1:
        raise ValueError(f"its 'clip.vision.{key}' is {number}")
    return number


def _activation(values: Mapping[str, Any], class_row: bool) -> Any:
    """The name in transformers; llama.cpp's two keys do not tell its two forms of GELU apart."""
    if values.get("clip.use_silu"):
        return "silu"
    if values.get("clip.use_gelu"):
        return "gelu" if class_row else "gelu_pytorch_tanh"
    return "quick_gelu"


def _colors(numbers: list[Any]) -> tuple[float, float, float]:
    red, green, blue = (float(number) for number in numbers)
    return red, green, blue


def _file_names(header: GgufHeader, geometry: ClipGeometry, image_size: int) -> dict[str, str]:
    """The file's name of each of the tower's tensors."""
    down = header.tensors.get("v.blk.0.ffn_down.weight")
    is_swapped = down is not None and down.shape == (geometry.mlp, geometry.width) != down.shape[::-1]
    return {name: mmproj_name(name, is_swapped=is_swapped) for name in clip_shapes(geometry, image_size)}


def mmproj_name(name: str, *, is_swapped: bool = False) -> str:
    """llama.cpp's name of a tower's tensor, by transformers' name."""
    if name in EMBEDDINGS:
        return EMBEDDINGS[name]
    module, _, kind = name.rpartition(".")
    if module in EMBEDDINGS:
        return f"{EMBEDDINGS[module]}.{kind}"
    _, _, index, part = module.split(".", 3)
    own = BLOCK[part]
    return f"v.blk.{index}.{SWAPPED.get(own, own) if is_swapped else own}.{kind}"


def _check_shapes(
    header: GgufHeader, names: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    for name, shape in shapes.items():
        found = header.tensors[names[name]].shape
        if found != shape:
            raise ValueError(f"its '{names[name]}' has the shape {found} and {shape} is wanted")


def _projection_shape(header: GgufHeader, inputs: int) -> tuple[int, int]:
    """The projection's output width, and its number of layers."""
    outputs = header.tensors["mm.0.weight"].shape[0]
    layers = 2 if "mm.2.weight" in header.tensors else 1
    shapes = {"mm.0.weight": (outputs, inputs), "mm.0.bias": (outputs,)}
    if layers == 2:
        shapes |= {"mm.2.weight": (outputs, outputs), "mm.2.bias": (outputs,)}
    _check_shapes(header, {name: name for name in shapes}, shapes)
    return outputs, layers


def _tensors(path: Path, names: list[str]) -> list[Tensor]:
    """The tensors of these names, dequantised, in float32."""
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    header = read_mmproj_header(path)
    found: list[Tensor] = []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for name in names:
            tensor = header.tensors[name]
            packed = np.frombuffer(data[tensor.start : tensor.start + tensor.length], np.uint8)
            kind = GGMLQuantizationType[tensor.kind]
            values: NDArray[Any] = dequantize(packed.reshape(*tensor.shape[:-1], -1), kind)
            found.append(torch.from_numpy(np.array(values, np.float32).reshape(tensor.shape)))
            if not torch.isfinite(found[-1]).all():
                raise BundleError(f"The mmproj {path} holds '{name}' with values that are not finite.")
    return found
