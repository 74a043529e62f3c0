"""The updates that a conversation sends to the screen.

Named tuples and not dataclasses, which take 2 ms longer to define before the first frame.
"""

from __future__ import annotations

from typing import NamedTuple

from minigpt4.tui.history.store import StoredMessage


class PathOpened(NamedTuple):
    """Another path is shown; `landing` is the message to scroll to, None for the end."""

    landing: str | None = None


class MessageAdded(NamedTuple):
    """A message was added at the end of the path."""

    message: StoredMessage


class TextAdded(NamedTuple):
    """More text of the answer being generated, or of the reasoning before it, with the timings so far."""

    message: str
    text: str
    first_token_s: float | None = None
    tokens_per_s: float | None = None
    is_reasoning: bool = False


class MessageChanged(NamedTuple):
    """A message's state changed, and perhaps its text."""

    message: StoredMessage


class PhaseChanged(NamedTuple):
    """What the engine computes for the answer: encode, prefill or decode; None when it is idle."""

    phase: str | None


class UsageChanged(NamedTuple):
    """Context positions used by the conversation, and how many messages do not fit."""

    positions: int
    context: int
    dropped: int


Update = PathOpened | MessageAdded | TextAdded | MessageChanged | PhaseChanged | UsageChanged
