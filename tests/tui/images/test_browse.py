"""Folders show their folders and pictures; a search below them finds pictures by a part of their path."""

from __future__ import annotations

from pathlib import Path

import pytest

from minigpt4.tui.images import browse as browsing
from minigpt4.tui.images.browse import listing, search_below


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in (
        "b.png",
        "A.JPG",
        "notes.txt",
        ".hidden.png",
        "Summer 2024/Beach.jpeg",
        "Summer 2024/deep/beach hut.webp",
        ".thumbnails/beach.png",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    return tmp_path


def test_a_folder_lists_folders_and_pictures_in_order(photos: Path) -> None:
    found = listing(photos)
    assert [path.name for path in found.folders] == ["circle", "Summer 2024"]
    assert [path.name for path in found.pictures] == ["A.JPG", "b.png"]


def test_a_folder_that_cannot_be_read_says_so(photos: Path) -> None:
    assert listing(photos / "gone").problem == "no such file or directory"
    assert listing(photos / "b.png").problem == "not a directory"


def test_a_folder_of_very_many_shows_some(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browsing, "MAX_LISTED", 3)
    found = listing(photos)
    assert (len(found.folders), len(found.pictures), found.omitted) == (2, 1, 1)


def test_a_search_looks_below_nearest_first_without_capitals_or_spaces(photos: Path) -> None:
    found = search_below(photos, "BEACH")
    assert [str(path.relative_to(photos)) for path in found.pictures] == [
        "Summer 2024/Beach.jpeg",
        "Summer 2024/deep/beach hut.webp",
    ]
    assert found.is_all
    assert [path.name for path in search_below(photos, "summer2024/be").pictures] == ["Beach.jpeg"]
    assert search_below(photos, "nothing such").pictures == ()


def test_a_search_ends_when_nobody_wants_it_or_it_finds_too_much(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not search_below(photos, "beach", lambda: True).is_all
    monkeypatch.setattr(browsing, "MAX_FOUND", 1)
    found = search_below(photos, "b")
    assert (len(found.pictures), found.is_all) == (1, False)
