"""In which float type the frozen language model computes while the projection is trained."""

from __future__ import annotations

from minigpt4.core.dtypes import SMALL_BYTES, has_bf16
from minigpt4.train.recipe import Precision


def precision_on(device: str, precision: Precision, float32_bytes: int) -> Precision:
    """A recipe's precision as `device` computes it: bfloat16 in float32 where a CPU cannot multiply it.

    There it is the faster type: of mini's matrix products 5 times (AVX2, two cores). Weights of more
    than 2 GiB in float32 stay as they are, as memory is what they lack.
    """
    is_slow = device == "cpu" and precision == "bf16" and not has_bf16()
    return "fp32" if is_slow and float32_bytes <= SMALL_BYTES else precision
