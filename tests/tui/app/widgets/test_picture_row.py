"""Pictures in a message are large where there is room, share a row, and come back to their size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from textual.geometry import Size

from minigpt4.core.pixels import open_picture
from minigpt4.tui.history.store import Store, StoredPicture
from minigpt4.tui.widgets.picture import PictureArea, rows_in_message
from minigpt4.tui.widgets.picture_row import PictureRow, Thumbnail

Play = Any
Now = Any
Keep = Callable[[int, int], StoredPicture]


@pytest.fixture
def keep(store: Store, png: Callable[[tuple[int, int]], bytes]) -> Keep:
    """Keep a picture of that size."""

    def keep(width: int, height: int) -> StoredPicture:
        return store.keep_picture(open_picture(png((width, height))), f"{width}-{height}.png")

    return keep


def sizes(now: Now) -> list[Size]:
    return [area.size for area in now.app.screen.query_one(PictureRow).query(PictureArea)]


def is_drawn(now: Now) -> bool:
    areas = now.app.screen.query_one(PictureRow).query(PictureArea)
    return all(area._drawing and len(area._drawing.cells) == area.size.height for area in areas)


async def asked(now: Now, *pictures: StoredPicture) -> list[Size]:
    now.app.attach(pictures)
    await now.talk("What is this?", "A picture.")
    await now.until(lambda: is_drawn(now))
    return sizes(now)


async def resized(now: Now, width: int, height: int) -> list[Size]:
    await now.pilot.resize_terminal(width, height)
    await now.until(lambda: is_drawn(now))
    return sizes(now)


async def test_one_picture_has_up_to_60_by_20_cells_and_keeps_its_shape(play: Play, keep: Keep) -> None:
    for (width, height), size in {
        (600, 400): (60, 20),
        (300, 600): (20, 20),
        (1600, 400): (60, 8),
        (60, 20): (60, 10),
    }.items():
        async with play({"images": "quadrant"}, size=(120, 40)) as now:
            assert await asked(now, keep(width, height)) == [Size(*size)]


async def test_several_pictures_share_the_row_at_one_height(play: Play, keep: Keep) -> None:
    async with play({"images": "quadrant"}, size=(120, 40)) as now:
        found = await asked(now, keep(600, 400), keep(300, 600), keep(900, 600))
        row = now.app.screen.query_one(PictureRow)
        assert len({size.height for size in found}) == 1
        assert found[0].height > 10
        assert row.max_scroll_x == 0, "they reach beyond the row"
        right = row.query(PictureArea).last().region.right
        assert row.content_region.right - right < 12, "there is room left"


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50)])
@pytest.mark.parametrize("count", [3, 4, 6, 9])
async def test_pictures_that_are_too_many_for_the_row_go_on_below_and_none_is_cut(
    play: Play, keep: Keep, size: tuple[int, int], count: int
) -> None:
    async with play({"images": "quadrant", "sidebar": "auto"}, size=size) as now:
        found = await asked(now, *(keep(600 + number, 400) for number in range(count)))
        row = now.app.screen.query_one(PictureRow)
        assert (row.max_scroll_x, row.max_scroll_y) == (0, 0), "there is nothing to scroll"
        assert not row.show_horizontal_scrollbar
        assert len({size.height for size in found}) == 1
        assert found[0].height >= 6, "still recognisable"
        regions = [one.region for one in row.query(Thumbnail)]
        assert all(row.content_region.contains_region(one) for one in regions)
        assert not any(one.overlaps(other) for one in regions for other in regions if one is not other)
        assert [(one.y, one.x) for one in regions] == sorted((one.y, one.x) for one in regions)
        lines = len({one.y for one in regions})
        assert lines * found[0].height <= max(rows_in_message(size[1]), 6 * lines)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("way", [((40, 12),), ((120, 12),), ((40, 40), (300, 90), (1, 1))])
async def test_after_any_resizing_and_back_pictures_have_their_former_size(
    play: Play, keep: Keep, count: int, way: tuple[tuple[int, int], ...]
) -> None:
    async with play({"images": "halfblock", "sidebar": "auto"}, size=(120, 40)) as now:
        before = await asked(now, *(keep(600 + number, 400) for number in range(count)))
        for size in way:
            await now.pilot.resize_terminal(*size)
            await now.until(lambda: now.app.screen.size == size)  # noqa: B023
            await now.pilot.pause()
        assert sizes(now) != before
        assert await resized(now, 120, 40) == before


async def test_in_a_low_window_the_text_beside_a_picture_is_in_view(play: Play, keep: Keep) -> None:
    async with play({"images": "halfblock"}, size=(120, 40)) as now:
        await asked(now, keep(600, 400))
        assert await resized(now, 120, 24) == [Size(24, 8)]
        assert await resized(now, 40, 12) == [Size(12, 4)]
        assert await resized(now, 120, 30) == [Size(30, 10)]
