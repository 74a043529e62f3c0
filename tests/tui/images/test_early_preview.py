"""A child process opens and draws the first photo; if it fails, the app still opens the photo by itself."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from minigpt4.core.errors import ImageError
from minigpt4.tui.cli.chat import app as chat
from minigpt4.tui.images.attachments import Attachment
from minigpt4.tui.images.block_fit import HALVES, QUADRANTS, SEXTANTS, Blocks
from minigpt4.tui.images.early_preview import CUBE, GREYS, EarlyPreview
from minigpt4.tui.images.mosaic import mosaic
from minigpt4.tui.images.preview import SMALL, preview

EXAMPLE = Path(__file__).parents[3] / "examples" / "coffee.jpg"
CELL = re.compile("\x1b\\[38;(2;\\d+;\\d+;\\d+|5;\\d+);48;(2;\\d+;\\d+;\\d+|5;\\d+)m(.)")


@pytest.fixture
def early() -> Iterator[EarlyPreview]:
    opened = EarlyPreview(EXAMPLE)
    yield opened
    opened.close()


def cells(line: str) -> list[tuple[str, ...]]:
    """Colors and character of each cell."""
    assert line.endswith("\x1b[0m")
    assert CELL.sub("", line.removesuffix("\x1b[0m")) == "", "nothing but cells"
    return CELL.findall(line)


@pytest.mark.parametrize("blocks", [HALVES, QUADRANTS, SEXTANTS])
def test_it_draws_the_same_cells_as_the_app(early: EarlyPreview, blocks: Blocks) -> None:
    assert early.wait() == early.pixels == (600, 400)
    lines = early.lines(30, 10, blocks, is_true=True)
    strips = mosaic(preview(EXAMPLE, SMALL).image, 30, 10, blocks)
    assert [[letter for *_, letter in cells(line)] for line in lines] == [
        list(strip.text) for strip in strips
    ]
    for line, strip in zip(lines, strips, strict=True):
        expected = []
        for text, style, _ in strip:
            assert style is not None and style.color is not None and style.bgcolor is not None
            front, back = style.color.triplet, style.bgcolor.triplet
            assert front is not None and back is not None
            expected += [("2;{};{};{}".format(*front), "2;{};{};{}".format(*back))] * len(text)
        assert [tuple(colors) for *colors, _ in cells(line)] == expected


def test_in_256_colors_each_is_as_near_as_any_other(early: EarlyPreview) -> None:
    palette = [(red, green, blue) for red in CUBE for green in CUBE for blue in CUBE] + [
        (g, g, g) for g in GREYS
    ]

    def distance(index: int, color: tuple[int, ...]) -> int:
        return sum((a - b) ** 2 for a, b in zip(palette[index - 16], color, strict=True))

    true = early.lines(20, 8, QUADRANTS, is_true=True)
    few = early.lines(20, 8, QUADRANTS, is_true=False)
    for one, other in zip(true, few, strict=True):
        for (*exact, letter), (*indexed, same) in zip(cells(one), cells(other), strict=True):
            assert letter == same
            for color, index in zip(exact, indexed, strict=True):
                rgb = tuple(map(int, color.split(";")[1:]))
                best = min(distance(number, rgb) for number in range(16, 256))
                # Pillow rounds before it looks a color up.
                assert distance(int(index.split(";")[1]), rgb) ** 0.5 <= best**0.5 + 8


def test_it_draws_again_at_another_size(early: EarlyPreview) -> None:
    for columns, rows in ((12, 4), (1, 1), (83, 28)):
        lines = early.lines(columns, rows, QUADRANTS, is_true=True)
        assert [len(cells(line)) for line in lines] == [columns] * rows


def test_sizes_asked_for_at_once_get_their_own_drawings(early: EarlyPreview) -> None:
    sizes = [(columns, rows) for columns in range(20, 60, 2) for rows in (5, 9)]

    def drawn(size: tuple[int, int]) -> tuple[int, int]:
        lines = early.lines(*size, HALVES, is_true=True)
        return len(cells(lines[0])), len(lines)

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(drawn, sizes)) == sizes


@pytest.mark.parametrize("content", [b"", b"no picture", EXAMPLE.read_bytes()[:200]])
def test_what_it_cannot_open_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "photo.jpg").write_bytes(content)
    early = EarlyPreview(tmp_path / "photo.jpg")
    with pytest.raises(ImageError):
        early.wait()
    with pytest.raises(ImageError):
        early.lines(10, 5, QUADRANTS, is_true=True)
    early.close()


def test_after_the_end_every_call_is_an_error_and_pictures_may_be_opened(early: EarlyPreview) -> None:
    early.wait()
    assert not early.was_shown.is_set()
    early.close()
    early.close()
    assert early.was_shown.is_set()
    with pytest.raises(ImageError):
        early.lines(10, 5, QUADRANTS, is_true=True)


def test_a_module_in_the_working_folder_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (3, 2)).save(tmp_path / "photo.png")
    (tmp_path / "numpy.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    early = EarlyPreview(Path("photo.png"))
    assert early.wait() == (3, 2)
    early.close()


def test_only_a_file_given_first_has_one_and_all_pictures_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(chat, "usable_cores", lambda: 2)
    for source in (tmp_path, tmp_path / "pipe", "https://example.org/photo.jpg", b"bytes"):
        given = [Attachment(source, "first"), Attachment(EXAMPLE, "second")]
        assert chat.with_early_preview(given) == (given, None)
    files, early = chat.with_early_preview([Attachment(EXAMPLE, "one"), Attachment(EXAMPLE, "two")])
    assert early is not None
    assert [one.early for one in files] == [early, None]
    assert [one.opens_after for one in files] == [early.was_shown] * 2
    early.close()
    monkeypatch.setattr(chat, "usable_cores", lambda: 1)
    assert chat.with_early_preview(files)[1] is None
