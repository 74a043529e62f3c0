"""The shipped themes: enough of them, and every text of each can be read."""

from __future__ import annotations

import pytest

from minigpt4.themes import load_theme, theme_names
from minigpt4.tui.textual_theme import GROUNDS, READABLE, TEXTS, readings, textual_theme

SHIPPED = ("contrast", "ember", "frost", "harbour", "moss", "paper", "terminal")


def test_these_are_the_shipped_themes() -> None:
    assert tuple(theme_names()) == SHIPPED


def test_there_are_several_dark_and_several_light_ones() -> None:
    dark = [load_theme(name).dark for name in SHIPPED if name != "terminal"]
    assert dark.count(True) >= 3 and dark.count(False) >= 2


@pytest.mark.parametrize("name", SHIPPED)
def test_every_text_has_the_contrast_required_by_wcag(name: str) -> None:
    faint = [reading for reading in readings(load_theme(name)) if reading.ratio < READABLE]
    assert faint == []


@pytest.mark.parametrize("name", [name for name in SHIPPED if name != "terminal"])
def test_every_text_is_measured_on_every_ground(name: str) -> None:
    measured = {(reading.text, reading.ground) for reading in readings(load_theme(name))}
    assert {(text, ground) for text in TEXTS for ground in GROUNDS} <= measured


def test_the_theme_for_high_contrast_has_it_everywhere() -> None:
    assert min(reading.ratio for reading in readings(load_theme("contrast"))) >= 7  # WCAG 2.2, 1.4.6


def test_the_terminal_theme_has_only_ansi_colors() -> None:
    theme = load_theme("terminal")
    assert theme.ansi
    named = [theme.primary, theme.secondary, theme.accent, theme.success, theme.warning, theme.error]
    named += [theme.foreground, theme.background, theme.surface, theme.panel]
    named += [value for key, value in theme.variables.items() if not key.endswith("-style")]
    assert all(color is not None and color.startswith("ansi_") for color in named)


def test_plain_text_is_in_the_terminals_default_color() -> None:
    variables = textual_theme(load_theme("terminal")).to_color_system().generate()
    for name in ("foreground", "text", "text-muted", "link-color", "markdown-h1-color", "background"):
        assert variables[name] == "ansi_default", name
