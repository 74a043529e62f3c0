"""Whether a bundle's files exist, with the right size and checksum."""

from __future__ import annotations

from collections.abc import Iterator

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.bundles.source import File
from minigpt4.core.download.checksum_note import read_note
from minigpt4.core.download.fetch import is_whole, known_bytes, path_of
from minigpt4.core.download.sources import size_text
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.language.load import needed_files
from minigpt4.core.verify.finding import Check

QUICK_BYTES = 3 << 30
"""Bytes read for checksums without --deep: all files except those of a large language model."""


def file_checks(bundle: Bundle, *, all_checksums: bool) -> Iterator[Check]:
    """One check for each file, in the order of the parts."""
    left = QUICK_BYTES
    needed = needed_files(EngineOptions(bundle))
    for file in bundle.files:
        path = path_of(file, bundle)
        if file not in needed and not path.exists():
            yield Check(file.name, "ok", "missing but not needed: llama.cpp reads the GGUF made from it.")
            continue
        size = path.stat().st_size if path.is_file() else 0
        is_quick = size <= left
        left -= size if is_quick else 0
        yield _file_check(file, bundle, with_checksum=all_checksums or is_quick)


def _file_check(file: File, bundle: Bundle, *, with_checksum: bool) -> Check:
    path = path_of(file, bundle)
    if not path.is_file():
        return Check(file.name, "problem", f"{path} is missing; {remedy(bundle)}.")
    size, wanted = path.stat().st_size, known_bytes(file, bundle)
    if wanted is not None and size != wanted:
        return Check(
            file.name,
            "problem",
            f"{path} has {size} of {wanted} bytes: it is truncated or another file; {remedy(bundle)}.",
        )
    if file.sha256 is None and read_note(path) is None:
        return Check(file.name, "ok", f"{size_text(size)}; its checksum has not been published.")
    if not with_checksum:
        return Check(file.name, "ok", f"{size_text(size)}, the right size; --deep verifies its checksum.")
    if not is_whole(file, bundle):
        return Check(file.name, "problem", f"{path} has another SHA-256 than it should; {remedy(bundle)}.")
    return Check(file.name, "ok", f"{size_text(size)}, the right SHA-256.")


def remedy(bundle: Bundle) -> str:
    """How to get the bundle's files again, as the end of a sentence."""
    if any(file.sources for file in bundle.files):
        return f"fetch it again with `minigpt4 models pull {bundle.name}`"
    return "create the bundle again (`minigpt4 models import`, or `synth`)"
