"""The models screen: the list of bundles, downloads with progress and a stop, and switching."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Static

from minigpt4.core.bundles.bundle import Bundle, load_bundle, write_manifest
from minigpt4.core.bundles.source import Source
from minigpt4.core.download.fetch import is_present, missing
from minigpt4.core.storage.paths import config_home
from minigpt4.tui.models.background_download import RUNNING
from minigpt4.tui.models.bundle_info import all_bundles, bundle_info
from minigpt4.tui.screens.models import BundleScreen, ModelsScreen

Play = Any


@pytest.fixture(autouse=True)
def _no_fetch_is_left() -> Iterator[None]:
    yield
    for download in RUNNING.values():
        download.stop()
    RUNNING.clear()


def own_bundle(source: Source, content: bytes) -> Bundle:
    """Mini under the name `tiny`, each of its files being `content`, to be had from `source`."""
    mini = load_bundle("mini")

    def small(file: Any) -> Any:
        digest = hashlib.sha256(content).hexdigest()
        return replace(file, bytes=len(content), sha256=digest, sources=(source,))

    tiny = replace(
        mini,
        name="tiny",
        summary="Small [/] things",
        vision=replace(mini.vision, file=small(mini.vision.file)),
        language=replace(mini.language, files=(small(mini.language.files[0]),)),
    )
    write_manifest(tiny, config_home() / "bundles" / "tiny.toml")
    return load_bundle("tiny")


@pytest.fixture
def tiny(tmp_path: Path) -> Bundle:
    (tmp_path / "weights").write_bytes(b"weights")
    return own_bundle(Source(kind="path", path=tmp_path / "weights"), b"weights")


@pytest.fixture
def endless() -> Iterator[Bundle]:
    """A bundle whose source never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        yield own_bundle(Source(kind="url", url=f"http://127.0.0.1:{port}/weights"), b"weights")


async def open_models(on: Any, bundle: str = "") -> Any:
    await on.until(lambda: on.app.is_begun)
    on.app.action_models()
    await on.until(lambda: isinstance(on.app.screen, ModelsScreen) and on.app.screen.infos)
    screen = on.app.screen
    if bundle:
        rows = screen.query_one("#bundles")
        rows.highlighted = rows.get_option_index(bundle)
        await on.pilot.press("enter")
        await on.until(lambda: isinstance(on.app.screen, BundleScreen) and on.app.screen.query("#actions"))
        await on.pilot.pause()
    return on.app.screen


def actions(screen: Any) -> list[str]:
    return [row.id for row in screen.query_one("#actions").options]


async def choose(on: Any, action: str) -> None:
    rows = on.app.screen.query_one("#actions")
    rows.highlighted = rows.get_option_index(action)
    await on.pilot.press("enter")


async def test_all_bundles_are_listed_with_size_memory_and_state(tiny: Bundle, play: Play) -> None:
    async with play(size=(120, 40)) as on:
        screen = await open_models(on)
        lines = [str(row.prompt) for row in screen.query_one("#bundles").options]
        (line,) = [line for line in lines if "tiny" in line]
        assert "not here" in line
        assert "needs" in line and "GiB" in line
        assert any(line.startswith("● mini") for line in lines), "the one in use is marked"
        assert "Small [/] things" not in on.text()
        await on.pilot.press("end")
        await on.until(lambda: "Small [/] things" in on.text())


async def test_a_manifest_that_is_wrong_is_listed_and_says_why(play: Play) -> None:
    folder = config_home() / "bundles"
    folder.mkdir(parents=True)
    (folder / "odd.toml").write_text("summary = 3")
    async with play() as on:
        screen = await open_models(on)
        rows = screen.query_one("#bundles")
        rows.highlighted = rows.get_option_index("odd")
        await on.pilot.press("enter")
        await on.until(lambda: "odd.toml" in str(screen.query_one("#note", Static).render()))
        assert on.app.screen is screen


async def test_a_bundle_shows_its_parts_and_memory_by_quantisation(tiny: Bundle, play: Play) -> None:
    async with play(size=(120, 40)) as on:
        screen = await open_models(on, "tiny")
        assert actions(screen)[:3] == ["fetch", "use", "here"]
        assert {one for one in actions(screen) if one.startswith("quant:")} == {
            "quant:fp32",
            "quant:F16",
            "quant:Q4_1",
        }
        for word in ("efficientnet-lite2", "SmolLM2-135M-Instruct.Q4_1.gguf", "7 bytes", "llama.cpp"):
            assert word in on.text()


