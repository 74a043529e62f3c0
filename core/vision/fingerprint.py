"""What names a vision tower's behaviour, without loading it."""

from __future__ import annotations

import hashlib
import json

from minigpt4.core.bundle import VisionSpec

CODE_VERSION = 1
"""To be raised whenever `pixels.py` or the code of this folder gives other features of the same picture.

It is the one thing that the caches of image embeddings and of training features cannot see for
themselves; both are made anew when it changes.
"""


def tower_fingerprint(spec: VisionSpec) -> str:
    """Equal for two towers only if they give equal features for equal pictures; needs no file."""
    facts = [CODE_VERSION, spec.architecture, spec.file.sha256, spec.image_size, spec.mean, spec.std]
    text = json.dumps([*facts, dict(sorted(spec.options.items()))])
    return hashlib.sha256(text.encode()).hexdigest()
