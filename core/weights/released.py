"""The released weights, in any of their forms, under one set of names.

A part is read from the original's checkpoint (the names of EVA, LAVIS and MiniGPT-4), from BLIP-2 on the
Hugging Face hub (only the tensors of that part are read), or from our own safetensors, whose names are
those that the functions here return. Values keep their type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from minigpt4.core.bundles.geometry import (
    Options,
    QFormerGeometry,
    ViTGeometry,
    qformer_shapes,
    vision_shapes,
)
from minigpt4.core.errors import BundleError
from minigpt4.core.weights.read_tensors import read_tensors

LISTED = 3
"""How many names a sentence lists before it only counts."""

POSITIONS = "embeddings.position_embedding"
LLAMA_PROJ = "llama_proj."
LAYER = re.compile(r"layers\.(\d+)\.(?:weight|bias)")
"""A tensor of a projection with several layers, as core/projection.py writes it."""

EVA_LAYER = {
    "layer_norm1": "norm1",
    "self_attn.projection": "attn.proj",
    "layer_norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "self_attn.qkv": "attn.qkv",
}
"""A module of transformers' layer, and of EVA's block."""

EVA_EMBEDDINGS = {
    "embeddings.class_embedding": "cls_token",
    POSITIONS: "pos_embed",
    "embeddings.patch_embedding.weight": "patch_embed.proj.weight",
    "embeddings.patch_embedding.bias": "patch_embed.proj.bias",
}

TEXT_BRANCH = re.compile(
    r"(embeddings\.(word_embeddings|position_embeddings|position_ids)\b.*"
    r"|encoder\.layer\.\d+\.(intermediate|output)\..*)"
)
"""The Q-Former's branch for texts, which MiniGPT-4 removes."""

BUFFERS = ("inv_freq", "position_ids", "cos_cached", "sin_cached", "SCB", "weight_format")
"""Last parts of names that MiniGPT-4 checkpoints contain although they were not trained."""


@dataclass(frozen=True)
class _Form:
    """One naming scheme of a part: the source tensors of each of ours, and the other names that may occur."""

    sources: Mapping[str, tuple[str, ...]]
    is_ours: Callable[[str], bool]
    """Whether a name belongs to this part, and must therefore be among the sources."""

    advice: str = "give the geometry that it was made with, or another file"


def vision_tensors(path: Path, options: Options, image_size: int | None = None) -> dict[str, Tensor]:
    """The ViT's tensors under the names of transformers' Blip2VisionModel, without `post_layernorm`.

    `options` are a manifest's [vision.options]. Blocks past `depth`, the final norm and the head are
    skipped. If the position embeddings are for another `image_size`, they are interpolated in float32.
    Raises BundleError.
    """
    geometry = ViTGeometry.parse(options)
    what = "vision tower's file"
    tensors = read_tensors(path, what=what)
    shapes = vision_shapes(geometry, image_size or 0)
    form = _vision_form(tensors, shapes, geometry.depth)
    if form is None:
        raise _wrong_file(path, what, tensors, "an EVA ViT", "eva_vit_g.pth")
    found = _gathered(path, what, tensors, form)
    _check_shapes(path, what, found, {name: shape for name, shape in shapes.items() if name != POSITIONS})
    found[POSITIONS] = _positions(path, found[POSITIONS], geometry, image_size)
    return found


def qformer_tensors(path: Path, geometry: QFormerGeometry) -> dict[str, Tensor]:
    """`query_tokens`, `ln_vision.weight`, `ln_vision.bias` and the tensors of Blip2QFormerModel.

    The text branch and tensors of other models in the same file (T5's projection) are ignored. Raises
    BundleError.
    """
    what = "Q-Former's file"
    tensors = read_tensors(path, what=what)
    form = _qformer_form(tensors, qformer_shapes(geometry, 0))
    if form is None:
        raise _wrong_file(path, what, tensors, "a Q-Former", "blip2_pretrained_flant5xxl.pth")
    found = _gathered(path, what, tensors, form)
    vision_width = found["ln_vision.weight"].numel()
    _check_shapes(path, what, found, qformer_shapes(geometry, vision_width))
    return found


