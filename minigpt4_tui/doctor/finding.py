"""What one check of `minigpt4 doctor` reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the report; `advice` says how to fix a warning or a problem."""

    name: str
    state: State
    detail: str
    advice: str = ""
