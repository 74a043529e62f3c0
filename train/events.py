"""What a training run tells whoever watches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class FeaturesMissing:
    """Features of `photos` photos are about to be computed once and kept, in `bytes` bytes of cache."""

    photos: int
    views: int
    bytes: int


@dataclass(frozen=True)
class FeaturesMade:
    """`done` of the missing `total` views have been looked at, so far or at last."""

    done: int
    total: int


@dataclass(frozen=True)
class PhotoLeftOut:
    """A photo that cannot be learnt from, and why."""

    source: str
    key: str
    reason: str


@dataclass(frozen=True)
class ModelLoading:
    """The features are there; the language model is being loaded."""


@dataclass(frozen=True)
class TrainingBegun:
    """Steps `first` to `last` are about to be made, of photos drawn from `photos`."""

    first: int
    last: int
    photos: int


@dataclass(frozen=True)
class StepDone:
    """One optimiser step; `loss` is per label token, in nats, before the step."""

    step: int
    loss: float
    lr: float
    grad_norm: float
    samples_per_s: float
    label_tokens: int


@dataclass(frozen=True)
class Validated:
    """The loss per label token on photos that are never learnt from, after `step` steps."""

    step: int
    val_loss: float


@dataclass(frozen=True)
class Saved:
    """Everything needed to go on from `step` has been written."""

    step: int


Event = (
    FeaturesMissing
    | FeaturesMade
    | PhotoLeftOut
    | ModelLoading
    | TrainingBegun
    | StepDone
    | Validated
    | Saved
)
Report = Callable[[Event], None]