def projection_tensors(path: Path) -> dict[str, Tensor]:
    """`weight` and `bias`, or `layers.N.weight` and `layers.N.bias` of a projection with several layers.

    From our safetensors or a MiniGPT-4 checkpoint of either stage. Raises BundleError.
    """
    what = "projection file"
    if not path.is_file():
        raise BundleError(f"There is no {what} {path}; check the path or train one first.")
    tensors = read_tensors(path, what=what)
    prefix = LLAMA_PROJ if any(name.startswith(LLAMA_PROJ) for name in tensors) else ""
    layers = {int(found[1]) for name in tensors if (found := LAYER.fullmatch(name))}
    ends = ("weight", "bias")
    names = [f"layers.{index}.{end}" for index in sorted(layers) for end in ends] or [*ends]
    if not prefix and set(names).isdisjoint(tensors):
        raise _wrong_file(path, what, tensors, "a projection", "pretrained_minigpt4.pth or our safetensors")
    form = _Form(
        {name: (prefix + name,) for name in names},
        lambda name: name.rpartition(".")[2] not in BUFFERS,
        advice="choose one that MiniGPT-4 or `minigpt4 train` wrote",
    )
    return _gathered(path, what, tensors, form)


def _vision_form(tensors: Collection[str], ours: Iterable[str], depth: int) -> _Form | None:
    if _any_begins(tensors, "vision_model."):
        sources = {name: (f"vision_model.{name}",) for name in ours}
        return _Form(sources, lambda name: name.startswith("vision_model.") and not _is_unused(name, depth))
    if _any_begins(tensors, "embeddings.", "encoder.layers."):
        return _Form({name: (name,) for name in ours}, lambda name: not _is_unused(name, depth))
    if _any_begins(tensors, "blocks.", "pos_embed"):
        return _Form({name: _eva_names(name) for name in ours}, lambda name: not _is_unused(name, depth))
    return None


def _eva_names(name: str) -> tuple[str, ...]:
    """EVA's names for a tensor of Blip2VisionModel; EVA stores the q, k, v bias as those of q and v."""
    if name in EVA_EMBEDDINGS:
        return (EVA_EMBEDDINGS[name],)
    _, _, index, layer = name.split(".", 3)
    module, _, kind = layer.rpartition(".")
    block = f"blocks.{index}."
    if layer == "self_attn.qkv.bias":
        return (f"{block}attn.q_bias", f"{block}attn.v_bias")
    return (f"{block}{EVA_LAYER[module]}.{kind}",)


def _is_unused(name: str, depth: int) -> bool:
    """Whether a tensor of the ViT is one that MiniGPT-4 does not use: late blocks, final norm, head."""
    name = name.removeprefix("vision_model.")
    block = re.match(r"(?:blocks|encoder\.layers)\.(\d+)\.", name)
    if block is not None:
        return int(block[1]) >= depth
    return name.startswith(("norm.", "fc_norm.", "head.", "post_layernorm."))


def _qformer_form(tensors: Collection[str], ours: Iterable[str]) -> _Form | None:
    if _any_begins(tensors, "Qformer."):
        prefix, names = "Qformer.bert.", {name: (_lavis_name(name),) for name in ours}
    elif _any_begins(tensors, "qformer."):
        prefix, names = "qformer.", {name: (_hub_name(name),) for name in ours}
    elif "query_tokens" in tensors:
        return _Form({name: (name,) for name in ours}, lambda name: True)
    else:
        return None
    # The same file holds other models beside the Q-Former (T5, the ViT), which are ignored.
    return _Form(
        names,
        lambda name: name.startswith(prefix) and not TEXT_BRANCH.fullmatch(name.removeprefix(prefix)),
    )


def _lavis_name(name: str) -> str:
    """The name of one of our Q-Former's tensors in LAVIS, BLIP-2's own code."""
    if name.startswith(("query_tokens", "ln_vision.")):
        return name
    if name.startswith("layernorm."):
        return f"Qformer.bert.embeddings.LayerNorm.{name.rpartition('.')[2]}"
    return "Qformer.bert." + name.replace("attention.attention.", "attention.self.")


