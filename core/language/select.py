"""Which backend runs a bundle's language model."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from minigpt4.core.errors import BackendError, UsageError
from minigpt4.core.language.protocol import LanguageModel

if TYPE_CHECKING:
    from minigpt4.core.bundle import Bundle

BACKENDS = ("auto", "torch", "llamacpp")
DEVICES = ("auto", "cpu", "cuda")


def load_language_model(
    bundle: Bundle,
    *,
    backend: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    context: int | None = None,
) -> LanguageModel:
    """The bundle's language model on the backend and device asked for.

    "auto" takes llama.cpp where it is installed and the bundle has a GGUF, otherwise torch; as a
    device, a GPU where the backend can use one. Raises UsageError for an unknown name or a number
    out of range, BackendError where a package or a GPU is missing, BundleError for damaged files.
    """
    check_choices(bundle, backend=backend, device=device, threads=threads, context=context)
    if backend == "auto":
        backend = _best_backend(bundle)
    if backend == "llamacpp":
        from minigpt4.core.language.llamacpp import LlamaCppLanguageModel

        return LlamaCppLanguageModel.load(bundle, device=device, threads=threads, context=context)
    from minigpt4.core.language.torch import TorchLanguageModel

    return TorchLanguageModel.load(bundle, device=_torch_device(device), threads=threads, context=context)


def check_choices(
    bundle: Bundle, *, backend: str, device: str, threads: int | None, context: int | None
) -> None:
    """Raise UsageError for an unknown name or a number out of range; needs no file of the bundle."""
    _check_name("backend", backend, BACKENDS)
    _check_name("device", device.split(":")[0], DEVICES)
    if threads is not None and threads < 1:
        raise UsageError(f"{threads} threads cannot compute anything; ask for 1 or more.")
    if context is not None and not 1 <= context <= bundle.language.context:
        raise UsageError(
            f"A context of {context} positions is not possible; '{bundle.name}' was made for 1 to "
            f"{bundle.language.context}."
        )


def _best_backend(bundle: Bundle) -> str:
    from minigpt4.core.language.llamacpp import load_library

    if not bundle.language.file.name.endswith(".gguf"):
        return "torch"
    try:
        load_library()
    except BackendError:
        return "torch"
    return "llamacpp"


def _torch_device(device: str) -> str:
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _check_name(kind: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.3)
        suggestion = f"did you mean '{nearest[0]}'?" if nearest else f"there is {', '.join(known)}."
        raise UsageError(f"There is no {kind} '{name}'; {suggestion}")
