"""The sizes of a ViT and a Q-Former to be imported, from a JSON file in the original's configuration.

{"vision": {"embed_dim", "depth", "num_heads", "mlp_ratio", "img_size", "patch_size"},
"qformer": {"hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
"num_query_tokens", "cross_attention_freq"}}. Other keys are ignored, unless their value is one that
the code here does not support, which is an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from functools import partial
from operator import eq
from pathlib import Path
from typing import Any

from minigpt4.core.bundles.geometry import QFormerGeometry, ViTGeometry
from minigpt4.core.errors import BundleError
from minigpt4.core.storage.dataclass_toml import InvalidValueError, bounded, checked_by, read
from minigpt4.core.storage.regular_file import read_regular_file


@dataclass(frozen=True, kw_only=True)
class TowerGeometry:
    """The sizes of a ViT and a Q-Former, and the side of an image in pixels."""

    image_size: int
    vision: ViTGeometry
    qformer: QFormerGeometry | None

    @property
    def image_tokens(self) -> int:
        """N of the projection's inputs."""
        if self.qformer is not None:
            return self.qformer.queries
        return (self.vision.positions(self.image_size) - 1) // self.vision.patches_joined

    @property
    def width(self) -> int:
        """D of the projection's inputs."""
        if self.qformer is not None:
            return self.qformer.width
        return self.vision.width * self.vision.patches_joined


def read_geometry(path: Path, *, patches_joined: int | None) -> TowerGeometry:
    """The geometry in a JSON file; it has no Q-Former if `patches_joined` is a number.

    Raises BundleError naming the file and the key that is missing, of the wrong type or impossible.
    """
    table = _json(path)
    if patches_joined is not None:
        table.pop("qformer", None)
    try:
        found = read(_Geometry, table, strict=False)
        size, vision = found.vision.img_size, found.vision.geometry(patches_joined or 1)
        if patches_joined is None and found.qformer is None:
            raise InvalidValueError("qformer", "is missing")
        if (patches := vision.positions(size) - 1) % vision.patches_joined:
            raise InvalidValueError(
                "vision.img_size",
                f"gives {patches} patches, which cannot be joined {patches_joined} by {patches_joined}",
            )
    except InvalidValueError as problem:
        raise BundleError(f"{path}: {problem}") from problem
    qformer = found.qformer.geometry() if found.qformer else None
    return TowerGeometry(image_size=size, vision=vision, qformer=qformer)


def _called(key: str) -> Any:
    return field(metadata={"key": key, "least": 1})


def _only(value: float | str) -> Any:
    return checked_by(partial(eq, value), f"{value}, the only value supported", default=value)


@dataclass(frozen=True, kw_only=True)
class _Vision:
    embed_dim: int = bounded(1)
    depth: int = bounded(1)
    num_heads: int = bounded(1)
    mlp_ratio: float = bounded(1e-3, 1e3)
    img_size: int = bounded(1)
    patch_size: int = bounded(1)

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """A side that does not consist of whole patches."""
        if self.img_size % self.patch_size:
            yield "img_size", f"is {self.img_size}; it must be a multiple of 'patch_size'"

    def geometry(self, patches_joined: int) -> ViTGeometry:
        return ViTGeometry(
            width=self.embed_dim,
            depth=self.depth,
            heads=self.num_heads,
            mlp=int(self.embed_dim * self.mlp_ratio),
            patch=self.patch_size,
            patches_joined=patches_joined,
        )


@dataclass(frozen=True, kw_only=True)
class _QFormer(QFormerGeometry):
    """The Q-Former's sizes under the names of LAVIS's extended BertConfig."""

    queries: int = _called("num_query_tokens")
    width: int = _called("hidden_size")
    layers: int = _called("num_hidden_layers")
    heads: int = _called("num_attention_heads")
    mlp: int = _called("intermediate_size")
    cross_attention_every: int = _called("cross_attention_freq")
    encoder_width: int | None = bounded(1, default=None)
    layer_norm_eps: float = _only(1e-12)
    hidden_act: str = _only("gelu")

    def geometry(self) -> QFormerGeometry:
        return QFormerGeometry(**{entry.name: getattr(self, entry.name) for entry in fields(QFormerGeometry)})


@dataclass(frozen=True, kw_only=True)
class _Geometry:
    vision: _Vision
    qformer: _QFormer | None = None
    ln_vision_eps: float = _only(1e-5)

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """A Q-Former for the tokens of another ViT."""
        read_width = self.qformer.encoder_width if self.qformer else None
        if read_width not in (None, self.vision.embed_dim):
            other = f"'vision.embed_dim' is {self.vision.embed_dim}"
            yield "qformer.encoder_width", f"is {read_width}, but {other}; they must agree"


def _json(path: Path) -> dict[str, object]:
    try:
        values = json.loads(read_regular_file(path))
    except OSError as error:
        raise BundleError(f"The geometry {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise BundleError(f"The geometry {path} is not JSON: {error}.") from error
    if not isinstance(values, dict):
        raise BundleError(f"The geometry {path} is not a JSON table; it needs 'vision' and 'qformer'.")
    return values