def _hub_name(name: str) -> str:
    if name == "query_tokens":
        return name
    if name.startswith("ln_vision."):
        return f"vision_model.post_layernorm.{name.rpartition('.')[2]}"
    return f"qformer.{name}"


def _any_begins(names: Collection[str], *prefixes: str) -> bool:
    return any(name.startswith(prefixes) for name in names)


def _gathered(path: Path, what: str, tensors: Mapping[str, Tensor], form: _Form) -> dict[str, Tensor]:
    """Our tensors from theirs; raises BundleError if some are missing or unknown."""
    wanted = [name for names in form.sources.values() for name in names]
    missing = [name for name in wanted if name not in tensors]
    known = set(wanted)
    extra = [name for name in tensors if name not in known and form.is_ours(name)]
    faults = [
        f"{len(names)} tensor{'s' * (len(names) > 1)} {state} ({_first(names)})"
        for state, names in (("missing", missing), ("not known", extra))
        if names
    ]
    if faults:
        raise BundleError(f"The {what} {path} does not fit: {' and '.join(faults)}; {form.advice}.")
    return {name: _joined([tensors[source] for source in sources]) for name, sources in form.sources.items()}


def _joined(parts: list[Tensor]) -> Tensor:
    if len(parts) == 1:
        return parts[0]
    q, v = parts
    # EVA's keys have no bias: it would cancel in the softmax.
    return torch.cat([q, torch.zeros_like(v), v])


def _check_shapes(
    path: Path, what: str, tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    wrong = [name for name, shape in shapes.items() if tuple(tensors[name].shape) != shape]
    if wrong:
        name = wrong[0]
        raise BundleError(
            f"The {what} {path} has another geometry: its '{name}' has the shape "
            f"{tuple(tensors[name].shape)} and {shapes[name]} is wanted ({len(wrong)} tensors differ so); "
            "correct the options, or give another file."
        )


def _positions(path: Path, table_1ND: Tensor, geometry: ViTGeometry, image_size: int | None) -> Tensor:
    """Position embeddings for `image_size`, interpolated as in the original (`interpolate_pos_embed`)."""
    rows, width = table_1ND.shape[-2:] if table_1ND.ndim == 3 else (0, 0)
    side = round(max(rows - 1, 0) ** 0.5)
    if width != geometry.width or side == 0 or side**2 + 1 != rows:
        raise BundleError(
            f"The vision tower's file {path} has a table of positions of the shape {tuple(table_1ND.shape)}; "
            f"(1, a square number and 1, {geometry.width}) is wanted."
        )
    new_side = side if image_size is None else image_size // geometry.patch
    if new_side == side:
        return table_1ND
    class_11D, patches_1ND = table_1ND.float().tensor_split([1], dim=1)
    grid_1DHW = patches_1ND.reshape(1, side, side, width).permute(0, 3, 1, 2)
    grid_1DHW = F.interpolate(grid_1DHW, size=(new_side, new_side), mode="bicubic", align_corners=False)
    return torch.cat([class_11D, grid_1DHW.flatten(2).transpose(1, 2)], dim=1)


def _wrong_file(path: Path, what: str, names: Collection[str], wanted: str, example: str) -> BundleError:
    return BundleError(
        f"The {what} {path} is {describe(names)}, not {wanted}; give a file such as {example}."
    )


def describe(names: Collection[str]) -> str:
    """The kind of a file, judged by the names of its tensors, as a phrase for a sentence."""
    if _any_begins(names, LLAMA_PROJ):
        return "a MiniGPT-4 checkpoint (a projection)"
    if _any_begins(names, "vision_model.") and _any_begins(names, "qformer."):
        return "BLIP-2 of the hub"
    if _any_begins(names, "Qformer.", "qformer.", "query_tokens"):
        return "a Q-Former's file"
    if _any_begins(names, "blocks.", "embeddings.patch_embedding.", "vision_model."):
        return "a ViT's file"
    if _any_begins(names, "model.layers.", "lm_head.", "model.embed_tokens."):
        return "a language model's file"
    if {"weight", "bias"} <= set(names):
        return "a projection"
    return f"a file of {len(names)} other tensors ({_first(sorted(names))})"


def _first(names: list[str]) -> str:
    more = ", ..." if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
