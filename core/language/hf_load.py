"""A bundle's language model and vocabulary for torch: from its GGUF or its Hugging Face folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from minigpt4.core.download.fetch import path_of
from minigpt4.core.dtypes import SMALL_BYTES, default_dtype, dtype_for
from minigpt4.core.errors import BackendError, BundleError, UsageError
from minigpt4.core.language.tokenizers import TOKENIZER_MODEL, ByteLevelTokens, SentencePieceTokens, Tokens
from minigpt4.core.torch_memory import bound_shape_caches
from minigpt4.core.weights.bnb_quantize import QUANTS, load_quantised
from minigpt4.core.weights.gguf.to_hf import TOKENIZER, check_gguf, converted_folder, discard
from minigpt4.core.weights.hf_model import load_llama
from minigpt4.core.weights.locate import TORCH_QUANTS, hf_folder, language_digest

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from minigpt4.core.bundles.bundle import Bundle

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(
    quant: str, dtype: str | None, *, device: str, weight_bytes: int
) -> tuple[str, torch.dtype]:
    """How weights are stored (one of TORCH_QUANTS) and the type of the arithmetic.

    "auto" stores them in `dtype`; without one in float16 on CUDA, and on a CPU in float32 if they
    are small, else in the type that it multiplies fastest. Raises UsageError for a contradiction.
    """
    if quant != "auto" and quant not in TORCH_QUANTS:
        raise UsageError(
            f"The torch backend has no quantisation '{quant}'; choose auto, {', '.join(TORCH_QUANTS)}, or "
            "`--backend llamacpp`."
        )
    wanted = None if dtype is None else dtype_for(dtype, device)
    if quant in QUANTS:
        return quant, DTYPES[wanted or default_dtype(device)]
    if quant == "auto":
        is_small = device == "cpu" and weight_bytes <= SMALL_BYTES
        quant = wanted or ("fp32" if is_small else default_dtype(device))
    elif wanted not in (None, quant):
        raise UsageError(f"Weights in {quant} are computed with in {quant}, not in {wanted}; ask for one.")
    return quant, DTYPES[quant]


def load_causal_lm(
    bundle: Bundle,
    *,
    device: str = "cpu",
    quant: str = "auto",
    dtype: str | None = None,
    with_gradients: bool = False,
    notice: Callable[[str], None] | None = None,
) -> Any:
    """The transformers model of a bundle, frozen and in eval mode.

    A GGUF's weights are dequantised, into float32 by default. `with_gradients` is for
    training the layers before it. `notice` is called before one-time work. Raises BundleError
    if files are missing or damaged, UsageError for an unknown precision, BackendError if
    a package, the device or disk space is missing.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise BackendError("There is no CUDA device that torch can use; choose `--device cpu`.")
    bound_shape_caches()

    def load(folder: Path, kept: str, computed: torch.dtype) -> Any:
        if kept not in QUANTS:
            return load_llama(folder, dtype=computed, device=device)
        return load_quantised(
            folder,
            kept,
            digest=language_digest(bundle),
            dtype=computed,
            device=device,
            with_gradients=with_gradients,
            notice=notice,
        )

    folder = hf_folder(bundle)
    if folder is None:
        choice = "fp32" if quant == "auto" and dtype is None else quant
        kept, computed = choose_precision(choice, dtype, device=device, weight_bytes=0)
        model = _from_gguf(bundle, lambda folder: load(folder, kept, computed))
    else:
        model = load(
            folder, *choose_precision(quant, dtype, device=device, weight_bytes=_weight_bytes(folder))
        )
    if model.config.hidden_size != bundle.language.width:
        raise BundleError(
            f"The language model has the width {model.config.hidden_size}, but the bundle '{bundle.name}' "
            f"says {bundle.language.width}."
        )
    return model.eval().requires_grad_(False)


def load_tokens(bundle: Bundle) -> Tokens:
    """The bundle's vocabulary; raises BundleError if its file is missing or damaged."""
    folder = hf_folder(bundle)
    if folder is not None:
        return SentencePieceTokens(folder / TOKENIZER_MODEL)
    return ByteLevelTokens(load_tokenizer(bundle))


def load_tokenizer(bundle: Bundle) -> Tokenizer:
    """The tokenizer of a bundle that has a GGUF; control tokens in the text become control tokens."""
    from tokenizers import Tokenizer

    folder = converted_folder(_gguf(bundle), language_digest(bundle))
    tokenizer: Tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    return tokenizer


def _from_gguf(bundle: Bundle, load: Callable[[Path], Any]) -> Any:
    """The model that `load` reads from the converted GGUF, which is converted again if it is damaged."""
    gguf, digest = _gguf(bundle), language_digest(bundle)
    folder = converted_folder(gguf, digest)
    try:
        return load(folder)
    except (BundleError, SafetensorError, RuntimeError, ValueError, KeyError):
        discard(folder)
        return load(converted_folder(gguf, digest))


def _gguf(bundle: Bundle) -> Path:
    file = bundle.language.gguf
    if file is None:
        raise BundleError(
            f"The language model of '{bundle.name}' is incomplete; fetch it with "
            f"`minigpt4 models pull {bundle.name}`."
        )
    path = path_of(file, bundle)
    check_gguf(path, file.bytes)
    return path


def _weight_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix in (".safetensors", ".bin"))
