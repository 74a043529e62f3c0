"""Which backend runs a bundle's language model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from minigpt4.core.cores import threads_for, too_many_threads
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.errors import BackendError, UsageError
from minigpt4.core.language.base import LanguageModel
from minigpt4.core.memory import memory_needed, require_memory
from minigpt4.core.weights.gguf.pair_memory import pair_quants
from minigpt4.core.weights.locate import TORCH_QUANTS, choose_gguf, gguf_quant

if TYPE_CHECKING:
    from minigpt4.core.bundles.bundle import Bundle
    from minigpt4.core.bundles.source import File


WITHOUT_GPU = (
    "The installed llama.cpp was built without support for a GPU; choose `--device cpu` and leave "
    "`--gpu-layers` out."
)


def load_language_model(
    options: EngineOptions, *, notice: Callable[[str], None] | None = None
) -> LanguageModel:
    """The bundle's language model on the backend and device of the options.

    `notice` is called before one-time work, such as quantising, and about too many threads.
    Raises UsageError for an impossible option, BackendError for a missing package, GPU or memory,
    BundleError for damaged files.
    """
    options.check()
    check_memory(options)
    if notice is not None and (sentence := too_many_threads(options.threads)):
        notice(sentence)
    if choose_backend(options) == "llamacpp":
        from minigpt4.core.language.llamacpp import LlamaCppLanguageModel

        return LlamaCppLanguageModel.load(options, notice=notice)
    if options.gpu_layers is not None:
        raise UsageError(
            f"--gpu-layers {options.gpu_layers} is for llama.cpp, and torch runs this model, all of it on "
            "one device; choose `--backend llamacpp`, or leave it out."
        )
    from minigpt4.core.language.torch import TorchLanguageModel

    return TorchLanguageModel.load(replace(options, device=_torch_device(options.device)), notice=notice)


def check_memory(options: EngineOptions) -> None:
    """Raise BackendError if the bundle with these options needs more memory than is free.

    It needs no file of the bundle, so it can precede the download. Layers that llama.cpp puts on a GPU
    are not counted.
    """
    bundle, device, quant = options.loaded_bundle(), options.device, options.quant
    if choose_backend(options) == "torch":
        device = _torch_device(device)
        quant = _torch_quant(bundle, quant, options.dtype, device)
    else:
        from minigpt4.core.weights.llama_library import load_library

        if device != "cpu" and load_library().llama_supports_gpu_offload():
            return
        device = "cpu"
        quant = quant if quant != "auto" else _gguf_quant(bundle)
    require_memory(replace(options, device=device, quant=quant))


def choices_made(options: EngineOptions) -> dict[str, str]:
    """The values that "auto" and None resolve to for these options on this machine, by option name.

    Call it once the model is loaded: it imports the modules that loading imported. The number of
    `gpu_layers` is llama.cpp's.
    """
    bundle, backend = options.loaded_bundle(), choose_backend(options)
    if backend == "torch":
        import torch

        device = _torch_device(options.device)
        quant = _torch_quant(bundle, options.quant, options.dtype, device)
        return {
            "backend": backend,
            "device": device,
            "quant": quant,
            "threads": str(torch.get_num_threads()),
            "gpu_layers": "all" if device != "cpu" else "none",
        }
    from minigpt4.core.weights.llama_library import load_library

    is_on_gpu = options.device != "cpu" and bool(load_library().llama_supports_gpu_offload())
    return {
        "backend": backend,
        "device": "cuda" if is_on_gpu else "cpu",
        "quant": options.quant if options.quant != "auto" else _gguf_quant(bundle),
        "threads": str(threads_for(options.threads)),
        "gpu_layers": "all" if is_on_gpu else "none",
    }


def _gguf_quant(bundle: Bundle) -> str:
    """The meaning of "auto" in llama.cpp; a small folder is converted to F16."""
    gguf, own = choose_gguf(bundle), bundle.language.gguf
    if bundle.mmproj is not None:
        return pair_quants(bundle)[0]
    if bundle.language.dequantised:
        return "F16"
    if gguf is not None:
        return gguf_quant(gguf.name)
    return "F16" if own is None else gguf_quant(own.name)


def _torch_quant(bundle: Bundle, quant: str, dtype: str | None, device: str) -> str:
    """The meaning of "auto" in torch, from the manifest's sizes."""
    from minigpt4.core.language.hf_load import choose_precision

    if bundle.language.gguf is not None and quant == "auto" and dtype is None:
        return "fp32"
    weights = memory_needed(bundle, "fp16").get("language model", 0)
    return choose_precision(quant, dtype, device=device, weight_bytes=weights)[0]


def choose_backend(options: EngineOptions) -> str:
    """The backend for these options on this machine: torch or llamacpp.

    "auto" is llama.cpp if it is installed and a GGUF of the bundle exists, otherwise torch, unless the
    quantisation belongs to one of them.
    """
    bundle = options.loaded_bundle()
    if bundle.mmproj is not None:
        if options.backend == "torch" or options.quant in TORCH_QUANTS:
            wish = "--backend torch" if options.backend == "torch" else f"--quant {options.quant}"
            raise BackendError(
                f"The bundle '{bundle.name}' is two GGUF files, which only llama.cpp reads; leave `{wish}` "
                "out."
            )
        return "llamacpp"
    if options.backend != "auto":
        return options.backend
    if options.quant != "auto":
        return "torch" if options.quant in TORCH_QUANTS else "llamacpp"
    if bundle.language.gguf is None and choose_gguf(bundle) is None:
        return "torch"
    from minigpt4.core.weights.llama_library import load_library

    try:
        load_library()
    except BackendError:
        return "torch"
    return "llamacpp"


def needed_files(options: EngineOptions) -> tuple[File, ...]:
    """The files of the bundle that the backend and quantisation need.

    The language model's are omitted if llama.cpp reads a GGUF converted from them: they may have been
    deleted to save 14 or 26 GB.
    """
    bundle = options.loaded_bundle()
    if bundle.language.gguf is not None or choose_gguf(bundle, options.quant) is None:
        return bundle.files
    return bundle.picture_files if choose_backend(options) == "llamacpp" else bundle.files


def _torch_device(device: str) -> str:
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def layers_on_gpu(options: EngineOptions) -> int | None:
    """How many layers go on a GPU (None: all); raises BackendError for an impossible request."""
    device, gpu_layers = options.device, options.gpu_layers
    if device == "cpu" and gpu_layers:
        raise BackendError(
            f"{gpu_layers} layers cannot be on a GPU with `--device cpu`; leave one of them out."
        )
    from minigpt4.core.weights.llama_library import load_library

    has_gpu = load_library().llama_supports_gpu_offload()
    is_on_gpu = device.startswith("cuda") or bool(gpu_layers) or (device == "auto" and has_gpu)
    if is_on_gpu and gpu_layers != 0 and not has_gpu:
        raise BackendError(WITHOUT_GPU)
    return gpu_layers if is_on_gpu else 0
