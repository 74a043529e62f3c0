"""The settings screen tells, beside "auto", the value that holds, and where a value comes from."""

from __future__ import annotations

from typing import Any

import pytest

from minigpt4.core.worker.messages import Ready
from minigpt4.tui.images.terminal_protocol import picture_protocol
from minigpt4.tui.screens.settings import SettingsScreen

Play = Any

CHOICES = {"backend": "torch", "device": "cuda", "quant": "nf4", "threads": "6", "gpu_layers": "all"}


async def open_settings(on: Any) -> SettingsScreen:
    await on.pilot.press("f4")
    await on.until(lambda: isinstance(on.app.screen, SettingsScreen))
    screen = on.app.screen
    assert isinstance(screen, SettingsScreen)
    return screen


def row(screen: SettingsScreen, key: str) -> str:
    return " ".join(str(screen.rows.get_option(key).prompt).split())


async def test_what_the_engine_chose_stands_beside_auto_as_soon_as_it_is_known(play: Play) -> None:
    async with play(loads=False) as on:
        screen = await open_settings(on)
        assert row(screen, "device") == "device auto", "the model is still being loaded"
        assert row(screen, "context") == "context auto"
        on.engine.on_event(Ready("mini", "torch", 2048, 9, 0.2, CHOICES))
        await on.until(lambda: row(screen, "device") == "device auto (cuda)")
        assert row(screen, "backend") == "backend auto (torch)"
        assert row(screen, "quant") == "quant auto (nf4)"
        assert row(screen, "threads") == "threads auto (6)"
        assert row(screen, "gpu_layers") == "gpu layers auto (all)"
        assert row(screen, "context") == "context auto (2048)"


async def test_what_was_chosen_for_another_model_is_not_told_of_this_one(play: Play) -> None:
    async with play(loads=False) as on:
        on.engine.on_event(Ready("another", "torch", 2048, 9, 0.2, CHOICES))
        await on.until(lambda: on.app.engine.state == "ready")
        assert row(await open_settings(on), "device") == "device auto"


async def test_the_bundles_own_sampling_stands_beside_auto(play: Play) -> None:
    async with play() as on:
        screen = await open_settings(on)
        assert row(screen, "temperature") == "temperature auto (0.0)"
        assert row(screen, "max_tokens") == "max tokens auto (200)"
        assert row(screen, "top_p") == "top p auto (0.9)"
        assert row(screen, "seed") == "seed auto (another each time)"


async def test_how_pictures_are_drawn_stands_beside_auto(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMUX", raising=False)
    monkeypatch.setenv("KITTY_WINDOW_ID", "1")
    async with play() as on:
        screen = await open_settings(on)
        assert row(screen, "images") == "images auto (kitty)"
        await on.pilot.press("escape")
        monkeypatch.delenv("KITTY_WINDOW_ID")
        monkeypatch.setenv("TERM", "linux")
        assert row(await open_settings(on), "images") == f"images auto ({picture_protocol('auto')})"
        assert picture_protocol("auto") != "kitty"


@pytest.mark.parametrize(("wide", "state"), [(80, "closed"), (120, "open")])
async def test_whether_the_list_is_shown_stands_beside_auto(play: Play, wide: int, state: str) -> None:
    async with play({"sidebar": "auto"}, size=(wide, 30)) as on:
        assert row(await open_settings(on), "sidebar").startswith(f"sidebar auto ({state})")


async def test_a_value_that_was_set_stands_alone_with_its_origin(play: Play) -> None:
    async with play({"device": "cpu", "threads": 2, "images": "off"}) as on:
        screen = await open_settings(on)
        assert row(screen, "device") == "device cpu the command line"
        assert row(screen, "threads") == "threads 2 the command line"
        assert row(screen, "images") == "images off the command line"


async def test_auto_from_the_command_line_tells_value_and_origin(play: Play) -> None:
    async with play({"device": "auto"}, loads=False) as on:
        screen = await open_settings(on)
        on.engine.on_event(Ready("mini", "torch", 2048, 9, 0.2, CHOICES))
        await on.until(lambda: row(screen, "device") == "device auto (cuda) the command line")
