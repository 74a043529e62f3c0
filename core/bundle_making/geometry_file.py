"""The widths of a ViT and a Q-Former whose weights are imported: the released ones, or a JSON file's.

The file has the words of the original's configurations:
{"vision": {"embed_dim", "depth", "num_heads", "mlp_ratio", "img_size", "patch_size"},
"qformer": {"hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
"num_query_tokens", "cross_attention_freq"}}. Other keys are notes, except those of NUMBERS_KEPT.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from minigpt4.core.bundles.bundle import Scalar
from minigpt4.core.errors import BundleError
from minigpt4.core.storage.dataclass_toml import InvalidValueError, as_written, bounded, read

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
    """The geometry in a JSON file; it has no Q-Former if `patches_joined` is a number.

    Raises BundleError naming file and key where one is missing, ill-typed or impossible.
    """
    table = _json(path)
    try:
        found = read(_Geometry, table, strict=False)
        return _tower(found, table, patches_joined)
    except InvalidValueError as problem:
        raise BundleError(f"{path}: {problem}") from problem


@dataclass(frozen=True, kw_only=True)
class _Vision:
    embed_dim: int = bounded(1)
    depth: int = bounded(1)
    num_heads: int = bounded(1)
    mlp_ratio: float = bounded(1e-3, 1e3)
    img_size: int = bounded(1)
    patch_size: int = bounded(1)

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """A side that is not made of whole patches."""
        if self.img_size % self.patch_size:
            yield "img_size", f"is {self.img_size}; it must be a multiple of 'patch_size'"


@dataclass(frozen=True, kw_only=True)
class _QFormer:
    num_query_tokens: int = bounded(1)
    hidden_size: int = bounded(1)
    num_hidden_layers: int = bounded(1)
    num_attention_heads: int = bounded(1)
    intermediate_size: int = bounded(1)
    cross_attention_freq: int = bounded(1)
    encoder_width: int | None = bounded(1, default=None)


@dataclass(frozen=True, kw_only=True)
class _Geometry:
    vision: _Vision


def _tower(found: _Geometry, table: Mapping[str, object], patches_joined: int | None) -> TowerGeometry:
    vision = found.vision
    options: dict[str, Scalar] = {
        "width": vision.embed_dim,
        "depth": vision.depth,
        "heads": vision.num_heads,
        "mlp": int(vision.embed_dim * vision.mlp_ratio),
        "patch": vision.patch_size,
    }
    _check_kept(table, "")
    if patches_joined is not None:
        patches = (vision.img_size // vision.patch_size) ** 2
        if patches % patches_joined:
            raise InvalidValueError(
                "vision.img_size",
                f"gives {patches} patches, which cannot be joined {patches_joined} by {patches_joined}",
            )
        joined = options | {"patches_joined": patches_joined}
        return TowerGeometry(image_size=vision.img_size, vision=joined, qformer=None)
    if "qformer" not in table:
        raise InvalidValueError("qformer", "is missing")
    qformer = read(_QFormer, table["qformer"], "qformer.", strict=False)
    assert isinstance(table["qformer"], Mapping)
    _check_kept(table["qformer"], "qformer.")
    if qformer.encoder_width not in (None, vision.embed_dim):
        raise InvalidValueError(
            "qformer.encoder_width",
            f"is {qformer.encoder_width}, but 'vision.embed_dim' is {vision.embed_dim}; they must agree",
        )
    theirs = {ours: getattr(qformer, key) for ours, key in QFORMER_KEYS.items()}
    return TowerGeometry(image_size=vision.img_size, vision=options, qformer=theirs)


def _check_kept(table: Mapping[str, object], prefix: str) -> None:
    for key, kept in NUMBERS_KEPT.items():
        if table.get(key, kept) != kept:
            raise InvalidValueError(
                f"{prefix}{key}", f"is {as_written(table[key])}; only {kept} can be computed with"
            )


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
