"""The answer that is being generated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minigpt4.core.worker.messages import TextDelta

REASONING = "reasoning"
"""The key, in a message's stats, of the model's reasoning before the answer."""


def reasoning_of(stats: Mapping[str, float | int | str]) -> dict[str, str]:
    """The part of a message's stats that holds its reasoning; empty if there is none."""
    reasoning = stats.get(REASONING)
    return {REASONING: reasoning} if isinstance(reasoning, str) and reasoning else {}


@dataclass
class Answering:
    """`text` includes the part before it was continued."""

    request: str
    message: str
    text: str
    flushed_at: float
    reasoning: str = ""
    unflushed: bool = False
    phase: str = "prefill"

    def add(self, delta: TextDelta) -> None:
        """Append more of the answer, or of what precedes it."""
        if delta.is_reasoning:
            self.reasoning += delta.text
        else:
            self.text += delta.text
            self.unflushed = True

    @property
    def stats(self) -> dict[str, str]:
        """The part of its message's stats that it provides."""
        return reasoning_of({REASONING: self.reasoning})
