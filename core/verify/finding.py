"""The findings of a verification: one line for each check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Check:
    """One finding. `subject` names what was checked; if it is not ok, `text` says how to fix it."""

    subject: str
    state: State
    text: str
    value: float | None = None
    """The measured number, if any: a perplexity, or a loss in nats."""


def worst(checks: Sequence[Check]) -> State:
    """The state of the whole: problem, else warning, else ok."""
    states = {check.state for check in checks}
    return "problem" if "problem" in states else "warning" if "warning" in states else "ok"


def listed(names: Sequence[str]) -> str:
    """The first few of many names: "a, b, c and 4 more"."""
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
