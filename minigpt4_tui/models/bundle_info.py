"""Information for choosing a bundle: its parts, their size, what is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from minigpt4.core.bundles.bundle import Bundle, bundle_names, load_bundle
from minigpt4.core.download.fetch import FetchPlan, is_present, known_bytes, plan_fetch
from minigpt4.core.download.sources import size_text
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.errors import BundleError
from minigpt4.core.language.load import choose_backend, needed_files
from minigpt4.core.memory import gib, memory_needed, quants_of
from minigpt4.core.weights.locate import gguf_files, hf_folder, mmproj_path

NOT_IN_FILES = ("key/value cache", "working room")
"""Parts of a bundle's memory that are not loaded from files."""

Availability = Literal["here", "partly", "absent", "broken"]


@dataclass(frozen=True)
class BundleFile:
    """A file of the bundle; `bytes` is None if only its source knows the size."""

    name: str
    bytes: int | None
    is_here: bool


@dataclass(frozen=True)
class BundleInfo:
    """`memory` is bytes by quantization, `ggufs` the quantizations whose GGUF file is here."""

    name: str
    summary: str
    state: Availability
    size: str = ""
    description: tuple[tuple[str, str], ...] = ()
    files: tuple[BundleFile, ...] = ()
    memory: Mapping[str, int] | None = None
    ggufs: tuple[str, ...] = ()

    bytes_absent: int | None = 0
    """Bytes of the files that are needed and not here; None if one is unknown before the download."""

    @property
    def least_memory(self) -> str:
        """What the smallest quantization needs; empty if the manifest does not say."""
        return gib(min(self.memory.values())) if self.memory else ""


def all_bundles() -> list[BundleInfo]:
    """Every bundle; one with an invalid manifest is "broken", and its summary is the error.

    Reads files: call it on a background thread.
    """
    found = []
    for name in bundle_names():
        try:
            found.append(bundle_info(load_bundle(name)))
        except BundleError as problem:
            found.append(BundleInfo(name, str(problem), "broken"))
    return found


def bundle_info(bundle: Bundle) -> BundleInfo:
    """One bundle's information."""
    needed = {quant: sum(memory_needed(bundle, quant).values()) for quant in quants_of(bundle)}
    return BundleInfo(
        name=bundle.name,
        summary=bundle.summary,
        state=state_of(bundle),
        size=size_of(bundle),
        description=_description(bundle),
        files=tuple(
            BundleFile(file.name, known_bytes(file, bundle), is_present(file, bundle))
            for file in bundle.files
        ),
        memory={quant: count for quant, count in needed.items() if count},
        ggufs=tuple(gguf_files(bundle)),
        bytes_absent=_bytes_absent(bundle),
    )


def plan_of(bundle: str) -> FetchPlan:
    """What a download would fetch. Asks sources for unknown sizes; raises FetchError or BundleError."""
    found = load_bundle(bundle)
    return plan_fetch(found, needed_files(EngineOptions(found)))


def _bytes_absent(bundle: Bundle) -> int | None:
    absent = [file for file in needed_files(EngineOptions(bundle)) if not is_present(file, bundle)]
    sizes = [file.bytes for file in absent if file.bytes is not None]
    return sum(sizes) if len(sizes) == len(absent) else None


def bytes_of(bundle: Bundle) -> int | None:
    """Total size of all files; None if one is unknown before the download."""
    sizes = [known_bytes(file, bundle) for file in bundle.files] + own_sizes(bundle)
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def own_sizes(bundle: Bundle) -> list[int | None]:
    """The sizes of the GGUF files that a bundle uses in place; None for one that is gone."""
    own = (bundle.language.path, bundle.mmproj.path if bundle.mmproj else None)
    return [path.stat().st_size if path.is_file() else None for path in own if path is not None]


def size_of(bundle: Bundle) -> str:
    """Total size of all files; estimated from 16-bit weights if one is unknown before the download."""
    exact = bytes_of(bundle)
    if exact is not None:
        return size_text(exact)
    parts = memory_needed(bundle, "bf16", tower_dtype="fp16")
    weights = sum(size for part, size in parts.items() if part not in NOT_IN_FILES)
    return f"~{size_text(weights)}" if weights else "?"


def state_of(bundle: Bundle) -> Availability:
    """Whether the files needed to answer with the bundle are here."""
    present = [is_present(file, bundle) for file in needed_files(EngineOptions(bundle))]
    present += [size is not None for size in own_sizes(bundle)]
    if all(present) and has_language(bundle):
        return "here"
    return "partly" if any(present) else "absent"


def has_language(bundle: Bundle) -> bool:
    """Whether a language model in a user's folder exists; True if the bundle downloads its own."""
    try:
        return bundle.language.folder is None or hf_folder(bundle) is not None
    except BundleError:
        return choose_backend(EngineOptions(bundle)) == "llamacpp"  # a GGUF that was made from it


def _description(bundle: Bundle) -> tuple[tuple[str, str], ...]:
    if bundle.mmproj is not None:
        return (
            ("Vision", f"{mmproj_path(bundle).name}, about {bundle.image_tokens} tokens a picture"),
            ("Language", _language(bundle)),
            ("License", bundle.license),
            *_gate(bundle),
        )
    vision, projection = bundle.vision, bundle.projection
    qformer = f", Q-Former of {bundle.qformer.options.queries} queries" if bundle.qformer else ""
    objects = f", {bundle.objects.limit} objects of {bundle.objects.architecture}" if bundle.objects else ""
    return (
        (
            "Vision",
            f"{vision.architecture}, {vision.image_size}x{vision.image_size} pixels{qformer}{objects}",
        ),
        (
            "Projection",
            f"{projection.inputs} to {projection.outputs}, {projection.image_tokens} image tokens",
        ),
        ("Language", _language(bundle)),
        ("License", bundle.license),
        *_gate(bundle),
    )


def _gate(bundle: Bundle) -> tuple[tuple[str, str], ...]:
    return (("Before the download", bundle.gate),) if bundle.gate else ()


def _language(bundle: Bundle) -> str:
    language = bundle.language
    return f"{language.architecture}, context {language.context}, template {bundle.template}"
