"""The paper's figures for the scores of the suites, from paper.toml."""

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
    """The figure of the 13B model, after both stages."""

    blip2: float | None = None
    pictures: int = 0
    """How many pictures it asked about; 0 if that does not follow from the data."""

    before_stage_2: float | None = None
    """The figure of MiniGPT-4 after the first stage alone."""


@dataclass(frozen=True)
class PaperCuration:
    """The amounts of the paper's curation for stage 2."""

    pictures: int
    """Pictures described by the model of stage 1."""

    kept: int
    """Approximate number left after filters and human review."""


@dataclass(frozen=True)
class _File:
    figure: tuple[PaperFigure, ...]
    curation: PaperCuration


def paper_figures() -> tuple[PaperFigure, ...]:
    """All figures of scores, in the file's order."""
    return _file().figure


def paper_curation() -> PaperCuration:
    """The figures of the paper's curation."""
    return _file().curation


def paper_figure(suite: str, score: str) -> float | None:
    """MiniGPT-4's figure in the paper; None for a score that the paper does not have."""
    figures = (one.minigpt4 for one in paper_figures() if (one.suite, one.score) == (suite, score))
    return next(figures, None)


@cache
def _file() -> _File:
    return read(_File, load_toml(FIGURES, "list of the paper's figures", DataError))
