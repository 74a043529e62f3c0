"""Checks of the parts before the language model: vision tower, Q-Former and projection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from minigpt4.core.bundles.bundle import Bundle, ObjectsSpec, QFormerSpec
from minigpt4.core.bundles.geometry import ClipGeometry
from minigpt4.core.download.fetch import path_of, projection_path
from minigpt4.core.errors import BundleError
from minigpt4.core.verify.checksums import remedy
from minigpt4.core.verify.finding import Check
from minigpt4.core.verify.samples import tensor_samples, weights_check

if TYPE_CHECKING:
    from torch import Tensor


def vision_checks(bundle: Bundle) -> Iterator[Check]:
    """The tower's tensors: names, shapes and samples of their values."""
    yield _weights("vision", _vision_tensors(bundle), bundle)


def qformer_checks(bundle: Bundle, spec: QFormerSpec) -> Iterator[Check]:
    """The Q-Former's tensors, and that its input has the width of the tower's output."""
    from minigpt4.core.weights.released import qformer_tensors

    tensors = qformer_tensors(path_of(spec.file, bundle), spec.options)
    read, given = tensors["ln_vision.weight"].numel(), bundle.vision.options.get("width")
    if read != given:
        raise BundleError(
            f"The Q-Former reads vectors of {read} numbers and the vision tower gives {given}; take both "
            "from the same model."
        )
    yield _weights("qformer", tensors, bundle)


def objects_checks(bundle: Bundle, spec: ObjectsSpec) -> Iterator[Check]:
    """The detector's weights, made from TensorFlow's graph if they are not there yet."""
    from minigpt4.core.vision.detector import load_detector, made_detector

    detector = load_detector(made_detector(path_of(spec.file, bundle), bundle.name))
    yield _weights("objects", detector.network.state_dict(), bundle)


def projection_checks(bundle: Bundle, language_width: int | None) -> Iterator[Check]:
    """The projection's tensors, against the manifest and the existing language model."""
    from minigpt4.core.projection import load_projection

    spec = bundle.projection
    outputs = language_width or spec.outputs
    projection = load_projection(projection_path(bundle), spec.inputs, outputs, spec.layers)
    yield _weights("projection", projection.named_tensors(), bundle)


def _vision_tensors(bundle: Bundle) -> Mapping[str, Tensor]:
    from minigpt4.core.weights.read_tensors import read_tensors

    spec = bundle.vision
    path = path_of(spec.file, bundle)
    if spec.architecture == "eva-vit-g":
        from minigpt4.core.weights.released import vision_tensors

        return vision_tensors(path, spec.options, spec.image_size)
    if spec.architecture == "clip-vit":
        from minigpt4.core.vision.clip import clip_tensors

        return clip_tensors(path, ClipGeometry.parse(spec.options, bundle.name), spec.image_size)
    from minigpt4.core.vision.tower import load_tower

    load_tower(bundle)  # mini's takes 0.1 s, and checks the names of its tensors
    return read_tensors(path, what="vision tower's file")


def _weights(subject: str, tensors: Mapping[str, Tensor], bundle: Bundle) -> Check:
    return weights_check(subject, list(tensor_samples(tensors)), remedy(bundle))
