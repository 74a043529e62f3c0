"""Over 1 GB is asked about before it is downloaded, and shown with a bar a file and one for all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from minigpt4.core.bundles.bundle import Bundle, load_bundle, write_manifest
from minigpt4.core.bundles.source import Source
from minigpt4.core.download import fetch
from minigpt4.core.download.fetch import FetchProgress, missing
from minigpt4.core.storage.paths import config_home, data_home
from minigpt4.tui.models.background_download import RUNNING, Download
from minigpt4.tui.screens import models
from minigpt4.tui.screens.models import BundleScreen, DownloadScreen, ModelsScreen
from minigpt4.tui.widgets.option_rows import OptionRows

Play = Any


@pytest.fixture(autouse=True)
def _no_fetch_is_left() -> Iterator[None]:
    yield
    for download in RUNNING.values():
        download.stop()
    RUNNING.clear()


@pytest.fixture(params=[True, False], ids=["size stated", "size asked for"])
def large(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """Mini as `large`, whose two files of 7 bytes count as much; the manifest may leave their size out."""
    weights = tmp_path / "weights"
    weights.write_bytes(b"weights")
    mini = load_bundle("mini-without-detector")

    def small(file: Any) -> Any:
        known = {"bytes": 7, "sha256": hashlib.sha256(b"weights").hexdigest()} if request.param else {}
        source = Source(kind="path", path=weights)
        return replace(file, **{"bytes": None, "sha256": None, **known}, sources=(source,))

    bundle = replace(
        mini,
        name="large",
        vision=replace(mini.vision, file=small(mini.vision.file)),
        language=replace(mini.language, files=(small(mini.language.files[0]),)),
    )
    write_manifest(bundle, config_home() / "bundles" / "large.toml")
    for module in (fetch, models):
        monkeypatch.setattr(module, "ASK_BYTES", 10)
    return load_bundle("large")


async def open_bundle(on: Any, name: str = "large") -> Any:
    on.app.action_models()
    await on.until(lambda: isinstance(on.app.screen, ModelsScreen) and on.app.screen.infos)
    rows = on.app.screen.query_one("#bundles")
    rows.highlighted = rows.get_option_index(name)
    await on.pilot.press("enter")
    await on.until(lambda: isinstance(on.app.screen, BundleScreen) and on.app.screen.query("#actions"))
    await on.pilot.pause()
    return on.app.screen


async def choose(on: Any, action: str) -> None:
    rows = on.app.screen.query_one("#actions")
    rows.highlighted = rows.get_option_index(action)
    await on.pilot.press("enter")
    await on.until(lambda: isinstance(on.app.screen, DownloadScreen))


async def test_it_is_asked_with_size_room_and_place_and_not_begun_without_a_yes(
    large: Bundle, play: Play
) -> None:
    async with play(size=(120, 40)) as on:
        screen = await open_bundle(on)
        await choose(on, "fetch")
        await on.until(lambda: "14 bytes in 2 files" in on.text())
        assert "free" in on.text() and str(data_home())[:30] in on.text().replace("\n", "")
        assert on.app.screen.query_one(OptionRows).chosen == "no"
        await on.pilot.press("enter")
        await on.until(lambda: on.app.screen is screen)
        await choose(on, "fetch")
        await on.pilot.press("escape")
        await on.until(lambda: on.app.screen is screen)
        assert not RUNNING and len(missing(large)) == 2
        await choose(on, "fetch")
        await on.pilot.press("down", "enter")
        await on.until(lambda: "large" in RUNNING or not missing(large))
        await on.until(lambda: not RUNNING and not missing(large), seconds=60)


async def test_a_large_bundle_is_used_once_its_files_are_here(large: Bundle, play: Play) -> None:
    async with play() as on:
        await open_bundle(on)
        await choose(on, "use")
        loads = len(on.engine.loaded)
        await on.pilot.press("down", "enter")
        await on.until(lambda: len(on.engine.loaded) > loads, seconds=60)
        assert on.engine.loaded[-1].bundle == "large"
        assert not missing(large)


async def test_a_no_leaves_the_model_in_use(large: Bundle, play: Play) -> None:
    async with play() as on:
        screen = await open_bundle(on)
        await choose(on, "use")
        await on.pilot.press("enter")
        await on.until(lambda: on.app.screen is screen)
        assert {options.bundle for options in on.engine.loaded} == {"mini"}
        assert on.app.settings.bundle == "mini"


async def test_a_bar_a_file_and_one_for_all_with_rate_and_time_left(large: Bundle, play: Play) -> None:
    download = Download("large")
    download.take(FetchProgress("one.bin", 1_000_000_000, 1_000_000_000, 1_000_000_000, 3_000_000_000), 0.0)
    download.take(FetchProgress("two.bin", 500_000_000, 2_000_000_000, 1_500_000_000, 3_000_000_000), 5.0)
    async with play(size=(120, 40)) as on:
        RUNNING["large"] = download
        await open_bundle(on)
        await on.until(lambda: "in all" in on.text())
        lines = on.text().splitlines()
        (one,) = [line for line in lines if "one.bin" in line]
        (two,) = [line for line in lines if "two.bin" in line]
        (every,) = [line for line in lines if "in all" in line]
        assert "100%" in one and "1.00 GB of 1.00 GB" in one
        assert "500.0 MB of 2.00 GB 25%" in two
        assert "1.50 GB of 3.00 GB 50%" in every
        assert "100.0 MB/s · 15 s left" in lines[lines.index(every) + 1], "as 1.5 GB are left"
        assert one.count("━") > every.count("━") > two.count("━")
        RUNNING.clear()


async def test_a_source_that_cannot_be_asked_is_one_sentence(
    large: Bundle, play: Play, tmp_path: Path
) -> None:
    (tmp_path / "weights").unlink()
    async with play(size=(120, 40)) as on:
        screen = await open_bundle(on)
        await on.pilot.press("enter")
        if large.vision.file.bytes is None:
            note: Any = screen.query_one("#asked")
            await on.until(lambda: "there is no such file" in str(note.render()))
            assert on.app.screen is screen
        else:
            await on.until(lambda: isinstance(on.app.screen, DownloadScreen))
        assert not RUNNING
