"""Errors of a training run, besides those of files and options."""

from __future__ import annotations

from minigpt4.core.errors import Minigpt4Error


class TrainingError(Minigpt4Error):
    """Training cannot continue."""


class PeerFailedError(TrainingError):
    """Another process of the run failed; with that process's error if it reported one."""
