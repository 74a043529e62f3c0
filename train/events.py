"""The events of a training run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class PhotosFetched:
    """`done` of `total` bytes of a set's shards have been downloaded."""

    source: str
    done: int
    total: int


@dataclass(frozen=True)
class PhotosRead:
    """`done` of a set's `total` shards or files have been indexed."""

    source: str
    done: int
    total: int


@dataclass(frozen=True)
class FeaturesStale:
    """The cached features of this source belong to other photos, crops or another tower, as `changed` says.

    They stay in `folder`, unused; the right ones are computed."""

    source: str
    changed: str
    folder: str


@dataclass(frozen=True)
class FeaturesMissing:
    """Features of `photos` photos are about to be computed and cached, in `bytes` bytes."""

    photos: int
    crops: int
    bytes: int


@dataclass(frozen=True)
class FeaturesComputed:
    """`done` of the `total` missing crops have been encoded."""

    done: int
    total: int


@dataclass(frozen=True)
class PhotoSkipped:
    """A photo that cannot be used, and why."""

    source: str
    key: str
    reason: str


@dataclass(frozen=True)
class ModelLoading:
    """The features are cached; the language model is being loaded."""


@dataclass(frozen=True)
class TrainingStarted:
    """Steps `first` to `last` are about to run, on samples of `photos` photos."""

    first: int
    last: int
    photos: int


@dataclass(frozen=True)
class StepDone:
    """One optimiser step, over all processes; `loss` is per label token, in nats, before the update."""

    step: int
    loss: float
    lr: float
    grad_norm: float
    samples_per_s: float
    label_tokens: int
    data_wait: float = 0.0
    """The fraction of the step's time spent waiting for data, 0 to 1."""

    mfu: float | None = None
    """Model FLOPs utilisation, 0 to 1; None if the device's peak is not known."""

    memory: int = 0
    """Peak bytes so far: of the GPU if there is one, else of the process."""

    left_out: int = 0
    """Samples of this step that were skipped; the name is a key of the log."""


@dataclass(frozen=True)
class Validated:
    """The loss per label token on the validation photos, after `step` steps."""

    step: int
    val_loss: float


@dataclass(frozen=True)
class Answer:
    """The model's answer about one photo during training."""

    key: str
    question: str
    answer: str


@dataclass(frozen=True)
class AnswersSampled:
    """Answers about the same few photos, after `step` steps."""

    step: int
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class CheckpointSaved:
    """A checkpoint from which the run can resume at `step` has been written."""

    step: int


@dataclass(frozen=True)
class Note:
    """A single occurrence, in one sentence."""

    sentence: str


Event = (
    PhotosFetched
    | PhotosRead
    | FeaturesStale
    | FeaturesMissing
    | FeaturesComputed
    | PhotoSkipped
    | ModelLoading
    | TrainingStarted
    | StepDone
    | Validated
    | AnswersSampled
    | CheckpointSaved
    | Note
)
Report = Callable[[Event], None]
