"""This machine's memory bandwidth and FLOP/s, measured briefly, and how much of them a bundle needs."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from minigpt4.tui.bench.figures import Figure

if TYPE_CHECKING:
    import torch

    from minigpt4.core.bundles.bundle import Bundle

COPIED = 1 << 28
"""Bytes of the copy that measures bandwidth: more than any processor's cache."""

SIDE = 2048
"""Side of the square float32 matrices whose product measures FLOP/s."""

REPEATS = 5


@dataclass(frozen=True)
class Machine:
    """A device, and the best of a few short measurements on it."""

    device: str
    processor: str
    bandwidth: float
    """Bytes read and written per second by a large copy."""

    arithmetic: float
    """Floating-point operations per second of a float32 matrix product."""


@dataclass(frozen=True)
class Needs:
    """The least memory traffic and arithmetic that a bundle requires."""

    weight_bytes: int
    """Bytes of the language model's weights."""

    weights: int
    """Weights of the language model, without embedding rows that a position does not read."""

    look_operations: int
    """Floating-point operations of encoding a picture."""

    def limit(self, figure: Figure, machine: Machine) -> float | None:
        """The figure's value if only the models' arithmetic and memory traffic took time.

        None for a figure that needs neither. A decoded token reads every weight once, and so does loading; a
        prompt position takes one multiply-add per weight.
        """
        reading = self.weight_bytes / machine.bandwidth
        position = 2 * self.weights / machine.arithmetic
        match figure.name:
            case "load":
                return reading
            case "decode":
                return 1 / reading
            case "prefill":
                return 1 / position
        prompt = max(figure.positions * position, reading) if figure.positions else 0
        return prompt + figure.looks * self.look_operations / machine.arithmetic or None


def measured(device: str, threads: int | None) -> Machine:
    """Measure the device, `cpu` or `cuda`; takes about a second on two cores."""
    import torch

    from minigpt4.core.cores import use_torch_threads

    use_torch_threads(threads)
    where = torch.device("cuda" if device.startswith("cuda") and torch.cuda.is_available() else "cpu")
    copy, product = _copy_s(where), _product_s(where)
    name = torch.cuda.get_device_name() if where.type == "cuda" else processor_name()
    return Machine(where.type, name, 2 * COPIED / copy, 2 * SIDE**3 / product)


def _copy_s(where: torch.device) -> float:
    import torch

    source = torch.ones(COPIED // 4, device=where)
    target = torch.empty_like(source)
    return _best(lambda: target.copy_(source), where.type)


def _product_s(where: torch.device) -> float:
    import torch

    one, other = (torch.ones(SIDE, SIDE, device=where) for _ in range(2))
    return _best(lambda: one @ other, where.type)


def needs_of(bundle: Bundle, quant: str, look_operations: int) -> Needs | None:
    """The needs of a bundle in a quantisation; None if its language model's size is not known."""
    from minigpt4.core.memory import geometry_of, memory_needed

    geometry = geometry_of(bundle)
    size = memory_needed(bundle, quant).get("language model", 0)
    if geometry is None or not size:
        return None
    width = bundle.language.width
    key_share = (geometry.key_value_heads or geometry.heads) / geometry.heads
    layer = width * width * (2 + 2 * key_share) + 3 * width * geometry.mlp
    weights = round(geometry.layers * layer + geometry.vocabulary * width)
    return Needs(size, weights, look_operations)


def processor_name() -> str:
    """The processor's name as the system reports it."""
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _best(action: Callable[[], object], device: str) -> float:
    """Seconds of the fastest run."""
    import torch

    seconds = []
    for _ in range(REPEATS + 1):
        begun = time.perf_counter()
        action()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    return min(seconds[1:])
