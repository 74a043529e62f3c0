"""A picture fills the screen, as it is and as the model sees it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from PIL import Image, ImageDraw

from minigpt4.core.bundles.bundle import load_bundle
from minigpt4.core.pixels import open_picture
from minigpt4.core.types import FoundObject
from minigpt4.core.worker.messages import Exited, Failed, ObjectsFound
from minigpt4.tui.history.store import Store, StoredPicture
from minigpt4.tui.images.preview import model_input
from minigpt4.tui.screens.zoom import ZoomScreen
from minigpt4.tui.widgets.picture import PictureArea

Look = Callable[..., Awaitable[None]]
Play = Any
Now = Any
"""What `play` gives: the app, its pilot, and ways to look at it."""


@pytest.fixture
def pictures(store: Store) -> list[StoredPicture]:
    kept = []
    for name, size in (("wide.png", (200, 50)), ("high.png", (50, 200))):
        out = BytesIO()
        Image.new("RGB", size, (200, 40, 40)).save(out, "PNG")
        kept.append(store.keep_picture(open_picture(out.getvalue()), name))
    return kept


async def shows(now: Now, text: str) -> None:
    """Wait until the text is on the screen, over a picture that is drawn."""

    def holds() -> bool:
        area = now.app.screen.query_one(PictureArea)
        drawn = area._drawing is not None and len(area._drawing.cells) == area.size.height
        return text in now.text() and (drawn or not area.display)

    await now.until(holds)


async def test_it_is_as_large_as_the_screen_allows(play: Play, pictures: list[StoredPicture]) -> None:
    async with play({"images": "halfblock"}) as now:
        await now.app.push_screen(ZoomScreen(pictures, 0))
        await shows(now, "200 × 50")
        assert now.app.screen.query_one(PictureArea).size == (76, 10)
        await now.pilot.resize_terminal(40, 24)
        await shows(now, "200 × 50")
        assert now.app.screen.query_one(PictureArea).size == (36, 4)


async def test_left_and_right_go_through_the_pictures(play: Play, pictures: list[StoredPicture]) -> None:
    async with play({"images": "halfblock"}) as now:
        await now.app.push_screen(ZoomScreen(pictures, 1))
        await shows(now, "2 of 2   high.png   50 × 200")
        await now.pilot.press("right")
        await shows(now, "2 of 2   high.png")
        await now.pilot.press("left")
        await shows(now, "1 of 2   wide.png   200 × 50")


async def test_in_80_columns_a_long_name_is_cut_and_nothing_else(
    play: Play, pictures: list[StoredPicture]
) -> None:
    long = replace(pictures[0], name="a long name of a photo of the harbour in the evening " * 3)
    async with play({"images": "halfblock"}) as now:
        await now.app.push_screen(ZoomScreen([long, *pictures], 0))
        await shows(now, "200 × 50")
        assert "m shows what the model sees · Left goes back · Right goes on · Esc closes" in now.text()
        await now.pilot.press("m")
        await shows(now, "squashed to")
        line = next(line for line in now.text().splitlines() if "1 of 3" in line)
        assert line.strip().startswith("1 of 3   a long name") and line.strip().endswith("300 × 300")


async def test_what_the_model_sees_is_a_square(play: Play, pictures: list[StoredPicture]) -> None:
    size = load_bundle("mini").vision.image_size
    async with play({"images": "halfblock"}) as now:
        await now.app.push_screen(ZoomScreen(pictures, 0))
        await shows(now, "wide.png")
        await now.pilot.press("m")
        await shows(now, f"as mini sees it: squashed to {size} × {size}")
        wide, high = now.app.screen.query_one(PictureArea).size
        assert abs(wide - 2 * high) <= 1
        await now.pilot.press("right")
        await shows(now, "2 of 2   high.png   as mini sees it")
        await now.pilot.press("m")
        await shows(now, "high.png   50 × 200")


def test_what_the_model_sees_are_its_own_pixels(pictures: list[StoredPicture]) -> None:
    size = load_bundle("mini").vision.image_size
    seen = model_input(pictures[0].path, "mini")
    with Image.open(pictures[0].path) as image:
        squashed = image.resize((size, size), Image.Resampling.BICUBIC)
    assert seen.image.tobytes() == squashed.tobytes()


async def test_escape_closes(play: Play, pictures: list[StoredPicture]) -> None:
    async with play({"images": "halfblock"}) as now:
        before = now.app.screen
        await now.app.push_screen(ZoomScreen(pictures, 0))
        await shows(now, "wide.png")
        await now.pilot.press("escape")
        await now.pilot.pause()
        assert now.app.screen is before


async def test_a_file_that_is_gone_is_reported_and_the_others_are_shown(
    play: Play, pictures: list[StoredPicture]
) -> None:
    pictures[0].path.unlink()
    async with play({"images": "halfblock"}) as now:
        await now.app.push_screen(ZoomScreen(pictures, 0))
        await shows(now, "gone from the disk")
        await now.pilot.press("m")
        await shows(now, "gone from the disk")
        await now.pilot.press("right")
        await shows(now, "high.png")
        assert "gone" not in now.text()


DOG = FoundObject("dog", 0.931, (0.1, 0.2, 0.6, 0.9))


async def test_the_objects_of_a_detector_are_drawn_and_listed(
    play: Play, pictures: list[StoredPicture], seeing: dict[str, str]
) -> None:
    async with play(seeing) as now:
        await now.app.push_screen(ZoomScreen(pictures, 0))
        await shows(now, "200 × 50")
        assert not now.engine.searched
        await now.pilot.press("m")
        await shows(now, "Looking for objects…")
        request, path = now.engine.searched[-1]
        assert path == pictures[0].path
        now.engine.on_event(ObjectsFound(request, (DOG, FoundObject("person", 0.81, (0, 0, 1, 1)))))
        await shows(now, "dog 0.93 · person 0.81")
        await shows(now, "▀ dog ▀")
        await now.pilot.press("m")
        await shows(now, "m shows what the model sees")
        assert "dog" not in now.text()
        await now.pilot.press("m")
        await shows(now, "dog 0.93 · person 0.81")
        assert len(now.engine.searched) == 1


async def test_a_picture_without_objects_is_told_in_a_sentence(
    play: Play, pictures: list[StoredPicture], seeing: dict[str, str]
) -> None:
    async with play(seeing) as now:
        await now.app.push_screen(ZoomScreen(pictures, 0))
        await now.pilot.press("m")
        await now.until(lambda: now.engine.searched)
        now.engine.on_event(ObjectsFound(now.engine.searched[-1][0], ()))
        await shows(now, f"{seeing['bundle']}'s detector finds no object that it knows.")


async def test_objects_of_the_picture_before_are_not_shown_for_this_one(
    play: Play, pictures: list[StoredPicture], seeing: dict[str, str]
) -> None:
    async with play(seeing) as now:
        await now.app.push_screen(ZoomScreen(pictures, 0))
        await now.pilot.press("m", "right")
        await now.until(lambda: len(now.engine.searched) == 2)
        (first, _), (second, path) = now.engine.searched
        assert path == pictures[1].path
        now.engine.on_event(ObjectsFound(first, (DOG,)))
        now.engine.on_event(Failed(second, "The picture's [/] header is damaged."))
        await shows(now, "The picture's [/] header is damaged.")
        assert "dog" not in now.text()


async def test_without_a_running_model_its_absence_is_told(
    play: Play, pictures: list[StoredPicture], seeing: dict[str, str]
) -> None:
    async with play(seeing, loads=False) as now:
        await now.app.push_screen(ZoomScreen(pictures, 0))
        await now.pilot.press("m")
        await shows(now, "Its objects are shown once the model is loaded.")
        now.engine.on_event(Exited("It ended.", "Start it again."))
        await shows(now, "no model is running; F8 in the chat starts it.")
        assert not now.engine.searched
        now.engine.loads = True
        now.app.restart_engine()
        await now.until(lambda: now.engine.searched)


async def test_a_bundle_without_a_detector_is_not_asked_for_objects(
    play: Play, pictures: list[StoredPicture]
) -> None:
    async with play({"images": "halfblock", "bundle": "minigpt4-vicuna-7b"}) as now:
        await now.app.push_screen(ZoomScreen(pictures, 0))
        await now.pilot.press("m")
        await shows(now, "squashed to 224 × 224")
        assert not now.engine.searched and not now.app.screen.query_one("#objects").display


async def test_how_the_objects_look(
    play: Play, store: Store, seeing: dict[str, str], look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "TEXTUAL_COLOR_SYSTEM"):
        monkeypatch.delenv(name, raising=False)
    meadow = Image.new("RGB", (64, 48), "#8fc1de")
    pen = ImageDraw.Draw(meadow)
    pen.rectangle((0, 24, 63, 47), "#3f6b35")
    pen.rectangle((8, 18, 27, 39), "#2f2a26")
    pen.rectangle((44, 32, 51, 39), "#f4efe6")
    out = BytesIO()
    meadow.save(out, "PNG")
    picture = store.keep_picture(open_picture(out.getvalue()), "meadow.png")
    found = (
        FoundObject("dog", 0.934, (0.12, 0.36, 0.45, 0.84)),
        FoundObject("sports ball", 0.607, (0.68, 0.66, 0.82, 0.84)),
        FoundObject("person", 0.31, (0.0, 0.0, 0.06, 0.2)),
    )
    async with play(seeing) as now:
        await now.app.push_screen(ZoomScreen([picture, picture], 0))
        await now.pilot.press("m")
        await now.until(lambda: now.engine.searched)
        now.engine.on_event(ObjectsFound(now.engine.searched[-1][0], found))
        await shows(now, "dog 0.93 · sports ball 0.61 · person 0.31")
        await look(now, "objects")
