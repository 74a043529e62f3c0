"""A bundle's language model as a GGUF for llama.cpp, made at first use where that takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.download.fetch import path_of
from minigpt4.core.errors import BackendError
from minigpt4.core.weights.gguf.quantiser import dequantise
from minigpt4.core.weights.locate import choose_gguf, gguf_path, gguf_quant, hf_folder

MOST_CONVERTED_BYTES = 2_000_000_000
"""An F16 file smaller than this is created without asking; it takes seconds."""


def usable_gguf(bundle: Bundle, quant: str, notice: Callable[[str], None]) -> Path:
    """The bundle's GGUF of a quantisation; `notice` is called before one is made.

    At first use a bundle's own GGUF may be dequantised, and a small Hugging Face folder is converted. Raises
    BackendError if the GGUF is missing and not made in this way, or cannot be written.
    """
    own = bundle.language.gguf
    if own is not None and bundle.language.dequantised and quant in ("auto", "F16"):
        advice = f"free some space, or use it as it is with `--quant {gguf_quant(own.name)}`"
        source, target = path_of(own, bundle), gguf_path(bundle, "F16")
        dequantise(source, target, advice=advice, notice=notice)
        return target
    found = choose_gguf(bundle, quant)
    if found is not None:
        return found
    folder = hf_folder(bundle)
    if folder is None:
        if own is not None and quant == "auto":
            return path_of(own, bundle)  # the caller reports that it is missing
        raise BackendError(
            f"The bundle '{bundle.name}' has no GGUF{'' if quant == 'auto' else f' of {quant}'} here; "
            f"fetch it with `minigpt4 models pull {bundle.name} --all`, then make one with "
            f"`minigpt4 models quantize {bundle.name}`, or choose `--backend torch`."
        )
    # Imported here: most bundles have their GGUF.
    from minigpt4.core.weights.gguf.from_hf import convert
    from minigpt4.core.weights.hf_folder import LlamaFolder

    if quant not in ("auto", "F16") or LlamaFolder(folder).shape.gguf_bytes("F16") >= MOST_CONVERTED_BYTES:
        wanted = "Q4_K_M" if quant == "auto" else quant
        raise BackendError(
            f"There is no GGUF of '{bundle.name}' for llama.cpp yet; make one with "
            f"`minigpt4 models quantize {bundle.name} --quant {wanted}`, or choose `--backend torch`."
        )
    target = gguf_path(bundle, "F16")
    notice(f"{folder} is converted for llama.cpp, once: {target}.")
    convert(folder, target, "F16")
    return target
