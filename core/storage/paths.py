"""The user's data, cache and configuration folders, or everything under MINIGPT4_HOME."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

HOME_VARIABLE = "MINIGPT4_HOME"


def data_home() -> Path:
    """Downloaded model files."""
    return _under_home("data") or platformdirs.user_data_path("minigpt4", appauthor=False)


def cache_home() -> Path:
    """Files that can be recreated: converted weights, image embeddings."""
    return _under_home("cache") or platformdirs.user_cache_path("minigpt4", appauthor=False)


def config_home() -> Path:
    """The user's own bundles, themes and settings."""
    return _under_home("config") or platformdirs.user_config_path("minigpt4", appauthor=False)


def _under_home(folder: str) -> Path | None:
    home = os.environ.get(HOME_VARIABLE)
    return Path(home).expanduser().absolute() / folder if home else None
