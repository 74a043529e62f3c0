"""What can go wrong while training, besides what is wrong with files."""

from __future__ import annotations

from minigpt4.core.errors import Minigpt4Error


class TrainingError(Minigpt4Error):
    """Training cannot go on."""


class TrainingElsewhereError(TrainingError):
    """Another process of the run has failed; its own words, as far as it left any."""
