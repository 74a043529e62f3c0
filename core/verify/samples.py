"""Samples of weights: enough to detect damage, few enough to read in seconds.

Tensors of up to WHOLE_BYTES are read whole, of larger ones SAMPLED_ROWS rows from first to last.
A Vicuna 13B then takes about 0.3 GB of reading instead of 26.
"""

from __future__ import annotations

import ctypes
import math
import mmap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.verify.finding import Check, State, listed
from minigpt4.core.weights.gguf.header import GgufHeader

if TYPE_CHECKING:
    from torch import Tensor

WHOLE_BYTES = 8 << 20
SAMPLED_ROWS = 64
MANY_EMPTY_ROWS = 0.25
"""A file with a hole from its download has many rows of zeros; a trained matrix has hardly any."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Statistics of the sampled rows of a tensor; the rows themselves are not kept."""

    name: str
    shape: tuple[int, ...]
    is_finite: bool
    empty_rows: float
    """The fraction of rows that are all zero."""

    magnitude: float
    """The mean of the absolute values that are finite; 0 if none is."""

    @classmethod
    def of(cls, name: str, shape: tuple[int, ...], rows_RW: NDArray[np.float32]) -> Sample:
        """The sample of a tensor's rows; a one-dimensional tensor is one row."""
        finite_RW = np.isfinite(rows_RW)
        sizes = np.abs(rows_RW if finite_RW.all() else rows_RW[finite_RW])
        return cls(
            name=name,
            shape=shape,
            is_finite=bool(finite_RW.all()),
            empty_rows=1 - float(rows_RW.any(axis=1).mean()),
            magnitude=float(sizes.mean(dtype=np.float64)) if sizes.size else 0.0,
        )


def tensor_samples(tensors: Mapping[str, Tensor], names: Iterable[str] | None = None) -> Iterator[Sample]:
    """Samples of the float tensors among all or `names`; each is read once and not kept."""
    for name in tensors if names is None else names:
        tensor = tensors[name]
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        shape = tuple(tensor.shape)
        rows = shape[0] if len(shape) > 1 and shape[0] > 1 else 1
        flat_RW = tensor.detach().reshape(rows, -1)
        size = tensor.numel() * tensor.element_size()
        chosen = _chosen(rows, size)
        if len(chosen) < rows:
            _read_scattered(tensor.data_ptr(), size)
        picked_RW = flat_RW if len(chosen) == rows else flat_RW[chosen.tolist()]
        yield Sample.of(name, shape, picked_RW.float().numpy())


def gguf_samples(path: Path, header: GgufHeader) -> Iterator[Sample]:
    """Samples of a GGUF's tensors, dequantised.

    Raises NotImplementedError for a type that the `gguf` package cannot dequantise.
    """
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    mapped.madvise(mmap.MADV_RANDOM)
    content = np.frombuffer(mapped, dtype=np.uint8)
    for name, tensor in header.tensors.items():
        packed = content[tensor.start : tensor.start + tensor.length]
        rows_RB = packed.reshape(math.prod(tensor.shape[:-1]), -1)
        picked_RB = np.ascontiguousarray(rows_RB[_chosen(len(rows_RB), tensor.length)])
        rows_RW = dequantize(picked_RB, GGMLQuantizationType[tensor.kind]).astype(np.float32, copy=False)
        yield Sample.of(name, tensor.shape, rows_RW)


def _read_scattered(address: int, size: int) -> None:
    """Ask the kernel not to read ahead in a tensor that is mapped to its file.

    Without this, reading a few rows of each tensor reads the whole file: 13.5 GB of a 7B instead of 0.2.
    It is only a hint: if it is refused, or the tensor is not mapped, the rows are the same.
    """
    start = address - address % mmap.PAGESIZE
    length = ctypes.c_size_t(address + size - start)
    ctypes.CDLL(None).madvise(ctypes.c_void_p(start), length, mmap.MADV_RANDOM)


def _chosen(rows: int, size: int) -> NDArray[np.int64]:
    if size <= WHOLE_BYTES or rows <= SAMPLED_ROWS:
        return np.arange(rows)
    return np.linspace(0, rows - 1, SAMPLED_ROWS).astype(np.int64)


def weights_check(subject: str, samples: Sequence[Sample], advice: str) -> Check:
    """Whether no sampled value is NaN or infinite and no tensor is empty.

    A bias may be all zeros. `advice` ends the sentence about a problem.
    """
    weights = [sample for sample in samples if sample.is_finite and not sample.name.endswith("bias")]
    not_finite = [sample.name for sample in samples if not sample.is_finite]
    zero = [sample.name for sample in weights if sample.empty_rows == 1]
    holes = [sample.name for sample in weights if MANY_EMPTY_ROWS <= sample.empty_rows < 1]
    faults = [
        f"{len(names)} of {len(samples)} tensors {fault} ({listed(names)})"
        for names, fault in (
            (not_finite, "with values that are not finite (NaN or infinite)"),
            (zero, "all zero"),
            (holes, "with many rows of zeros"),
        )
        if names
    ]
    if faults:
        state: State = "problem" if not_finite or zero else "warning"
        return Check(subject, state, f"{', '.join(faults)}; {advice}.")
    return Check(subject, "ok", f"{len(samples)} tensors, none all zero, none with NaN or infinite values.")
