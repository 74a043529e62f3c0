"""An identifier of a vision tower's behaviour, without loading it."""

from __future__ import annotations

import hashlib
import json

from minigpt4.core.bundles.bundle import Bundle, ObjectsSpec
from minigpt4.core.bundles.source import File
from minigpt4.core.download.fetch import digest_of
from minigpt4.core.dtypes import AUTO, default_dtype, dtype_for
from minigpt4.core.errors import BundleError

CODE_VERSION = 1
"""To be raised whenever `pixels.py` or the code of this folder gives other features of the same picture.

The caches of image embeddings and of training features cannot detect such a change themselves;
both are computed again when this number changes. A change that only pictures with a color profile see
raises `PIXELS_VERSION` (pixels.py) instead, and leaves the embeddings of all others cached.
"""

OBJECTS_VERSION = 5
"""The same for the vectors of a detector's objects, which only bundles with one have."""

FLOAT32_ONLY = ("efficientnet-lite2",)
"""Architectures whose features are the same whatever type was asked for."""


def tower_fingerprint(bundle: Bundle, dtype: str = AUTO) -> str:
    """Equal for two towers only if they give equal features for equal pictures; torch is not needed.

    Covers the Q-Former and, if the tower has a choice, the float type; "auto" counts as itself and
    its type on this CPU, so a GPU's float16 shares its entries.
    Raises BundleError if a file's checksum is known neither from the manifest nor from the file.
    """
    spec, qformer = bundle.vision, bundle.qformer
    parts: list[object] = [CODE_VERSION, spec.architecture, _digest(spec.file, bundle)]
    parts += [spec.image_size, spec.mean, spec.std, dict(sorted(spec.options.items()))]
    if spec.architecture not in FLOAT32_ONLY:
        parts.append(f"{AUTO} {default_dtype('cpu')}" if dtype == AUTO else dtype_for(dtype, "cpu"))
    if spec.fit != "squashed":
        parts.append(spec.fit)
    if (objects := bundle.objects) is not None:
        parts += [*_detector_parts(objects, bundle), objects.limit, objects.min_score]
        parts.append(objects.soft_prompt)
    if qformer is not None:
        parts += [_digest(qformer.file, bundle), dict(sorted(vars(qformer.options).items()))]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def detector_fingerprint(objects: ObjectsSpec, bundle: Bundle) -> str:
    """Equal for two detectors only if they find the same in equal pictures; raises as `tower_fingerprint`."""
    parts = [*_detector_parts(objects, bundle), bundle.vision.image_size]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _detector_parts(objects: ObjectsSpec, bundle: Bundle) -> list[object]:
    return [OBJECTS_VERSION, objects.architecture, _digest(objects.file, bundle)]


def _digest(file: File, bundle: Bundle) -> str:
    digest = digest_of(file, bundle)
    if digest is None:
        raise BundleError(
            f"The vision tower's {file.name} is not here yet, so its features cannot be identified; "
            f"fetch it with `minigpt4 models pull {bundle.name}`."
        )
    return digest
