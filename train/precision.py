"""The float type in which the frozen language model computes while the projection is trained."""

from __future__ import annotations

from minigpt4.core.dtypes import SMALL_BYTES, has_amx
from minigpt4.train.recipe import Precision


def precision_on(device: str, precision: Precision, float32_bytes: int) -> Precision:
    """A recipe's precision as `device` computes it: bfloat16 in float32 on a CPU without AMX.

    float32 is faster there: mini's matrix products run 5 times as fast with AVX2, and 1.8 times (290 against
    163 GFLOP/s, two cores) with AVX512-BF16, where a step of 16 photos takes 3.3 s instead of 5.1. Weights of
    more than 2 GiB in float32 stay in bfloat16 to save memory.
    """
    is_slow = device == "cpu" and precision == "bf16" and not has_amx()
    return "fp32" if is_slow and float32_bytes <= SMALL_BYTES else precision
