"""What the paper measured, for the scores of the suites; the figures are in paper.toml."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from minigpt4.core.errors import DataError
from minigpt4.core.storage.dataclass_toml import load_toml, read

FIGURES = Path(__file__).with_name("paper.toml")


@dataclass(frozen=True)
class PaperFigure:
    """What the paper reports for a score."""

    suite: str
    score: str
    minigpt4: float
    """Of the 13B model, after both stages."""

    blip2: float | None = None
    before_stage_2: float | None = None
    """Of MiniGPT-4 after the first stage alone."""


@dataclass(frozen=True)
class _File:
    figure: tuple[PaperFigure, ...]


@cache
def paper_figures() -> tuple[PaperFigure, ...]:
    """All of them, in the file's order."""
    return read(_File, load_toml(FIGURES, "list of the paper's figures", DataError)).figure


def paper_figure(suite: str, score: str) -> float | None:
    """What MiniGPT-4 reaches in the paper; None for a score that the paper does not have."""
    figures = (one.minigpt4 for one in paper_figures() if (one.suite, one.score) == (suite, score))
    return next(figures, None)
