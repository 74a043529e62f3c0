"""Choose the float type that a vision tower computes in, without importing torch.

A fingerprint needs it for a cached picture, for which torch is not imported at all.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from minigpt4.core.errors import UsageError

AUTO = "auto"
SPELLINGS = {
    "fp32": "fp32",
    "float32": "fp32",
    "bf16": "bf16",
    "bfloat16": "bf16",
    "fp16": "fp16",
    "float16": "fp16",
}
"""Our names, and torch's for the same types."""

BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
"""Processors without either multiply bfloat16 by way of float32, slower than float32 itself."""

SMALL_BYTES = 2 << 30
"""A CPU computes with a language model's weights of up to this size in float32 by default."""

CPU_INFO = Path("/proc/cpuinfo")


def default_dtype(device: str) -> str:
    """The name of the type that is fast and safe on `device` ("cpu", "cuda" or "cuda:0").

    float16 on CUDA as in the original; on a CPU bfloat16 if it has instructions for it, else float32.
    """
    if device.startswith("cuda"):
        return "fp16"
    return "bf16" if has_bf16() else "fp32"


def dtype_for(name: str, device: str) -> str:
    """`name` as one of fp32, bf16, fp16; "auto" is `device`'s default. Raises UsageError for others."""
    if name == AUTO:
        return default_dtype(device)
    if name not in SPELLINGS:
        raise UsageError(f"There is no float type '{name}'; choose {AUTO}, fp32, bf16 or fp16.")
    return SPELLINGS[name]


def has_bf16() -> bool:
    """Whether this processor multiplies bfloat16 itself."""
    return not BF16_FLAGS.isdisjoint(_cpu_flags())


def has_amx() -> bool:
    """Whether it multiplies whole tiles of bfloat16, which is faster than float32 for any size of matrix."""
    return "amx_bf16" in _cpu_flags()


@cache
def _cpu_flags() -> frozenset[str]:
    try:
        facts = CPU_INFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    return frozenset(next((line for line in facts.splitlines() if line.startswith("flags")), "").split())
