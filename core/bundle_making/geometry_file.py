"""The widths of a ViT and a Q-Former whose weights are imported: the released ones, or a JSON file's.

The file has the words of the original's configurations:
{"vision": {"embed_dim", "depth", "num_heads", "mlp_ratio", "img_size", "patch_size"},
"qformer": {"hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
"num_query_tokens", "cross_attention_freq"}}. Other keys are notes, except those of NUMBERS_KEPT.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from minigpt4.core.bundles.bundle import Scalar
from minigpt4.core.bundles.manifest import Table
from minigpt4.core.errors import BundleError

QFORMER_KEYS = {
    "queries": "num_query_tokens",
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "mlp": "intermediate_size",
    "cross_attention_every": "cross_attention_freq",
}
"""Our name of an option, and BertConfig's as LAVIS extends it."""

NUMBERS_KEPT = {"ln_vision_eps": 1e-5, "layer_norm_eps": 1e-12, "hidden_act": "gelu"}
"""What the code here computes with whatever the file says, so that it may say nothing else."""


@dataclass(frozen=True, kw_only=True)
class TowerGeometry:
    """Options of the manifest's [vision] and [qformer], and the side of a picture in pixels."""

    image_size: int
    vision: Mapping[str, Scalar]
    qformer: Mapping[str, Scalar] | None

    @property
    def image_tokens(self) -> int:
        """N of what the projection reads."""
        if self.qformer is not None:
            return int(self.qformer["queries"])
        patches = (self.image_size // int(self.vision["patch"])) ** 2
        return patches // int(self.vision["patches_joined"])

    @property
    def width(self) -> int:
        """D of what the projection reads."""
        if self.qformer is not None:
            return int(self.qformer["width"])
        return int(self.vision["width"]) * int(self.vision["patches_joined"])


def read_geometry(path: Path, *, patches_joined: int | None) -> TowerGeometry:
    """The geometry in a JSON file; its Q-Former is left out where `patches_joined` is a number.

    Raises BundleError naming file and key where one is missing, ill-typed or impossible.
    """
    top = Table(_json(path), path)
    vision = top.table("vision")
    width = vision.integer("embed_dim", least=1)
    options: dict[str, Scalar] = {
        "width": width,
        "depth": vision.integer("depth", least=1),
        "heads": vision.integer("num_heads", least=1),
        "mlp": int(width * vision.number("mlp_ratio", least=1e-3, most=1e3)),
        "patch": vision.integer("patch_size", least=1),
    }
    image_size = vision.integer("img_size", least=1)
    if image_size % int(options["patch"]):
        raise vision.error("img_size", f"is {image_size}; it must be a multiple of 'patch_size'")
    _check_kept(top)
    if patches_joined is not None:
        patches = (image_size // int(options["patch"])) ** 2
        if patches % patches_joined:
            raise vision.error(
                "img_size",
                f"gives {patches} patches, which cannot be joined {patches_joined} by {patches_joined}",
            )
        joined = options | {"patches_joined": patches_joined}
        return TowerGeometry(image_size=image_size, vision=joined, qformer=None)
    qformer = top.table("qformer")
    _check_kept(qformer)
    if qformer.has("encoder_width") and (read := qformer.integer("encoder_width", least=1)) != width:
        raise qformer.error("encoder_width", f"is {read}, but 'vision.embed_dim' is {width}; they must agree")
    theirs = {ours: qformer.integer(key, least=1) for ours, key in QFORMER_KEYS.items()}
    return TowerGeometry(image_size=image_size, vision=options, qformer=theirs)


def _check_kept(table: Table) -> None:
    for key, kept in NUMBERS_KEPT.items():
        if not table.has(key):
            continue
        if isinstance(kept, str):
            found: float | str = table.text(key)
        else:
            found = table.number(key, least=0.0, most=1.0)
        if found != kept:
            raise table.error(key, f"is {found}; only {kept} can be computed with")


def _json(path: Path) -> dict[str, object]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(f"The geometry {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise BundleError(f"The geometry {path} is not JSON: {error}.") from error
    if not isinstance(values, dict):
        raise BundleError(f"The geometry {path} is not a JSON table; it needs 'vision' and 'qformer'.")
    return values
