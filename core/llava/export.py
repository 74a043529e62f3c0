"""A bundle's tower with a trained projection as an mmproj GGUF, for llama.cpp and programs that use it."""

from __future__ import annotations

from pathlib import Path

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.bundles.geometry import ClipGeometry
from minigpt4.core.download.fetch import path_of, projection_path
from minigpt4.core.errors import BackendError, BundleError
from minigpt4.core.llava.mmproj_writer import write_mmproj
from minigpt4.core.projection import load_projection
from minigpt4.core.vision.clip import clip_tensors
from minigpt4.core.weights.run_projection import run_projection


def export_mmproj(bundle: Bundle, target: Path, projection: Path | None = None) -> None:
    """Write the bundle's tower and projection, or the `projection` of a run, to `target`.

    Raises BundleError for a bundle of another form and for files that do not fit, BackendError if the file
    cannot be written.
    """
    vision, spec = bundle.vision, bundle.projection
    if vision.architecture != "clip-vit" or vision.fit != "letterboxed":
        raise BundleError(
            f"The bundle '{bundle.name}' has a tower '{vision.architecture}', for which llama.cpp has no "
            "form; an mmproj is made of LLaVA's, see `minigpt4 models import --llava`."
        )
    geometry = ClipGeometry.parse(vision.options, bundle.name)
    path = run_projection(projection).file if projection else projection_path(bundle)
    trained = load_projection(path, spec.inputs, spec.outputs, spec.layers)
    tensors = clip_tensors(path_of(vision.file, bundle), geometry, vision.image_size)
    try:
        write_mmproj(
            target,
            tensors,
            trained,
            geometry,
            image_size=vision.image_size,
            mean=vision.mean,
            std=vision.std,
            name=bundle.name,
        )
    except OSError as error:
        raise BackendError(f"{target} cannot be written: {error.strerror or error}.") from error
