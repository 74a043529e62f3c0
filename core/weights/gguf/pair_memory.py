"""The memory that a bundle of two GGUF files needs, from their headers or from the manifest."""

from __future__ import annotations

from pathlib import Path

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.errors import BundleError
from minigpt4.core.weights.gguf.facts import language_facts
from minigpt4.core.weights.gguf.writer import BITS_PER_WEIGHT
from minigpt4.core.weights.locate import choose_gguf, gguf_quant, mmproj_path

HALF_BYTES = 2
"""Bytes of a number in the key/value cache."""


def pair_memory(bundle: Bundle, quant: str, context: int) -> dict[str, int]:
    """Bytes by part; empty if sizes are not known yet.

    For a quantisation other than the file's own, the language model's size is an estimate.
    """
    found = choose_gguf(bundle)
    if found is None:
        return _from_manifest(bundle, context)
    try:
        facts = language_facts(found)
    except BundleError:  # loading the model reports it; here the sizes are just unknown
        return {}
    size = facts.bytes
    if quant in BITS_PER_WEIGHT and quant != gguf_quant(found.name):
        size = int(facts.weights * BITS_PER_WEIGHT[quant] / 8)
    return {
        "vision side": _size(mmproj_path(bundle)) or (_stated(bundle) or 0),
        "language model": size,
        "key/value cache": facts.cache_bytes(context, HALF_BYTES),
    }


def pair_quants(bundle: Bundle) -> tuple[str, ...]:
    """The quantisation of the bundle's own file."""
    found = choose_gguf(bundle)
    own = bundle.language.gguf
    name = found.name if found is not None else own.name if own is not None else ""
    return (gguf_quant(name),)


def smaller_quants(bundle: Bundle) -> tuple[str, ...]:
    """Common quantisations other than the bundle's, the finest first."""
    return tuple(quant for quant in ("Q8_0", "Q5_K_M", "Q4_K_M", "Q4_0") if quant not in pair_quants(bundle))


def _from_manifest(bundle: Bundle, context: int) -> dict[str, int]:
    """`pair_memory` before the files are fetched; without the cache if the manifest states no geometry."""
    language, geometry = bundle.language, bundle.language.geometry
    sizes = [file.bytes for file in language.files]
    vision = _stated(bundle)
    if vision is None or not sizes or None in sizes:
        return {}
    parts = {"vision side": vision, "language model": sum(size for size in sizes if size is not None)}
    if geometry is not None:
        width = language.width * geometry.key_value_heads // geometry.heads
        parts["key/value cache"] = 2 * geometry.layers * width * context * HALF_BYTES
    return parts


def _stated(bundle: Bundle) -> int | None:
    file = bundle.mmproj.file if bundle.mmproj else None
    return file.bytes if file else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
