"""A shipped manifest with one passage replaced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from minigpt4.core.bundles.bundle import SHIPPED_BUNDLES
from minigpt4.core.storage.paths import config_home

Edit = Callable[[str, str], Path]


@pytest.fixture
def edited() -> Edit:
    """Writes mini's manifest as the user's bundle `mine`, with one passage replaced."""
    return lambda old, new: _write("mini", old, new)


@pytest.fixture
def edited_vicuna() -> Edit:
    """As `edited`, of minigpt4-vicuna-7b."""
    return lambda old, new: _write("minigpt4-vicuna-7b", old, new)


def _write(bundle: str, old: str, new: str) -> Path:
    text = (SHIPPED_BUNDLES / f"{bundle}.toml").read_text(encoding="utf-8")
    assert old in text
    manifest = config_home() / "bundles" / "mine.toml"
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(text.replace(old, new, 1), encoding="utf-8")
    return manifest
