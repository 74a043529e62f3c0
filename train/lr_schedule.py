"""The learning rate of every step."""

from __future__ import annotations

import math

from minigpt4.train.recipe import Recipe


def learning_rate_at(step: int, recipe: Recipe) -> float:
    """The learning rate of a step (from 0): a line up to the peak, then a cosine down to the floor.

    With `cosine_over` "all" it is that of LinearWarmupCosineLRScheduler in Vision-CAIR/MiniGPT-4
    (common/optims.py), whose cosine counts from the first step: stage 1 falls from 9.9998e-5 to
    9.7071e-5 where its warm-up ends.
    """
    peak, warmup = recipe.learning_rate, recipe.warmup_steps
    if step < warmup:
        return recipe.warmup_rate + (peak - recipe.warmup_rate) * step / warmup
    begin = 0 if recipe.cosine_over == "all" else warmup
    progress = (step - begin) / max(1, recipe.steps - begin)
    return recipe.floor_rate + (peak - recipe.floor_rate) * 0.5 * (1 + math.cos(math.pi * progress))
