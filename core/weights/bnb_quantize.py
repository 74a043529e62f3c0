"""Language-model weights in 8 bits (LLM.int8(), arXiv 2208.07339) or 4 (NF4, arXiv 2305.14314).

bitsandbytes computes with them, on CUDA and on a CPU. The linear layers of the blocks are
quantised; embedding, head and norms stay as they are. The quantised weights are cached in the
layout that the kernels read, because quantising a 7B model takes minutes.

Not transformers' `BitsAndBytesConfig`: it needs accelerate, its memory peaks at 4 (int8) and 9 (NF4)
times the quantised weights (a Llama of 424 MiB in bfloat16: 970 and 1220 MiB, here 95 and 115), and it
saves NF4 without the CPU's layout, so that every start would convert it again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from minigpt4.core.download.sources import space_problem
from minigpt4.core.errors import BackendError
from minigpt4.core.storage.atomic import replacing
from minigpt4.core.storage.paths import cache_home
from minigpt4.core.weights.hf_model import HEAD, empty_llama, finished, put, tensor_reader
from minigpt4.core.weights.safetensors_writer import (
    DTYPES,
    TensorInfo,
    bytes_of,
    safetensors_bytes,
    write_safetensors,
)

QUANTS = ("int8", "nf4")
INSTALL = "pip install 'minigpt4[quantised]'"

BLOCK = 64
"""Weights that share one NF4 scale: 4.5 bits per weight with the float32 scale."""

OUTLIER = 6.0
"""Activations from here on are multiplied in 16 bits (section 3.2 of LLM.int8())."""

CPU_ROWS, CPU_COLUMNS = 32, BLOCK
"""bitsandbytes' fast CPU layout of NF4 needs rows and columns that are multiples of these."""

LAYOUT_VERSION = 1
"""Raise it whenever the quantisation or the layout in this file changes."""

STALE_SECONDS = 3600.0
"""A partial file older than this was left by a killed process."""


@dataclass(frozen=True)
class _Quantised:
    """A weight (rows N, columns K) in fewer bits, and the scales it is multiplied with."""

    weight: Tensor
    scales: Tensor


