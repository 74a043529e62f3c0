"""The updates that a conversation sends to the screen."""

from __future__ import annotations

from dataclasses import dataclass

from minigpt4.tui.history.store import StoredMessage


@dataclass(frozen=True)
class PathOpened:
    """Another path is shown; `landing` is the message to scroll to, None for the end."""

    landing: str | None = None


@dataclass(frozen=True)
class MessageAdded:
    """A message was added at the end of the path."""

    message: StoredMessage


@dataclass(frozen=True)
class TextAdded:
    """More text of the answer being generated, or of the reasoning before it, with the timings so far."""

    message: str
    text: str
    first_token_s: float | None = None
    tokens_per_s: float | None = None
    is_reasoning: bool = False


@dataclass(frozen=True)
class MessageChanged:
    """A message's state changed, and perhaps its text."""

    message: StoredMessage


@dataclass(frozen=True)
class PhaseChanged:
    """What the engine computes for the answer: encode, prefill or decode; None when it is idle."""

    phase: str | None


@dataclass(frozen=True)
class UsageChanged:
    """Context positions used by the conversation, and how many messages do not fit."""

    positions: int
    context: int
    dropped: int


Update = PathOpened | MessageAdded | TextAdded | MessageChanged | PhaseChanged | UsageChanged
