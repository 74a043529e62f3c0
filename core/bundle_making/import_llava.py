"""A user bundle from a Hugging Face folder of LLaVA's form: CLIP's or SigLIP's tower, two layers, a LLaMA.

The tower (up to the layer that is used) and the projection are written as our own safetensors into the
bundle's folder; the language model is used in place, inside LLaVA's own files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from minigpt4.core.bundle_making.new_files import check_apart, language_geometry, new_bundle
from minigpt4.core.bundle_making.new_name import check_name
from minigpt4.core.bundles.bundle import (
    Bundle,
    LanguageSpec,
    ProjectionSpec,
    VisionSpec,
)
from minigpt4.core.bundles.geometry import ClipGeometry, clip_shapes
from minigpt4.core.bundles.source import File
from minigpt4.core.download.fetch import Progress
from minigpt4.core.errors import BundleError
from minigpt4.core.storage.dataclass_toml import InvalidValueError, plain
from minigpt4.core.storage.regular_file import read_regular_file
from minigpt4.core.types import ResolvedSampling
from minigpt4.core.vision.clip import check_clip
from minigpt4.core.weights.gguf.writer import LlamaShape
from minigpt4.core.weights.hf_folder import LlamaFolder
from minigpt4.core.weights.llava_folder import LLAVA, PROJECTOR, TOWER, part_of
from minigpt4.core.weights.read_tensors import read_tensors
from minigpt4.core.weights.sentencepiece_vocab import folder_vocabulary

CONFIG, PICTURES = "config.json", "preprocessor_config.json"
VISION, PROJECTION = "vision.safetensors", "projection.safetensors"
TEMPLATE = "llava-1.5"
CONTEXT = 2048
"""Limit for models with a longer context: LLaVA-1.5 was trained with this many positions."""

TOWERS: dict[str, dict[str, Any]] = {
    "clip_vision_model": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 224,
        "patch_size": 32,
        "layer_norm_eps": 1e-5,
        "hidden_act": "quick_gelu",
    },
    "siglip_vision_model": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 224,
        "patch_size": 16,
        "layer_norm_eps": 1e-6,
        "hidden_act": "gelu_pytorch_tanh",
    },
}
"""Kinds of towers, and the defaults of transformers' configuration, which files omit."""