def import_bitsandbytes() -> Any:
    """The package, its log silenced; raises BackendError if it cannot be imported."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        import bitsandbytes
    except (ImportError, OSError, RuntimeError) as error:  # the last two: a build for another machine
        raise BackendError(
            f"8-bit and 4-bit weights in torch need bitsandbytes, which cannot be imported ({error}); "
            f"install it with `{INSTALL}`, or choose `--quant bf16`."
        ) from error
    return bitsandbytes


def load_quantised(
    folder: Path,
    quant: str,
    *,
    digest: str,
    dtype: torch.dtype,
    device: str,
    with_gradients: bool = False,
    notice: Callable[[str], None] | None = None,
) -> Any:
    """The folder's Llama with the linear layers of its blocks in `quant`, computing in `dtype`.

    `digest` identifies the folder's content. The layers are quantised and cached on first use, after a
    call of `notice`. `with_gradients` avoids the CPU's fast layout of NF4, which has no backward pass
    (2.3 ms instead of 50 for one position and 45 million weights). Raises BackendError without
    bitsandbytes or with too little disk space, BundleError if the folder's files are missing or
    damaged.
    """
    library = import_bitsandbytes()
    is_packed = (
        quant == "nf4" and device == "cpu" and not with_gradients and library.functional.has_avx512bf16()
    )
    path = quantised_path(digest, f"{quant}-cpu" if is_packed else quant)
    if path.is_file():
        try:
            return _load(folder, path, quant, library, dtype, device)
        except (SafetensorError, OSError, KeyError, RuntimeError, ValueError):
            path.unlink(missing_ok=True)  # damaged on the disk: quantised again
    if notice is not None:
        notice(f"Quantising the language model to {quant}; it is kept in {path.parent} for the next time.")
    _write(folder, path, quant, library, is_packed, device)
    return _load(folder, path, quant, library, dtype, device)


def quantised_path(digest: str, layout: str) -> Path:
    """The cache file for the model that `digest` identifies."""
    key = json.dumps([digest, layout, LAYOUT_VERSION, version("bitsandbytes")])
    return cache_home() / "quantised" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"


def _linears(model: Any) -> dict[str, nn.Linear]:
    """The layers to quantise, by the names of their weights."""
    return {
        f"{name}.weight": layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and f"{name}.weight" != HEAD
    }


def _is_packable(shape: torch.Size) -> bool:
    rows, columns = shape
    return rows % CPU_ROWS == 0 and columns % CPU_COLUMNS == 0


def _quantise(weight_NK: Tensor, quant: str, library: Any, *, is_packed: bool) -> _Quantised:
    if quant == "int8":
        rows, scales, _ = library.functional.int8_vectorwise_quant(weight_NK.to(torch.float16))
        return _Quantised(rows, scales)
    weight, state = library.functional.quantize_4bit(
        weight_NK.contiguous(), blocksize=BLOCK, compress_statistics=False, quant_type="nf4"
    )
    if is_packed and _is_packable(weight_NK.shape):
        layer = _nf4_layer(weight_NK.shape, library, torch.bfloat16, is_packed=True)
        _fill_nf4(layer, weight, state, library)
        with torch.inference_mode():
            layer(torch.zeros(1, weight_NK.shape[1]))  # the first call converts it to the CPU's layout
        return _Quantised(layer.weight.data, layer.weight.quant_state.absmax)
    return _Quantised(weight, state.absmax)


def _nf4_layer(shape: torch.Size, library: Any, dtype: torch.dtype, *, is_packed: bool) -> Any:
    rows, columns = shape
    layer = library.nn.Linear4bit(
        columns,
        rows,
        bias=False,
        compute_dtype=dtype,
        compress_statistics=False,
        quant_type="nf4",
        device="meta",
    )
    # Otherwise the layer changes to the fast layout by itself, also for shapes that do not fit it.
    layer.support_avx512bf16_for_cpu = is_packed
    return layer.eval()


def _fill_nf4(layer: Any, weight: Tensor, state: Any, library: Any) -> None:
    layer.weight = library.nn.Params4bit(
        weight,
        requires_grad=False,
        quant_state=state,
        blocksize=BLOCK,
        compress_statistics=False,
        quant_type="nf4",
        module=layer,
        bnb_quantized=True,
    )
    layer.quant_state = state


def _int8_layer(shape: torch.Size, saved: _Quantised, library: Any) -> Any:
    rows, columns = shape
    layer = library.nn.Linear8bitLt(
        columns, rows, bias=False, has_fp16_weights=False, threshold=OUTLIER, device="meta"
    )
    layer.weight = library.nn.Int8Params(
        saved.weight, requires_grad=False, has_fp16_weights=False, CB=saved.weight, SCB=saved.scales
    )
    return layer


def _filled_nf4_layer(shape: torch.Size, saved: _Quantised, library: Any, dtype: torch.dtype) -> Any:
    is_packed = saved.scales.dtype == torch.bfloat16
    layer = _nf4_layer(shape, library, dtype, is_packed=is_packed)
    functional = library.functional
    state = functional.QuantState(
        absmax=saved.scales,
        shape=shape,
        code=functional.get_4bit_type("nf4", device=saved.weight.device),
        blocksize=BLOCK,
        quant_type="nf4",
        dtype=dtype,
    )
    if is_packed:
        # bitsandbytes records these when it repacks weights for the CPU, to undo that for a state_dict.
        state.packing_format_for_cpu = True
        state.original_dtype = dtype
        state.original_nested = False
        state.original_qshape = torch.Size([math.prod(shape) // 2, 1])
    _fill_nf4(layer, saved.weight, state, library)
    return layer


def _load(folder: Path, path: Path, quant: str, library: Any, dtype: torch.dtype, device: str) -> Any:
    model = empty_llama(folder)
    linears = _linears(model)
    with safe_open(path, framework="pt") as file:
        for name, parameter in list(model.named_parameters()):
            if name not in linears:
                put(model, name, file.get_tensor(name).to(device=device, dtype=dtype))
                continue
            saved = _Quantised(file.get_tensor(name).to(device), file.get_tensor(f"{name}.scales").to(device))
            layer = (
                _int8_layer(parameter.shape, saved, library)
                if quant == "int8"
                else _filled_nf4_layer(parameter.shape, saved, library, dtype)
            )
            owner, _, leaf = name.removesuffix(".weight").rpartition(".")
            setattr(model.get_submodule(owner), leaf, layer)
    return finished(model, device)


def _write(folder: Path, path: Path, quant: str, library: Any, is_packed: bool, device: str) -> None:
    """Quantise tensor by tensor into a safetensors file, so that one of them is in memory at a time."""
    model = empty_llama(folder)
    read = tensor_reader(folder, model)
    linears = _linears(model)
    names = [name for name, _ in model.named_parameters()]
    plan: list[TensorInfo] = []
    for name in names:
        shape, dtype = read(name).shape, _stored_dtype(read(name))
        if name in linears:
            plan += _plan(name, shape, quant, is_packed=is_packed and _is_packable(shape))
        else:
            plan.append((name, DTYPES[str(dtype).removeprefix("torch.")], shape))

    def content() -> Iterator[Tensor]:
        for name in names:
            tensor = read(name)
            if name in linears:
                quantised = _quantise(tensor.to(device), quant, library, is_packed=is_packed)
                yield quantised.weight
                yield quantised.scales
            else:
                yield tensor.to(_stored_dtype(tensor))

    _check_space(path, safetensors_bytes(plan))
    try:
        with replacing(path) as draft:
            write_safetensors(draft, plan, map(bytes_of, content()))
    except OSError as error:
        raise BackendError(
            f"The quantised language model cannot be written to {path}: {error.strerror or error}; free "
            "some space or set MINIGPT4_HOME to another disk."
        ) from error


def _stored_dtype(tensor: Tensor) -> torch.dtype:
    """The type in which a tensor that is not quantised is cached."""
    return tensor.dtype if tensor.dtype in (torch.float16, torch.bfloat16) else torch.float32


def _plan(name: str, shape: Sequence[int], quant: str, *, is_packed: bool) -> list[TensorInfo]:
    """The two tensors that represent a quantised weight."""
    rows, columns = shape
    scales = f"{name}.scales"
    if quant == "int8":
        return [(name, "I8", (rows, columns)), (scales, "F32", (rows,))]
    if is_packed:
        return [(name, "U8", (rows, columns // 2)), (scales, "BF16", (columns // BLOCK, rows))]
    weights = rows * columns
    return [(name, "U8", (math.ceil(weights / 2), 1)), (scales, "F32", (math.ceil(weights / BLOCK),))]


def _check_space(path: Path, needed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for draft in path.parent.glob(".*.part"):
        with suppress(OSError):
            if time.time() - draft.stat().st_mtime > STALE_SECONDS:
                draft.unlink()
    if problem := space_problem(path.parent, needed):
        raise BackendError(f"The quantised language model cannot be written to {path.parent}: {problem}.")
