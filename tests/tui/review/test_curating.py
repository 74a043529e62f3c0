"""A person reviews curated descriptions: keys, what is kept and shown, and how it looks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from minigpt4.core.errors import UsageError
from minigpt4.train.curate.reviews import Reviews
from minigpt4.train.curate.run_folder import Candidate, CurationRun
from minigpt4.train.evaluate.photos import EvalPhoto
from minigpt4.tui.review.curating import CurationApp, Editor, review_in_person
from minigpt4.tui.review.differences import ADDED, REMOVED, differences

Review = Callable[..., AbstractAsyncContextManager[Any]]
Look = Callable[..., Awaitable[None]]
Open = Callable[[], Reviews]

BEFORE = "The image shows shows a lighthouse by the sea. It is a nice day. The image shows a lighthouse."
AFTER = "The image shows a lighthouse by the calm sea. It is a nice day."


@pytest.fixture
def reviews(tmp_path: Path, photos: list[Path]) -> Iterator[Open]:
    """Open the reviews of three candidates; the second one was not repaired."""
    run = CurationRun.begin(tmp_path / "run", {"prompt": "Describe this image in detail."})
    texts = [(BEFORE, AFTER), ("A harbour.", "A harbour."), (BEFORE, AFTER)]
    candidates = [
        Candidate(EvalPhoto(path.name, "photos", path.read_bytes), before, after)
        for path, (before, after) in zip(photos, texts, strict=True)
    ]
    opened: list[Reviews] = []

    def begin() -> Reviews:
        opened.append(Reviews(run, candidates))
        return opened[-1]

    yield begin
    for one in opened:
        one.close()


@pytest.fixture
def photos(tmp_path: Path, draw_picture: Callable[[Path, int], Path]) -> list[Path]:
    return [draw_picture(tmp_path / "photos" / f"{name}.png", place) for place, name in enumerate("abc")]


@pytest.fixture
def curating(review: Review) -> Callable[..., AbstractAsyncContextManager[Any]]:
    """Review on a screen."""

    def begin(reviews: Reviews, **named: Any) -> Any:
        return review(lambda loaded: CurationApp(loaded, reviews), **named)

    return begin


async def test_accepting_and_dropping_go_on_to_the_next_and_are_counted(
    reviews: Open, curating: Review
) -> None:
    found = reviews()
    async with curating(found) as stage:
        await stage.until_shown("1 of 3 0 accepted · 0 edited · 0 dropped · 3 left")
        await stage.pilot.press("a")
        await stage.until_shown("2 of 3 1 accepted · 0 edited · 0 dropped · 2 left")
        await stage.pilot.press("d")
        await stage.until_shown("3 of 3 1 accepted · 0 edited · 1 dropped · 1 left")
        await stage.pilot.press("a")
        await stage.until_shown("all are reviewed, q leaves")
        assert found.kept == {"a.png": AFTER, "c.png": AFTER}


async def test_an_edit_is_typed_in_place_and_kept_with_ctrl_s(reviews: Open, curating: Review) -> None:
    found = reviews()
    async with curating(found) as stage:
        await stage.pilot.press("e", *" aqde", "ctrl+s")
        await stage.until_shown("0 accepted · 1 edited · 0 dropped · 2 left")
        assert found.kept == {"a.png": AFTER + " aqde"}
        await stage.pilot.press("left")
        await stage.until_shown("a.png edited")
        await stage.until_shown("aqde")
        await stage.pilot.press("e", "!", "ctrl+s")
        assert found.kept == {"a.png": AFTER + " aqde!"}


async def test_escape_leaves_the_text_as_it_was(reviews: Open, curating: Review) -> None:
    found = reviews()
    async with curating(found) as stage:
        await stage.pilot.press("e", *"xyz", "escape")
        await stage.until(lambda: not stage.app.is_editing)
        assert "xyz" not in stage.text() and found.kept == {} and stage.app.current.key == "a.png"
        await stage.pilot.press("a")
        assert found.kept == {"a.png": AFTER}


async def test_an_edit_that_changes_nothing_accepts_and_an_empty_one_is_refused(
    reviews: Open, curating: Review
) -> None:
    found = reviews()
    async with curating(found) as stage:
        said: list[str] = []
        stage.app.say = lambda sentence, severity: said.append(sentence)
        await stage.pilot.press("e")
        stage.app.query_one(Editor).text = " \n"
        await stage.pilot.press("ctrl+s")
        assert "empty" in said[0] and stage.app.is_editing and found.kept == {}
        stage.app.query_one(Editor).text = AFTER + "\n"
        await stage.pilot.press("ctrl+s")
        await stage.until_shown("1 accepted · 0 edited")


async def test_leaving_does_not_lose_an_edit(reviews: Open, curating: Review) -> None:
    async with curating(reviews()) as stage:
        said: list[str] = []
        stage.app.say = lambda sentence, severity: said.append(sentence)
        await stage.pilot.press("e", "x", "ctrl+q")
        assert stage.app.is_editing and "Ctrl+S keeps what you wrote" in said[0]
        await stage.pilot.press("escape", "q")
        await stage.until(lambda: not stage.app.is_running)


async def test_undo_goes_back_to_what_was_decided_last_also_in_an_earlier_review(
    reviews: Open, curating: Review
) -> None:
    async with curating(reviews()) as stage:
        await stage.pilot.press("a", "d")
    found = reviews()
    async with curating(found) as stage:
        await stage.until_shown("3 of 3 1 accepted · 0 edited · 1 dropped · 1 left")
        await stage.pilot.press("u")
        await stage.until_shown("2 of 3 1 accepted · 0 edited · 0 dropped · 2 left")
        await stage.pilot.press("backspace", "u")
        await stage.until_shown("1 of 3 0 accepted · 0 edited · 0 dropped · 3 left")
        assert found.kept == {}


async def test_arrows_show_what_was_decided_and_a_new_decision_replaces_it(
    reviews: Open, curating: Review
) -> None:
    found = reviews()
    async with curating(found) as stage:
        await stage.pilot.press("a", "left", "left")
        await stage.until_shown("a.png accepted")
        await stage.pilot.press("d")
        await stage.until_shown("2 of 3 0 accepted · 0 edited · 1 dropped · 2 left")
        await stage.pilot.press("right", "right", "right")
        await stage.until_shown("3 of 3")


async def test_a_description_that_needed_no_repair_is_shown_once(reviews: Open, curating: Review) -> None:
    async with curating(reviews(), size=(120, 40)) as stage:
        await stage.until_shown("before the repair")
        await stage.pilot.press("right")
        await stage.until_shown("as described, nothing repaired")
        assert stage.text().count("A harbour.") == 1 and "before the repair" not in stage.text()


def test_only_words_that_differ_are_marked() -> None:
    before, after = differences(BEFORE, AFTER)
    assert (before.plain, after.plain) == (BEFORE, AFTER)
    removed = [before.plain[span.start : span.end] for span in before.spans if span.style == REMOVED]
    added = [after.plain[span.start : span.end] for span in after.spans if span.style == ADDED]
    assert removed == ["shows", "The image shows a lighthouse."] and added == ["calm"]


def test_nothing_to_review_and_no_terminal_are_said(reviews: Open, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at a terminal"):
        review_in_person(reviews())
    with (
        pytest.raises(UsageError, match="nothing to review"),
        Reviews(CurationRun.begin(tmp_path / "other", {}), []) as none,
    ):
        review_in_person(none)


@pytest.mark.parametrize("theme", ["terminal", "contrast"])
@pytest.mark.parametrize("size", [(40, 10), (1, 1)])
async def test_every_theme_and_size_can_be_reviewed_in(
    reviews: Open, curating: Review, theme: str, size: tuple[int, int]
) -> None:
    found = reviews()
    async with curating(found, theme=theme, size=size) as stage:
        await stage.pilot.press("a", "z", "e", "!", "ctrl+s")
        assert found.kept == {"a.png": AFTER, "b.png": "A harbour.!"}


async def test_how_it_looks(reviews: Open, curating: Review, look: Look) -> None:
    async with curating(reviews()) as stage:
        await stage.pilot.press("a", "d")
        await look(stage, "curate")
        await stage.pilot.press("e", "!")
        await look(stage, "curate-edit")
