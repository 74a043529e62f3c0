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
    pictures: int = 0
    """How many it asked about; 0 where that does not follow from the data."""

    before_stage_2: float | None = None
    """Of MiniGPT-4 after the first stage alone."""


@dataclass(frozen=True)
class PaperCuration:
    """How the paper's data of stage 2 came about."""

    pictures: int
    """Described by the model of stage 1."""

    kept: int
    """After filters and people, about."""


@dataclass(frozen=True)
class _File:
    figure: tuple[PaperFigure, ...]
    curation: PaperCuration


def paper_figures() -> tuple[PaperFigure, ...]:
    """All figures of scores, in the file's order."""
    return _file().figure


def paper_curation() -> PaperCuration:
    """The amounts of the curation."""
    return _file().curation


def paper_figure(suite: str, score: str) -> float | None:
    """What MiniGPT-4 reaches in the paper; None for a score that the paper does not have."""
    figures = (one.minigpt4 for one in paper_figures() if (one.suite, one.score) == (suite, score))
    return next(figures, None)


@cache
def _file() -> _File:
    return read(_File, load_toml(FIGURES, "list of the paper's figures", DataError))
