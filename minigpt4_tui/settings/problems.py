"""Checks the settings, including that the theme and the bundle they name exist."""

from __future__ import annotations

from collections.abc import Iterator

from minigpt4.core.errors import BundleError, UsageError
from minigpt4.tui.settings.keys import bindings
from minigpt4.tui.settings.settings import load_settings


def settings_problems() -> Iterator[str]:
    """The errors in the settings, their keys and the names in them."""
    from minigpt4.core.bundles.bundle import load_bundle
    from minigpt4.themes import ThemeError, load_theme

    loaded = load_settings()
    yield from loaded.problems
    yield from bindings(loaded.settings.keys).clashes
    try:
        load_theme(loaded.settings.theme)
    except (ThemeError, UsageError) as problem:
        yield str(problem)
    try:
        load_bundle(loaded.settings.bundle)
    except (BundleError, UsageError) as problem:
        yield f"bundle = '{loaded.settings.bundle}' cannot be used: {problem}"
