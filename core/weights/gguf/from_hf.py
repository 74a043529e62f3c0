"""A Hugging Face LLaMA folder as a GGUF file: F16, or smaller through llama.cpp's own quantiser."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.download.fetch import FetchProgress, Progress
from minigpt4.core.download.sources import space_problem
from minigpt4.core.errors import BackendError, BundleError, UsageError
from minigpt4.core.storage.atomic import replacing
from minigpt4.core.weights.gguf.quantiser import run_quantiser
from minigpt4.core.weights.gguf.to_hf import hugging_face_name
from minigpt4.core.weights.gguf.writer import FILE_TYPES, LlamaShape, plain_kind, write_gguf
from minigpt4.core.weights.hf_folder import LlamaFolder
from minigpt4.core.weights.llama_library import load_library
from minigpt4.core.weights.sentencepiece_vocab import folder_vocabulary


def convert(
    folder: Path,
    target: Path,
    quant: str,
    progress: Progress | None = None,
    *,
    threads: int | None = None,
) -> None:
    """Write `folder`'s model to `target` as a GGUF of this quantisation.

    Tensor by tensor: memory holds the largest one (1.2 GB for a 13B's embedding in bfloat16), and the disk
    temporarily an F16 file beside the target. Raises UsageError for an unknown quantisation, BundleError
    for a folder that is not a complete LLaMA, BackendError if the disk is too small or llama.cpp is missing.
    """
    if quant not in FILE_TYPES:
        raise UsageError(f"There is no quantisation '{quant}' here; there is {', '.join(FILE_TYPES)}.")
    source = LlamaFolder(folder)
    report = progress or (lambda _: None)
    if quant != "F16":
        load_library()  # if it is missing, fail before the long part
    _check_space(target, source.shape, quant)
    try:
        if quant == "F16":
            with replacing(target) as draft:
                _write_f16(source, draft, target.name, report)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as temporary:
            plain = Path(temporary) / "f16.gguf"
            _write_f16(source, plain, f"{target.stem} as F16", report)
            total = source.shape.gguf_bytes(quant)
            with replacing(target) as draft:
                run_quantiser(
                    plain,
                    draft,
                    quant,
                    threads=threads,
                    written=lambda done: report(FetchProgress(target.name, min(done, total), total)),
                )
    except OSError as error:
        raise BackendError(
            f"{target} cannot be written: {error.strerror or error}; free some space or choose another disk."
        ) from error


def _write_f16(source: LlamaFolder, path: Path, label: str, report: Progress) -> None:
    shape = source.shape
    vocabulary = folder_vocabulary(source.folder, shape.vocabulary)
    total = shape.gguf_bytes("F16")

    def content(name: str, tensor_shape: tuple[int, ...], kind: str) -> NDArray[Any]:
        theirs = hugging_face_name(name)
        weight = source.read(theirs, tensor_shape)
        if ".attn_q." in name:
            weight = rotary_pairs(weight, shape.heads)
        elif ".attn_k." in name:
            weight = rotary_pairs(weight, shape.key_heads)
        with np.errstate(over="ignore"):
            packed = np.ascontiguousarray(weight, dtype=np.float32 if kind == "F32" else np.float16)
        if not np.isfinite(packed).all():
            raise BundleError(f"{source.folder}: {theirs} holds numbers that are too large or not numbers.")
        return packed

    write_gguf(
        path,
        shape,
        vocabulary,
        name=source.folder.name,
        quant="F16",
        kind=plain_kind,
        content=content,
        written=lambda done: report(FetchProgress(label, done, total)),
    )


def rotary_pairs(weight: NDArray[Any], heads: int) -> NDArray[Any]:
    """From transformers' order of a head's rows (first half, second half) to llama.cpp's (rotated
    pairs adjacent): `permute` in llama.cpp's convert_hf_to_gguf.py, the inverse of gguf.py's."""
    rows = weight.shape[0] // heads // 2
    return weight.reshape(heads, 2, rows, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def _check_space(target: Path, shape: LlamaShape, quant: str) -> None:
    needed = shape.gguf_bytes("F16") + (shape.gguf_bytes(quant) if quant != "F16" else 0)
    if problem := space_problem(target.parent, needed):
        raise BackendError(f"{target.name} cannot be made: {problem}.")
