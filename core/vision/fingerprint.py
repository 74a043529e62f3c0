"""What names a vision tower's behaviour, without loading it."""

from __future__ import annotations

import hashlib
import json

from minigpt4.core.bundle import VisionSpec


def tower_fingerprint(spec: VisionSpec) -> str:
    """Equal for two towers only if they give equal features for equal pixels; needs no file."""
    facts = [spec.architecture, spec.file.sha256, spec.image_size, spec.mean, spec.std]
    text = json.dumps([*facts, dict(sorted(spec.options.items()))])
    return hashlib.sha256(text.encode()).hexdigest()
