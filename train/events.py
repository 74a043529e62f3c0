"""What a training run tells whoever watches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class PhotosFetched:
    """`done` of `total` bytes of a set's shards have come from the web."""

    source: str
    done: int
    total: int


@dataclass(frozen=True)
class PhotosRead:
    """What `done` of a set's `total` shards or files hold is known."""

    source: str
    done: int
    total: int


@dataclass(frozen=True)
class FeaturesStale:
    """The cache's features of this source are of other photos, views or another tower: `changed` says
    which. They stay in `folder`, unused, and those that fit are made."""

    source: str
    changed: str
    folder: str


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
    """One optimiser step, over all processes; `loss` is per label token, in nats, before the step."""

    step: int
    loss: float
    lr: float
    grad_norm: float
    samples_per_s: float
    label_tokens: int
    data_wait: float = 0.0
    """The share of the step's time that was spent waiting for photos, 0 to 1."""

    mfu: float | None = None
    """The share of the device's arithmetic that useful tokens took (model FLOPs utilisation, 0 to 1);
    None where the device's peak is not known."""

    memory: int = 0
    """Most bytes held so far: of the GPU where there is one, else of the process."""

    left_out: int = 0
    """Photos of this step that could not be learnt from."""


@dataclass(frozen=True)
class Validated:
    """The loss per label token on photos that are never learnt from, after `step` steps."""

    step: int
    val_loss: float


@dataclass(frozen=True)
class Answer:
    """What the model answers about one photo while it learns."""

    key: str
    question: str
    answer: str


@dataclass(frozen=True)
class Sampled:
    """Answers about the same few photos every time, after `step` steps."""

    step: int
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Saved:
    """Everything needed to go on from `step` has been written."""

    step: int


@dataclass(frozen=True)
class Note:
    """Something that happened once, in one sentence."""

    sentence: str


Event = (
    PhotosFetched
    | PhotosRead
    | FeaturesStale
    | FeaturesMissing
    | FeaturesMade
    | PhotoLeftOut
    | ModelLoading
    | TrainingBegun
    | StepDone
    | Validated
    | Sampled
    | Saved
    | Note
)
Report = Callable[[Event], None]
