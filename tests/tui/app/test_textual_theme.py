"""Themes on the screen: no file stops the app, and an edit is shown while it runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.app import App, ComposeResult
from textual.color import Color
from textual.widgets import Button, Footer, Input, Markdown

from minigpt4.themes import Theme, ThemeError, load_theme, own_themes_folder, theme_names
from minigpt4.tui.textual_theme import contrast_problems, readings, register_theme_file, textual_theme


class Sample(App[None]):
    """Widgets that use most of a theme's variables."""

    def compose(self) -> ComposeResult:
        yield Markdown("# One\n\n[two](https://example.org) `three`")
        yield Input("four")
        yield Button("five", variant="primary")
        yield Footer()


def write(text: str, name: str = "mine") -> Path:
    own_themes_folder().mkdir(parents=True, exist_ok=True)
    path = own_themes_folder() / f"{name}.toml"
    path.write_text(f'name = "{name}"\nprimary = "#123456"\n{text}')
    return path


async def test_every_shipped_theme_can_be_shown() -> None:
    app = Sample()
    async with app.run_test() as pilot:
        for name in theme_names():
            assert register_theme_file(app, name) == ""
            app.theme = name
            await pilot.pause()
            background = load_theme(name).background
            assert background is not None
            if not load_theme(name).ansi:
                assert app.screen.styles.background == Color.parse(background)


async def test_a_broken_theme_is_an_error_and_is_not_registered() -> None:
    path = write('[variables]\nborder = "blau"')
    app = Sample()
    problem = register_theme_file(app, "mine")
    assert str(path) in problem and "variables.border = 'blau' is not a colour" in problem
    assert "mine" not in app.available_themes


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"border": "blau"}, "variables.border = 'blau' is not a colour"),
        ({"primary-muted": "#123456 x%"}, "is not a colour"),
        ({"block-cursor-text-style": "fat"}, "variables.block-cursor-text-style = 'fat' is not a text style"),
        ({"footer-backgroun": "#123456"}, "did you mean 'footer-background'"),
    ],
)
def test_a_variable_that_would_stop_the_app_is_refused(variables: dict[str, str], message: str) -> None:
    with pytest.raises(ThemeError, match=message):
        textual_theme(Theme(name="mine", primary="#123456", variables=variables))


@pytest.mark.parametrize(
    "variables",
    [
        {"border": "#12345680"},
        {"border": "red 40%"},
        {"text-muted": "auto 70%"},
        {"link-background": "transparent"},
        {"link-style": "bold not underline"},
        {"some-thing-of-a-later-textual": "whatever"},
    ],
)
async def test_a_variable_that_is_accepted_can_be_shown(variables: dict[str, str]) -> None:
    app = Sample()
    app.register_theme(textual_theme(Theme(name="mine", primary="#123456", variables=variables)))
    async with app.run_test() as pilot:
        app.theme = "mine"
        await pilot.pause()


async def test_an_edited_theme_is_repainted_while_it_is_shown() -> None:
    path = write('background = "#101010"')
    app = Sample()
    register_theme_file(app, "mine")
    async with app.run_test() as pilot:
        app.theme = "mine"
        await pilot.pause()
        path.write_text(path.read_text().replace("#101010", "#202020ff"))
        assert register_theme_file(app, "mine") == ""
        await pilot.pause()
        assert app.theme == "mine"
        assert app.screen.styles.background == Color.parse("#202020")


async def test_an_invalid_edit_leaves_the_screen_unchanged() -> None:
    path = write('background = "#101010"')
    app = Sample()
    register_theme_file(app, "mine")
    async with app.run_test() as pilot:
        app.theme = "mine"
        for wrong in ('background = "#2"', '[variables]\nborder = "blau"'):
            write(wrong)
            assert str(path) in register_theme_file(app, "mine")
            await pilot.pause()
            assert app.theme == "mine"
            assert app.screen.styles.background == Color.parse("#101010")


def test_a_text_that_is_hard_to_read_is_reported() -> None:
    theme = Theme(name="mine", primary="#123456", background="#111111", foreground="#444444")
    assert any(
        "'foreground' on 'background' has a contrast of 1.9" in sentence
        for sentence in contrast_problems(theme)
    )


def test_a_transparent_text_color_is_blended_with_its_background() -> None:
    theme = Theme(
        name="mine",
        primary="#ffffff",
        background="#000000",
        surface="#000000",
        foreground="#ffffff",
        variables={"foreground-muted": "#ffffff 50%"},
    )
    (found,) = [
        one for one in readings(theme) if (one.text, one.ground) == ("foreground-muted", "background")
    ]
    assert found.ratio == pytest.approx(5.3, abs=0.1)