COLORS = {
    "clip_vision_model": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "siglip_vision_model": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Mean and standard deviation of a tower's pixels, for folders without picture settings."""

LAYERS = {"linear_1": "layers.0", "linear_2": "layers.1"}
"""The projection's modules in transformers, and in core/projection.py."""


@dataclass(frozen=True)
class _Form:
    """The settings of tower and pictures."""

    geometry: ClipGeometry
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def import_llava(name: str, folder: Path, *, force: bool = False, progress: Progress | None = None) -> Bundle:
    """Make the user bundle `name` from LLaVA's folder; `force` replaces a user bundle of this name.

    Raises UsageError for an invalid name, BundleError for a folder of another form or a damaged one,
    BackendError if the disk is too small.
    """
    check_name(name, force=force)
    folder = folder.expanduser().absolute()
    check_apart(name, folder)
    form = _form(folder)
    shape = LlamaFolder(folder).shape
    folder_vocabulary(folder, shape.vocabulary)
    parts = _parts(folder, form, shape.width)
    return new_bundle(name, parts, lambda files: _bundle(name, folder, form, shape, files), progress)


def _form(folder: Path) -> _Form:
    path = folder / CONFIG
    settings = _settings(path)
    if settings.get("model_type") != LLAVA:
        raise BundleError(
            f"{path} says '{settings.get('model_type')}'; --llava takes a folder of the kind '{LLAVA}' "
            "(LlavaForConditionalGeneration), such as llava-hf/llava-1.5-7b-hf."
        )
    vision = settings.get("vision_config") or {}
    if not isinstance(vision, dict):
        raise BundleError(f"{path}: 'vision_config' is {vision!r}, and must be a table; it is damaged.")
    kind = vision.get("model_type", "clip_vision_model")
    if kind not in TOWERS:
        raise BundleError(
            f"{path}: a tower of the kind '{kind}' cannot be used; there is {', '.join(TOWERS)}."
        )
    try:
        geometry, size = _geometry(settings, TOWERS[kind] | vision, class_row=kind == "clip_vision_model")
        mean, std = _colors(folder / PICTURES, kind)
    except (KeyError, TypeError, ValueError, InvalidValueError) as error:
        raise BundleError(f"{path}: {error}; it is damaged, or of a form that cannot be used.") from error
    return _Form(geometry, size, mean, std)


def _geometry(
    settings: Mapping[str, Any], vision: Mapping[str, Any], *, class_row: bool
) -> tuple[ClipGeometry, int]:
    layer = settings.get("vision_feature_layer", -2)
    strategy = settings.get("vision_feature_select_strategy", "default")
    if not isinstance(layer, int):
        raise ValueError(f"the features are those of several layers ({layer})")
    if (strategy == "default") != class_row:
        raise ValueError(f"'vision_feature_select_strategy' is '{strategy}', which does not fit the tower")
    activation, bias = (
        settings.get("projector_hidden_act", "gelu"),
        settings.get("multimodal_projector_bias", True),
    )
    if activation != "gelu" or not bias:
        raise ValueError("the projection must have biases, and GELU between its layers")
    blocks = int(vision["num_hidden_layers"])
    # transformers counts the embeddings as layer 0, and -1 is the last block's output.
    depth = layer if layer >= 0 else blocks + 1 + layer
    if not 1 <= depth <= blocks:
        raise ValueError(f"'vision_feature_layer' is {layer} of {blocks}")
    size, patch = int(vision["image_size"]), int(vision["patch_size"])
    if size % patch:
        raise ValueError(f"pictures of {size} pixels do not consist of whole patches of {patch}")
    geometry = ClipGeometry.parse(
        {
            "width": vision["hidden_size"],
            "depth": depth,
            "heads": vision["num_attention_heads"],
            "mlp": vision["intermediate_size"],
            "patch": patch,
            "eps": vision["layer_norm_eps"],
            "activation": vision["hidden_act"],
            "class_row": class_row,
        }
    )
    return geometry, size


def _colors(path: Path, kind: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    settings = _settings(path) if path.is_file() else {}
    default_mean, default_std = COLORS[kind]
    (r, g, b), (x, y, z) = settings.get("image_mean", default_mean), settings.get("image_std", default_std)
    return (float(r), float(g), float(b)), (float(x), float(y), float(z))


def _settings(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(read_regular_file(path))
    except FileNotFoundError as error:
        raise BundleError(f"There is no {path}; --llava takes the Hugging Face folder of a LLaVA.") from error
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise BundleError(f"{path} is not JSON ({error}); it is damaged.") from error
    if not isinstance(values, dict):
        raise BundleError(f"{path} is not a JSON table; it is damaged.")
    return values


def _parts(folder: Path, form: _Form, width: int) -> dict[str, Mapping[str, Tensor]]:
    """The tensors of each file that is to be written, mapped and not read."""
    tensors = read_tensors(folder, what="LLaVA")
    tower = part_of(tensors, TOWER)
    check_clip(folder, tower, form.geometry, form.image_size)
    projector = part_of(tensors, PROJECTOR)
    inputs = form.geometry.width
    shapes = {"linear_1": (width, inputs), "linear_2": (width, width)}
    for module, shape in shapes.items():
        for name, wanted in ((f"{module}.weight", shape), (f"{module}.bias", shape[:1])):
            found = tuple(projector[name].shape) if name in projector else None
            if found != wanted:
                raise BundleError(
                    f"{folder}: the projection's '{name}' has the shape {found}, but tower and language "
                    f"model ask for {wanted}; the files belong to different models."
                )
    return {
        VISION: {name: tower[name] for name in clip_shapes(form.geometry, form.image_size)},
        PROJECTION: {
            f"{own}.{kind}": projector[f"{module}.{kind}"]
            for module, own in LAYERS.items()
            for kind in ("weight", "bias")
        },
    }


def _bundle(name: str, folder: Path, form: _Form, shape: LlamaShape, files: Mapping[str, File]) -> Bundle:
    geometry = form.geometry
    return Bundle(
        name=name,
        summary=f"LLaVA from {folder.name}",
        license="that of the imported files",
        vision=VisionSpec(
            "clip-vit",
            files[VISION],
            form.image_size,
            form.mean,
            form.std,
            plain(geometry),
            "letterboxed",
        ),
        projection=ProjectionSpec(
            None,
            files[PROJECTION],
            geometry.width,
            shape.width,
            geometry.patches(form.image_size),
            len(LAYERS),
        ),
        language=LanguageSpec(
            architecture="llama",
            context=min(CONTEXT, shape.context),
            width=shape.width,
            folder=folder,
            geometry=language_geometry(shape),
        ),
        template=TEMPLATE,
        sampling=ResolvedSampling(),
    )
