"""What can be looked at of a run: its curves, each with its words and what is drawn of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minigpt4.train.run.log import Curve, RunLog


@dataclass(frozen=True)
class View:
    """A curve of every run. `is_exact`: it does not jump about, and is drawn as it is."""

    id: str
    name: str
    about: str
    text: Callable[[float], str]
    curve: Callable[[RunLog], Curve]
    marks: Callable[[RunLog], Curve] | None = None
    """Measured now and then: drawn as single points."""

    is_exact: bool = False
    is_from_zero: bool = True


VIEWS: tuple[View, ...] = (
    View(
        "loss",
        "loss",
        "loss per token, in nats",
        "{:.3f}".format,
        lambda log: log.loss,
        lambda log: log.val_loss,
        is_from_zero=False,
    ),
    View("rate", "learning rate", "learning rate", "{:.2e}".format, lambda log: log.lr, is_exact=True),
    View("gradient", "gradient", "norm of the gradient", "{:.3g}".format, lambda log: log.grad_norm),
    View(
        "speed", "photos/s", "photos learnt from in a second", "{:.1f}".format, lambda log: log.samples_per_s
    ),
)

ANSWERS = "answers"
"""The id of the view that is no curve."""
