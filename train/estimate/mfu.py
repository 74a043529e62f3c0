"""Which share of their devices' arithmetic a run's processes turn into learning (MFU)."""

from __future__ import annotations

from collections.abc import Callable

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.errors import BundleError
from minigpt4.train.distributed.process_group import ProcessGroup
from minigpt4.train.estimate.estimate import this_device
from minigpt4.train.estimate.flops import DEVICES, Work, arithmetic_of
from minigpt4.train.recipe import Recipe

Utilisation = Callable[[Work, float], float | None]


def utilisation_of(recipe: Recipe, bundle: Bundle, process_group: ProcessGroup) -> Utilisation:
    """Tells the share, from all processes' useful work and the seconds that it took.

    The peak is the data sheet's for a known GPU, else what a matrix product reaches here and now. It
    is None where the bundle's sizes are not known.
    """
    try:
        arithmetic = arithmetic_of(bundle, trains_qformer=recipe.qformer == "trained")
    except BundleError:
        return lambda _work, _seconds: None
    here = this_device()
    peak = next((one.peak for name, one in DEVICES.items() if name in here.name), here.peak)
    return lambda work, seconds: arithmetic.of(work) / (peak * process_group.world_size * seconds)
