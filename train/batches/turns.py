"""Conversations of several turns: which questions about a photo come before another one."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from minigpt4.train.captions.questions import QuestionAnswer, Turns

TURNS_BEFORE = (1, 1, 1, 2, 2, 3)
"""How many turns come before a follow-up question, each as often as it stands here. A model that only ever
saw first questions answers the second without the picture: mini said "no" to each of 110 of them."""


def draw_earlier(examples: Sequence[QuestionAnswer], share: float, rng: Random) -> tuple[Turns, ...]:
    """What comes before each example: for `share` of them other examples of the photo, else nothing.

    Makes no draw if `share` is 0: the losses of earlier recipes stay the same.
    """
    if not share:
        return ()
    return tuple(_before(number, examples, share, rng) for number in range(len(examples)))


def _before(number: int, examples: Sequence[QuestionAnswer], share: float, rng: Random) -> Turns:
    if rng.random() >= share:
        return ()
    others = [*examples[:number], *examples[number + 1 :]]
    return tuple(rng.sample(others, min(len(others), rng.choice(TURNS_BEFORE))))