async def test_fetching_brings_every_file_and_says_so(tiny: Bundle, play: Play) -> None:
    async with play(size=(120, 40)) as on:
        await open_models(on, "tiny")
        await choose(on, "fetch")
        await on.until(lambda: not RUNNING and not missing(tiny), seconds=60)
        await on.until(lambda: actions(on.app.screen)[0] == "use", seconds=30)
        assert "✓ SmolLM2-135M-Instruct.Q4_1.gguf" in on.text()


async def test_what_cannot_be_fetched_is_reported(tiny: Bundle, play: Play, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"others!")
    reported: list[str] = []
    async with play() as on:
        on.app.say = lambda sentence, severity="": reported.append(f"{severity}: {sentence}")
        await open_models(on, "tiny")
        await choose(on, "fetch")
        await on.until(lambda: reported, seconds=60)
        assert reported[0].startswith("error: ")
        assert "SHA-256" in reported[0]
        assert not RUNNING


async def test_a_fetch_can_be_stopped_and_its_process_is_gone(endless: Bundle, play: Play) -> None:
    async with play(size=(120, 40)) as on:
        await open_models(on, "tiny")
        await choose(on, "fetch")
        await on.until(lambda: "stop" in actions(on.app.screen))
        download = RUNNING["tiny"]
        await on.until(lambda: download._process is not None)
        assert "which files are missing" in on.text()
        await choose(on, "stop")
        await on.until(lambda: not RUNNING)
        assert download._process is not None
        assert download._process.poll() is not None
        await on.until(lambda: "fetch" in actions(on.app.screen))


async def test_a_fetch_continues_while_no_screen_shows_it(endless: Bundle, play: Play) -> None:
    async with play(size=(120, 40)) as on:
        await open_models(on, "tiny")
        await choose(on, "fetch")
        await on.until(lambda: "stop" in actions(on.app.screen))
        await on.pilot.press("escape", "escape")
        await on.until(lambda: on.app.screen is on.app.chat)
        assert "tiny" in RUNNING
        screen = await open_models(on)
        lines = [str(row.prompt) for row in screen.query_one("#bundles").options]
        assert any("tiny" in line and "download" in line for line in lines)


async def test_a_fetch_ends_with_the_process_that_began_it(endless: Bundle, play: Play) -> None:
    async with play() as on:
        await open_models(on, "tiny")
        await choose(on, "fetch")
        await on.until(lambda: "tiny" in RUNNING)
        download = RUNNING["tiny"]
        await on.until(lambda: download._process is not None)
        assert download._process is not None
        process = download._process
        # What the system does when this process ends, however it does.
        assert process.stdin is not None
        process.stdin.close()
        await on.until(lambda: process.poll() is not None, seconds=60)


async def test_another_bundle_answers_without_a_restart(tiny: Bundle, play: Play) -> None:
    async with play() as on:
        await open_models(on, "tiny")
        await choose(on, "use")
        await on.until(lambda: on.app.screen is on.app.chat)
        assert on.engine.loaded[-1].bundle == "tiny"
        assert on.app.loaded.settings.bundle == "tiny"
        assert 'bundle = "tiny"' in (config_home() / "settings.toml").read_text()


async def test_a_bundle_for_this_conversation_alone_leaves_the_file_alone(tiny: Bundle, play: Play) -> None:
    async with play() as on:
        await open_models(on, "tiny")
        await choose(on, "here")
        await on.until(lambda: on.engine.loaded[-1].bundle == "tiny")
        assert on.app.conversation.own_settings["bundle"] == "tiny"
        assert on.app.loaded.settings.bundle == "mini"


async def test_a_quantisation_brings_its_backend_along(tiny: Bundle, play: Play) -> None:
    async with play() as on:
        await open_models(on, "tiny")
        await choose(on, "quant:Q4_1")
        await on.until(lambda: on.engine.loaded[-1].bundle == "tiny")
        assert (on.engine.loaded[-1].backend, on.engine.loaded[-1].quant) == ("llamacpp", "auto")


def test_info_tells_what_is_here(tiny: Bundle) -> None:
    assert bundle_info(tiny).state == "absent"
    assert not any(is_present(file, tiny) for file in tiny.files)
    assert {info.name for info in all_bundles()} >= {"mini", "tiny"}
