"""What a run records about the model and the program that answered; it resumes only with the same."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

from minigpt4 import __version__

if TYPE_CHECKING:
    from minigpt4.core.bundles.bundle import Bundle
    from minigpt4.core.engine_options import EngineOptions

LIBRARIES = {
    "torch": ["torch"],
    "llamacpp": ["llama-cpp-python"],
    "transformers": ["torch", "transformers"],
}
"""The libraries that generate answers, by backend."""


def bundle_identity(options: EngineOptions) -> dict[str, str]:
    """The bundle, what encodes pictures, and how the language model runs. Needs the bundle's files."""
    from minigpt4.core.language.load import choices_made

    bundle = options.loaded_bundle()
    choices = choices_made(options)
    return {
        "bundle": bundle.name,
        "embedding": _encoder_identity(options, bundle),
        "backend": choices["backend"],
        "device": choices["device"].partition(":")[0],  # which GPU makes no difference
        "quant": choices["quant"],
    }


def _encoder_identity(options: EngineOptions, bundle: Bundle) -> str:
    if bundle.mmproj is not None:
        from minigpt4.core.mtmd.encoder import mmproj_fingerprint
        from minigpt4.core.weights.locate import language_digest

        return mmproj_fingerprint(bundle, [language_digest(bundle)], options.image_tokens)
    from minigpt4.core.download.fetch import projection_path
    from minigpt4.core.dtypes import AUTO
    from minigpt4.core.embedding_cache import embedding_fingerprint

    projection = options.projection or projection_path(bundle)
    return embedding_fingerprint(bundle, projection, options.dtype or AUTO)


def versions(backend: str) -> dict[str, str]:
    """The versions of this program and of the libraries that generate answers."""
    libraries = LIBRARIES.get(backend, [])
    return {"minigpt4": __version__} | {name: importlib.metadata.version(name) for name in libraries}
