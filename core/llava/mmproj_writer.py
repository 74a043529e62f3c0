"""Write a tower and a projection as an mmproj GGUF of LLaVA's form, for llama.cpp and programs that use it.

Keys and names are those that mmproj.py reads. The layer that the features come from is written as well
(`clip.vision.feature_layer`), so that readers need not guess how many blocks to compute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from minigpt4.core.bundles.geometry import ClipGeometry, clip_shapes
from minigpt4.core.errors import BundleError
from minigpt4.core.llava.mmproj import PROJECTION, mmproj_name
from minigpt4.core.projection import Projection
from minigpt4.core.storage.atomic import replacing

if TYPE_CHECKING:
    from gguf import GGUFWriter

ALL_F32, MOSTLY_F16 = 0, 1
"""llama.cpp's `general.file_type`."""

Colors = tuple[float, float, float]


def write_mmproj(
    path: Path,
    tower: Mapping[str, Tensor],
    projection: Projection,
    geometry: ClipGeometry,
    *,
    image_size: int,
    mean: Colors,
    std: Colors,
    name: str,
) -> None:
    """Write the file atomically; `tower` has the names and shapes of `clip_shapes`.

    A tower's float16 matrices stay float16, all else becomes float32, the projection included. One tensor is
    in memory at a time. Raises BundleError for a projection that llama.cpp does not support or values that
    are not finite, and OSError if the file cannot be written.
    """
    from gguf import GGMLQuantizationType, GGUFWriter

    if projection.layers != len(PROJECTION):
        raise BundleError(
            f"A projection of {projection.layers} layers cannot be written to {path}: llama.cpp's form of "
            f"LLaVA has {len(PROJECTION)}."
        )
    shapes = clip_shapes(geometry, image_size)
    is_half = {file_name: _stays_half(tower[own]) for own, file_name in _names(geometry, image_size)}
    with replacing(path) as draft:
        writer = GGUFWriter(draft, "clip")
        try:
            writer.add_type("mmproj")
            writer.add_name(name)
            writer.add_file_type(MOSTLY_F16 if any(is_half.values()) else ALL_F32)
            _add_metadata(writer, geometry, image_size, mean, std, projection.outputs)
            for own, file_name in _names(geometry, image_size):
                half = is_half[file_name]
                kind = GGMLQuantizationType.F16 if half else GGMLQuantizationType.F32
                bytes_ = int(np.prod(shapes[own])) * (2 if half else 4)
                writer.add_tensor_info(file_name, shapes[own], np.dtype(np.float32), bytes_, raw_dtype=kind)
            for file_name, tensor in _projection_tensors(projection):
                writer.add_tensor_info(file_name, tensor.shape, np.dtype(np.float32), tensor.numel() * 4)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for own, file_name in _names(geometry, image_size):
                _write(writer, path, file_name, tower[own], torch.half if is_half[file_name] else torch.float)
            for file_name, tensor in _projection_tensors(projection):
                _write(writer, path, file_name, tensor, torch.float)
        finally:
            writer.close()


def _names(geometry: ClipGeometry, image_size: int) -> Iterator[tuple[str, str]]:
    """transformers' name of each of the tower's tensors, and the file's, in the file's order."""
    return ((name, mmproj_name(name)) for name in clip_shapes(geometry, image_size))


def _stays_half(tensor: Tensor) -> bool:
    # libmtmd adds vectors in float32 and has no kernel for adding a half-precision table of positions.
    return tensor.dtype == torch.float16 and tensor.ndim > 1


def _projection_tensors(projection: Projection) -> Iterator[tuple[str, Tensor]]:
    for layer, name in zip((projection.linear, *projection.deeper), PROJECTION, strict=True):
        for kind, tensor in layer.state_dict().items():
            yield f"{name}.{kind}", tensor


def _add_metadata(
    writer: GGUFWriter, geometry: ClipGeometry, image_size: int, mean: Colors, std: Colors, outputs: int
) -> None:
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_bool("clip.has_text_encoder", False)
    writer.add_bool("clip.has_llava_projector", True)
    writer.add_string("clip.projector_type", "mlp")
    for key, number in {
        "image_size": image_size,
        "patch_size": geometry.patch,
        "embedding_length": geometry.width,
        "feed_forward_length": geometry.mlp,
        "projection_dim": outputs,
        "attention.head_count": geometry.heads,
        "block_count": geometry.depth,
    }.items():
        writer.add_uint32(f"clip.vision.{key}", number)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", geometry.eps)
    writer.add_array("clip.vision.feature_layer", [geometry.depth])
    writer.add_array("clip.vision.image_mean", list(mean))
    writer.add_array("clip.vision.image_std", list(std))
    writer.add_bool("clip.use_gelu", geometry.activation.startswith("gelu"))
    writer.add_bool("clip.use_silu", geometry.activation == "silu")


def _write(writer: GGUFWriter, path: Path, name: str, tensor: Tensor, dtype: torch.dtype) -> None:
    values = tensor.detach().to("cpu", dtype).contiguous()
    if not torch.isfinite(values).all():
        raise BundleError(f"{path} was not written: its '{name}' would hold values that are not finite.")
    writer.write_tensor_data(values.numpy())
