"""The projection of a training run for `--projection`: its result or newest checkpoint, and its form.

A run may have another form than its bundle: three layers, no Q-Former, or its own Q-Former (the
paper's ablations). The recipe.toml next to each of its projections states it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.bundles.geometry import PATCHES_JOINED, ViTGeometry
from minigpt4.core.bundles.source import File
from minigpt4.core.download.checksum_note import sha256_of
from minigpt4.core.errors import BundleError, UsageError

PROJECTION, QFORMER, RECIPE, CHECKPOINTS = (
    "projection.safetensors",
    "qformer.safetensors",
    "recipe.toml",
    "checkpoints",
)
LAYERS, QFORMER_USES = (0, 1, 3), ("frozen", "none", "trained")

JOINED_WITHOUT_QFORMER = 4
"""Neighbouring patches that become one token without a Q-Former, as in the LLaMA-2 release."""


@dataclass(frozen=True)
class RunProjection:
    """A projection, and what is known about the run that trained it."""

    file: Path
    bundle: str = ""
    """The name of the bundle that it was trained for; empty if unknown."""

    layers: int = 0
    """Its linear layers; 0: as many as the bundle has."""

    qformer: str = "frozen"
    """`frozen`: the bundle's. `none`: omitted. `trained`: the one beside `file`."""

    step: int | None = None
    """The checkpoint's step, if the run has no result yet."""

    def fitted(self, bundle: Bundle) -> Bundle:
        """The bundle in the form that the projection was trained with.

        Raises BundleError if the Q-Former that was trained with it is missing, or if the bundle has none
        to replace.
        """
        shaped = reshaped(bundle, self.layers, self.qformer)
        if self.qformer != "trained":
            return shaped
        if shaped.qformer is None:
            raise BundleError(
                f"The projection {self.file} was trained together with a Q-Former, and the bundle "
                f"'{bundle.name}' has none; give --bundle {self.bundle or 'NAME'}."
            )
        own = (self.file.parent / QFORMER).absolute()
        if not own.is_file():
            raise BundleError(
                f"The projection {self.file} was trained together with its Q-Former, and there is no "
                f"{QFORMER} beside it; bring that file back, or give the folder of another checkpoint."
            )
        # An absolute name: this file is used in place. Its checksum is computed, because one noted for
        # another file of that name would select that file's cached image embeddings.
        file = File(name=str(own), bytes=own.stat().st_size, sha256=sha256_of(own), sources=())
        return replace(shaped, qformer=replace(shaped.qformer, file=file))


def run_projection(given: Path) -> RunProjection:
    """The projection that a path names: a file, the folder of a run, or of one of its checkpoints.

    For an unfinished run, it is that of the newest checkpoint. Raises UsageError if a folder has none,
    BundleError if the recipe beside it cannot be read. A file is not opened.
    """
    file, step = given, None
    if given.is_dir():
        file = given / PROJECTION
        if not file.is_file():
            file, step = _newest(given)
    recipe = _recipe(file.parent / RECIPE) if file.name == PROJECTION else {}
    bundle, layers, qformer = (
        recipe.get("bundle", ""),
        recipe.get("layers", 0),
        recipe.get("qformer", "frozen"),
    )
    if not isinstance(bundle, str) or layers not in LAYERS or qformer not in QFORMER_USES:
        raise BundleError(
            f"The recipe {file.parent / RECIPE} beside the projection is not one of this version "
            f"(bundle {bundle!r}, layers {layers!r}, qformer {qformer!r}); give the projection from a folder "
            "of its own to use it as the bundle is."
        )
    return RunProjection(file, bundle, int(layers), str(qformer), step)


def reshaped(bundle: Bundle, layers: int, qformer: str) -> Bundle:
    """The bundle with a projection of `layers` layers (0: its own), and for "none" without its Q-Former.

    Without a Q-Former the tower joins four neighbouring patches, as in the LLaMA-2 release.
    """
    projection = replace(bundle.projection, layers=layers or bundle.projection.layers)
    if qformer != "none" or bundle.qformer is None:
        return replace(bundle, projection=projection)
    vision = replace(bundle.vision, options={**bundle.vision.options, PATCHES_JOINED: JOINED_WITHOUT_QFORMER})
    geometry = ViTGeometry.parse(vision.options, bundle.name)
    projection = replace(
        projection,
        inputs=geometry.width * JOINED_WITHOUT_QFORMER,
        image_tokens=(geometry.positions(vision.image_size) - 1) // JOINED_WITHOUT_QFORMER,
    )
    return replace(bundle, vision=vision, qformer=None, projection=projection)


def checkpoint_folders(run: Path) -> list[Path]:
    """The checkpoints of a run's folder, the oldest first; each is named after its step."""
    found = [place for place in (run / CHECKPOINTS).glob("*") if place.name.isdigit()]
    return sorted(found, key=lambda place: int(place.name))


def _newest(run: Path) -> tuple[Path, int]:
    """The newest complete checkpoint's projection, and its step."""
    for place in reversed(checkpoint_folders(run)):
        if (place / PROJECTION).is_file():
            return place / PROJECTION, int(place.name)
    raise UsageError(
        f"The folder {run} holds no {PROJECTION} and no whole checkpoint; give the folder of a training run "
        "or of one of its checkpoints, or a file."
    )


def _recipe(path: Path) -> Mapping[str, object]:
    """The recipe's keys; empty without a recipe."""
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BundleError(f"The recipe {path} beside the projection cannot be read: {error}.") from error
