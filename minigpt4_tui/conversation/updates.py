"""What a conversation tells whoever draws it."""

from __future__ import annotations

from dataclasses import dataclass

from minigpt4.tui.history.store import StoredMessage


@dataclass(frozen=True)
class Opened:
    """Another path is on the screen; `landing` is the message to look at, None for the end."""

    landing: str | None = None


@dataclass(frozen=True)
class Added:
    """A message came to the end of the path."""

    message: StoredMessage


@dataclass(frozen=True)
class Grew:
    """The answer being written has more text, and how quick it is up to here, where that is known."""

    message: str
    piece: str
    first_token_s: float | None = None
    tokens_per_s: float | None = None


@dataclass(frozen=True)
class Changed:
    """A message's state changed (its text may have, too)."""

    message: StoredMessage


@dataclass(frozen=True)
class Phased:
    """What the engine does for the answer: looking, thinking, writing; None when nothing is asked of it."""

    phase: str | None


@dataclass(frozen=True)
class Measured:
    """How much of the context the conversation fills, and how many of its messages do not fit."""

    positions: int
    context: int
    dropped: int


Change = Opened | Added | Grew | Changed | Phased | Measured
