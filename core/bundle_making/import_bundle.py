"""A user bundle from the files that MiniGPT-4's authors released, or from others in the same form.

The ViT, the Q-Former and the projection are written as our own safetensors into the bundle's folder;
the language model, by far the largest, is used in place. Nothing appears before everything is verified.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from minigpt4.core.bundle_making.geometry_file import TowerGeometry, read_geometry
from minigpt4.core.bundle_making.new_files import Parts, check_apart, language_geometry, new_bundle
from minigpt4.core.bundle_making.new_name import check_name
from minigpt4.core.bundles.bundle import (
    Bundle,
    ProjectionSpec,
    QFormerSpec,
    load_bundle,
)
from minigpt4.core.bundles.geometry import ViTGeometry
from minigpt4.core.bundles.source import File
from minigpt4.core.download.fetch import Progress
from minigpt4.core.errors import BundleError, UsageError
from minigpt4.core.projection import load_projection
from minigpt4.core.storage.dataclass_toml import plain
from minigpt4.core.text import suggestion
from minigpt4.core.weights.gguf.writer import LlamaShape
from minigpt4.core.weights.hf_folder import LlamaFolder
from minigpt4.core.weights.released import projection_tensors, qformer_tensors, vision_tensors
from minigpt4.core.weights.sentencepiece_vocab import folder_vocabulary

IMPORT_TEMPLATES = ("vicuna-v0", "llama2")
"""The prompt forms that MiniGPT-4's releases were trained with."""

RELEASED = "minigpt4-vicuna-7b"
RELEASED_WITHOUT_QFORMER = "minigpt4-llama2-7b"
"""The shipped bundles whose widths, picture statistics, context and sampling apply by default."""

VISION, QFORMER, PROJECTION = "vision.safetensors", "qformer.safetensors", "projection.safetensors"


@dataclass(frozen=True, kw_only=True)
class Originals:
    """The files to make a bundle from; `qformer` is None for the form without a Q-Former.

    `vit` and `qformer` are the original's checkpoints, safetensors of ours, or the hub's BLIP-2
    (its folder, index or file); `geometry` is a JSON file for other widths than the released ones.
    """

    vit: Path
    qformer: Path | None
    projection: Path
    llm: Path
    template: str
    geometry: Path | None = None


def import_bundle(
    name: str, originals: Originals, *, force: bool = False, progress: Progress | None = None
) -> Bundle:
    """Make the user bundle `name`; `force` replaces an existing user bundle of this name.

    Raises UsageError for an invalid name or an unknown template, BundleError if a file is of another
    kind or does not fit the others, BackendError if the disk is too small.
    """
    check_name(name, force=force)
    _check_template(originals.template)
    released = load_bundle(RELEASED if originals.qformer else RELEASED_WITHOUT_QFORMER)
    geometry = _geometry(originals, released)
    originals = replace(originals, llm=originals.llm.expanduser().absolute())
    check_apart(name, originals.llm)
    shape = _language_shape(originals.llm)
    parts = _parts(originals, geometry, shape.width)
    layers = len(parts[PROJECTION]) // 2

    def bundle_of(files: Mapping[str, File]) -> Bundle:
        return _bundle(name, originals, released, geometry, shape, layers, files)

    return new_bundle(name, parts, bundle_of, progress)


def _check_template(template: str) -> None:
    if template not in IMPORT_TEMPLATES:
        advice = suggestion(template, IMPORT_TEMPLATES)
        raise UsageError(f"There is no prompt template '{template}' for MiniGPT-4; {advice}")


def _geometry(originals: Originals, released: Bundle) -> TowerGeometry:
    vision = released.vision
    if originals.geometry is None:
        qformer = released.qformer.options if released.qformer else None
        vit = ViTGeometry.parse(vision.options)
        return TowerGeometry(image_size=vision.image_size, vision=vit, qformer=qformer)
    joined = None if originals.qformer else ViTGeometry.parse(vision.options).patches_joined
    return read_geometry(originals.geometry.expanduser(), patches_joined=joined)


def _language_shape(llm: Path) -> LlamaShape:
    """The language model's sizes; also checks its files and its vocabulary."""
    if not llm.is_dir():
        fault = "is a file" if llm.exists() else "is not there"
        raise BundleError(f"{llm} {fault}; --llm takes the Hugging Face folder of a LLaMA model.")
    shape = LlamaFolder(llm).shape
    folder_vocabulary(llm, shape.vocabulary)
    return shape


def _parts(originals: Originals, geometry: TowerGeometry, width: int) -> Parts:
    """All tensors, mapped and not read, checked against the geometry and against each other."""
    projection = originals.projection.expanduser()
    layers = len(projection_tensors(projection)) // 2
    loaded = load_projection(projection, geometry.width, width, layers)
    vision = vision_tensors(originals.vit.expanduser(), plain(geometry.vision), geometry.image_size)
    parts: Parts = {VISION: vision}
    if originals.qformer is not None and geometry.qformer is not None:
        qformer = qformer_tensors(originals.qformer.expanduser(), geometry.qformer)
        width = qformer["ln_vision.weight"].numel()
        if width != geometry.vision.width:
            raise BundleError(
                f"The Q-Former's file {originals.qformer} reads vectors of {width} numbers and the vision "
                f"tower gives {geometry.vision.width}; take both from the same model."
            )
        parts[QFORMER] = qformer
    return parts | {PROJECTION: loaded.named_tensors()}


def _bundle(
    name: str,
    originals: Originals,
    released: Bundle,
    geometry: TowerGeometry,
    shape: LlamaShape,
    layers: int,
    files: Mapping[str, File],
) -> Bundle:
    return replace(
        released,
        name=name,
        summary=f"MiniGPT-4 with {originals.projection.name} and the language model in {originals.llm.name}",
        license="that of the imported files",
        vision=replace(
            released.vision,
            file=files[VISION],
            image_size=geometry.image_size,
            options=plain(geometry.vision),
        ),
        qformer=QFormerSpec(files[QFORMER], geometry.qformer) if geometry.qformer else None,
        projection=ProjectionSpec(
            None, files[PROJECTION], geometry.width, shape.width, geometry.image_tokens, layers
        ),
        language=replace(
            released.language,
            context=min(released.language.context, shape.context),
            width=shape.width,
            files=(),
            folder=originals.llm,
            geometry=language_geometry(shape),
        ),
        template=originals.template,
    )
