"""Which backend runs a bundle's language model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from minigpt4.core.dtypes import AUTO, dtype_for
from minigpt4.core.errors import BackendError, BundleError, UsageError
from minigpt4.core.memory import memory_needed, require_memory
from minigpt4.core.text import suggestion
from minigpt4.core.types import LanguageModel
from minigpt4.core.weights.locate import GGUF_QUANTS, TORCH_QUANTS, check_quant, choose_gguf, gguf_quant

if TYPE_CHECKING:
    from minigpt4.core.bundles.bundle import Bundle
    from minigpt4.core.bundles.source import File

BACKENDS = ("auto", "torch", "llamacpp")
DEVICES = ("auto", "cpu", "cuda")


def load_language_model(
    bundle: Bundle,
    *,
    backend: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    context: int | None = None,
    quant: str = "auto",
    gpu_layers: int | None = None,
    dtype: str | None = None,
    notice: Callable[[str], None] | None = None,
) -> LanguageModel:
    """The bundle's language model on the backend and device asked for.

    "auto" takes llama.cpp where it is installed and a GGUF of the bundle is here, otherwise torch,
    unless `quant` belongs to one of them; as a device, a GPU where the backend can use one.
    `dtype` is what torch computes in; llama.cpp takes no notice of it. `notice` is told of work that
    is done once, such as quantising.
    Raises UsageError for an unknown name or a number out of range, BackendError where a package, a
    GPU or memory is missing, BundleError for damaged files.
    """
    check_choices(
        bundle,
        backend=backend,
        device=device,
        threads=threads,
        context=context,
        quant=quant,
        gpu_layers=gpu_layers,
        dtype=dtype,
    )
    check_memory(bundle, backend=backend, device=device, context=context, quant=quant, dtype=dtype)
    if choose_backend(bundle, backend, quant) == "llamacpp":
        from minigpt4.core.language.llamacpp import LlamaCppLanguageModel

        return LlamaCppLanguageModel.load(
            bundle,
            device=device,
            threads=threads,
            context=context,
            quant=quant,
            gpu_layers=gpu_layers,
            notice=notice,
        )
    if gpu_layers is not None:
        raise UsageError(
            f"--gpu-layers {gpu_layers} is for llama.cpp, and torch runs this model, all of it on one "
            "device; choose `--backend llamacpp`, or leave it out."
        )
    from minigpt4.core.language.torch import TorchLanguageModel

    return TorchLanguageModel.load(
        bundle,
        device=_torch_device(device),
        threads=threads,
        context=context,
        quant=quant,
        dtype=dtype,
        notice=notice,
    )


def check_choices(
    bundle: Bundle,
    *,
    backend: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    context: int | None = None,
    quant: str = "auto",
    gpu_layers: int | None = None,
    dtype: str | None = None,
    projection: Path | None = None,
) -> None:
    """Raise UsageError for what cannot be meant; needs no file of the bundle.

    `projection` is a person's own, in place of the bundle's: BundleError where it is not there.
    """
    _check_name("backend", backend, BACKENDS)
    _check_name("device", device.split(":")[0], DEVICES)
    if dtype is not None:
        dtype_for(dtype, device)
    if threads is not None and threads < 1:
        raise UsageError(f"{threads} threads cannot compute anything; ask for 1 or more.")
    if context is not None and not 1 <= context <= bundle.language.context:
        raise UsageError(
            f"A context of {context} positions is not possible; '{bundle.name}' was made for 1 to "
            f"{bundle.language.context}."
        )
    if gpu_layers is not None and gpu_layers < 0:
        raise UsageError(f"{gpu_layers} layers cannot be on a GPU; ask for 0 or more.")
    if projection is not None and not projection.is_file():
        raise BundleError(f"There is no projection file {projection}; check the path or train one first.")
    check_quant(quant)
    _check_backend_of(quant, backend)


def check_memory(
    bundle: Bundle,
    *,
    backend: str = "auto",
    device: str = "auto",
    context: int | None = None,
    quant: str = "auto",
    dtype: str | None = None,
) -> None:
    """Raise BackendError where the bundle, so used, needs more memory than is free.

    It needs no file of the bundle, so nobody fetches what their machine cannot hold. Layers that
    llama.cpp puts on a GPU are not reckoned.
    """
    if choose_backend(bundle, backend, quant) == "torch":
        place = _torch_device(device)
        kept = _torch_quant(bundle, quant, dtype, place)
    else:
        from minigpt4.core.weights.llama_library import load_library

        if device != "cpu" and load_library().llama_supports_gpu_offload():
            return
        place = "cpu"
        kept = quant if quant != "auto" else _gguf_quant(bundle)
    require_memory(bundle, kept, device=place, tower_dtype=dtype or AUTO, context=context)


def _gguf_quant(bundle: Bundle) -> str:
    """What "auto" comes to in llama.cpp; F16 is what a small folder is converted to."""
    gguf, own = choose_gguf(bundle), bundle.language.gguf
    if gguf is not None:
        return gguf_quant(gguf.name)
    return "F16" if own is None else gguf_quant(own.name)


def _torch_quant(bundle: Bundle, quant: str, dtype: str | None, device: str) -> str:
    """What "auto" comes to in torch, from the manifest's sizes."""
    from minigpt4.core.language.hf_load import choose_precision

    if bundle.language.gguf is not None and quant == "auto" and dtype is None:
        return "fp32"
    weights = memory_needed(bundle, "fp16").get("language model", 0)
    return choose_precision(quant, dtype, device=device, weight_bytes=weights)[0]


def choose_backend(bundle: Bundle, backend: str = "auto", quant: str = "auto") -> str:
    """Either torch or llamacpp: what `backend` comes to for this bundle and quantisation on this machine."""
    if backend != "auto":
        return backend
    if quant != "auto":
        return "torch" if quant in TORCH_QUANTS else "llamacpp"
    if bundle.language.gguf is None and choose_gguf(bundle) is None:
        return "torch"
    from minigpt4.core.weights.llama_library import load_library

    try:
        load_library()
    except BackendError:
        return "torch"
    return "llamacpp"


def needed_files(bundle: Bundle, backend: str = "auto", quant: str = "auto") -> tuple[File, ...]:
    """Those of the bundle's files that have to be here for this backend and quantisation.

    Without the language model's where llama.cpp reads a GGUF that was made from them: people delete
    them then, to have 14 or 26 GB back.
    """
    if bundle.language.gguf is not None or choose_gguf(bundle, quant) is None:
        return bundle.files
    return bundle.picture_files if choose_backend(bundle, backend, quant) == "llamacpp" else bundle.files


def _check_backend_of(quant: str, backend: str) -> None:
    if quant == "auto" or backend == "auto":
        return
    theirs, other = ("torch", "llama.cpp") if quant in TORCH_QUANTS else ("llamacpp", "torch")
    if backend != theirs:
        own = GGUF_QUANTS if backend == "llamacpp" else TORCH_QUANTS
        raise UsageError(
            f"The quantisation '{quant}' is not one of {other}'s, which are {', '.join(own)}; "
            f"choose one of them, or `--backend {theirs}`."
        )


def _torch_device(device: str) -> str:
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _check_name(kind: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise UsageError(f"There is no {kind} '{name}'; {suggestion(name, known)}")
