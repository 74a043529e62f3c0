"""Conversations are told apart: by title, pictures and time."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from minigpt4.core.pixels import open_picture
from minigpt4.tui.history.records import ListedConversation
from minigpt4.tui.history.store import Store, StoredPicture
from minigpt4.tui.sidebar.conversation_list import heading_and_time

Opened = Any


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("day", "pinned", "shown"),
    [
        ("2026-05-20", False, ("Today", "14:05")),
        ("2026-05-19", False, ("Yesterday", "14:05")),
        ("2026-05-14", False, ("Last seven days", "14 May")),
        ("2026-04-02", False, ("April 2026", "2 Apr")),
        ("2025-05-20", False, ("May 2025", "20 May")),
        ("2026-05-20", True, ("Pinned", "14:05")),
        ("2026-05-19", True, ("Pinned", "yesterday")),
        ("2026-05-14", True, ("Pinned", "14 May")),
        ("2025-12-31", True, ("Pinned", "31 Dec 2025")),
        ("2026-05-21", False, ("Today", "14:05")),  # another machine's clock is ahead
    ],
)
def test_the_time_is_short_and_says_the_day_where_the_heading_does_not(
    monkeypatch: pytest.MonkeyPatch, day: str, pinned: bool, shown: tuple[str, str]
) -> None:
    class Date(datetime.date):
        @classmethod
        def today(cls) -> Date:
            return cls(2026, 5, 20)

    monkeypatch.setattr("minigpt4.tui.sidebar.conversation_list.datetime.date", Date)
    moment = datetime.datetime.fromisoformat(f"{day}T14:05:59+00:00").timestamp()
    assert heading_and_time(ListedConversation("c", "", 0, moment, pinned, 1, ())) == shown


async def test_two_with_the_same_question_are_told_apart_by_their_pictures(
    store: Store, opened: Opened, picture: StoredPicture, png: Callable[[tuple[int, int]], bytes]
) -> None:
    dog, bird = (store.keep_picture(open_picture(png((8, side))), f"{side}.png") for side in (8, 9))
    for pictures in ([picture], [dog, bird, picture], []):
        store.add_message(store.new_conversation().id, None, "user", "What is this?", pictures)
    async with opened() as (on, _):
        lines = [line[:32].strip(" ▌▃") for line in on.text().splitlines()]
        rows = [number for number, line in enumerate(lines) if line.startswith("What is this?")]
        assert len(rows) == 3
        assert all(lines[number].split()[-1].count(":") == 1 for number in rows), "the time stands at the end"
        below = [lines[number + 1] for number in rows]
        assert below[0].startswith("What is this?"), "without a picture there is one line"
        assert below[1:] == ["8.png +2", "cat.png"]


async def test_what_is_too_long_is_shortened_and_time_and_count_stay(
    store: Store, opened: Opened, picture: StoredPicture
) -> None:
    pictures = [
        replace(picture, name=f"IMG_2026-05-20 in the harbour of Rotterdam [/] {n}.jpg") for n in range(3)
    ]
    info = store.new_conversation()
    store.add_message(info.id, None, "user", "港の写真には何が写っていますか、船はいくつ見えますか", pictures)
    async with opened((80, 24)) as (on, sidebar):
        title, names = [
            line[: sidebar.size.width] for line in on.text().splitlines() if "港" in line or "+2" in line
        ]
        assert "…" in title and "…" in names
        assert names.rstrip().endswith("… +2")
        assert time.strftime("%H:%M", time.gmtime(store.get(info.id).updated)) in title
