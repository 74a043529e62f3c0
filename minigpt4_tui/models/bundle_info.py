"""What people want to know of a bundle before they choose it: its parts, their size, what is here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from minigpt4.core.bundles.bundle import Bundle, bundle_names, load_bundle
from minigpt4.core.download.fetch import is_present, known_bytes
from minigpt4.core.download.sources import size_text
from minigpt4.core.errors import BundleError
from minigpt4.core.language.load import choose_backend, needed_files
from minigpt4.core.memory import gib, memory_needed, quants_of
from minigpt4.core.weights.locate import gguf_files, hf_folder

NOT_IN_FILES = ("key/value cache", "working room")
"""Parts of a bundle's memory that it has no files for."""

State = Literal["here", "partly", "absent", "broken"]


@dataclass(frozen=True)
class Part:
    """A file of the bundle: `bytes` of None are told by its source only."""

    name: str
    bytes: int | None
    is_here: bool


@dataclass(frozen=True)
class BundleFacts:
    """`memory` is bytes by quantisation, `here` those whose GGUF is here; `made_of` has labels and texts."""

    name: str
    summary: str
    state: State
    size: str = ""
    made_of: tuple[tuple[str, str], ...] = ()
    parts: tuple[Part, ...] = ()
    memory: Mapping[str, int] | None = None
    here: tuple[str, ...] = ()

    @property
    def least_memory(self) -> str:
        """What the smallest form needs; empty where the manifest does not tell."""
        return gib(min(self.memory.values())) if self.memory else ""


def all_facts() -> list[BundleFacts]:
    """Of every bundle there is; one whose manifest is wrong is "broken", its summary the sentence why.

    Looks at files: not for the screen's own thread.
    """
    found = []
    for name in bundle_names():
        try:
            found.append(facts_of(load_bundle(name)))
        except BundleError as problem:
            found.append(BundleFacts(name, str(problem), "broken"))
    return found


def facts_of(bundle: Bundle) -> BundleFacts:
    """What there is to know of one bundle."""
    needed = {quant: sum(memory_needed(bundle, quant).values()) for quant in quants_of(bundle)}
    return BundleFacts(
        name=bundle.name,
        summary=bundle.summary,
        state=state_of(bundle),
        size=size_of(bundle),
        made_of=_made_of(bundle),
        parts=tuple(
            Part(file.name, known_bytes(file, bundle), is_present(file, bundle)) for file in bundle.files
        ),
        memory={quant: count for quant, count in needed.items() if count},
        here=tuple(gguf_files(bundle)),
    )


def bytes_of(bundle: Bundle) -> int | None:
    """The size of all files together; None where one is not known before it is fetched."""
    sizes = [known_bytes(file, bundle) for file in bundle.files]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def size_of(bundle: Bundle) -> str:
    """All files together; roughly, from the parts in 16 bits, where a size is not known beforehand."""
    exact = bytes_of(bundle)
    if exact is not None:
        return size_text(exact)
    parts = memory_needed(bundle, "bf16", tower_dtype="fp16")
    weights = sum(size for part, size in parts.items() if part not in NOT_IN_FILES)
    return f"~{size_text(weights)}" if weights else "?"


def state_of(bundle: Bundle) -> State:
    """Whether what is needed to answer with the bundle is here."""
    present = [is_present(file, bundle) for file in needed_files(bundle)]
    if all(present) and has_language(bundle):
        return "here"
    return "partly" if any(present) else "absent"


def has_language(bundle: Bundle) -> bool:
    """Whether a language model in a folder of the user's is there; what is fetched counts among the files."""
    try:
        return bundle.language.folder is None or hf_folder(bundle) is not None
    except BundleError:
        return choose_backend(bundle) == "llamacpp"  # a GGUF that was made from it


def _made_of(bundle: Bundle) -> tuple[tuple[str, str], ...]:
    vision, projection, language = bundle.vision, bundle.projection, bundle.language
    qformer = f", Q-Former of {bundle.qformer.options['queries']} queries" if bundle.qformer else ""
    return (
        ("Sees with", f"{vision.architecture}, {vision.image_size}x{vision.image_size} pixels{qformer}"),
        (
            "Projection",
            f"{projection.inputs} to {projection.outputs}, {projection.image_tokens} image tokens",
        ),
        ("Speaks with", f"{language.architecture}, context {language.context}, template {bundle.template}"),
        ("Licence", bundle.license),
    )
