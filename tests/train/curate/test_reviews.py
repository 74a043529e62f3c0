"""Decisions of a review: kept at once, undone in reverse, and there again when the review goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from minigpt4.core.errors import DataError, UsageError
from minigpt4.train.curate.reviews import Reviews
from minigpt4.train.curate.run_folder import Candidate, CurationRun
from minigpt4.train.evaluate.photos import EvalPhoto

CAT, DOG, BIRD = (
    Candidate(EvalPhoto(key, "photos", lambda: b""), f"A {key}, a {key}.", f"A {key}.")
    for key in ("cat", "dog", "bird")
)


@pytest.fixture
def run(tmp_path: Path) -> CurationRun:
    return CurationRun.begin(tmp_path / "run", {})


@pytest.fixture
def reviews(run: CurationRun) -> Iterator[Reviews]:
    with Reviews(run, [CAT, DOG, BIRD]) as reviews:
        yield reviews


def test_accepted_and_edited_texts_are_kept_and_dropped_ones_are_not(reviews: Reviews) -> None:
    reviews.accept(DOG)
    reviews.edit(CAT, " A black cat. ")
    reviews.drop(BIRD)
    assert reviews.kept == {"cat": "A black cat.", "dog": "A dog."}
    assert reviews.waiting == []


def test_what_is_undecided_waits_and_is_not_kept(reviews: Reviews) -> None:
    reviews.accept(DOG)
    assert [one.key for one in reviews.waiting] == ["cat", "bird"]
    assert reviews.kept == {"dog": "A dog."}


def test_undo_takes_decisions_back_from_the_last(reviews: Reviews) -> None:
    reviews.accept(CAT)
    reviews.drop(DOG)
    assert reviews.undo() == "dog"
    assert reviews.undo() == "cat"
    assert reviews.undo() is None
    assert len(reviews.waiting) == 3


def test_undoing_a_second_decision_brings_the_first_one_back(reviews: Reviews) -> None:
    reviews.drop(CAT)
    reviews.accept(CAT)
    reviews.undo()
    decision = reviews.decision("cat")
    assert decision is not None
    assert decision.choice == "drop"


def test_a_review_goes_on_where_it_was_left_and_can_still_be_undone(
    run: CurationRun, reviews: Reviews
) -> None:
    reviews.accept(CAT)
    reviews.accept(DOG)
    reviews.undo()
    reviews.close()
    with (run.path / "review.jsonl").open("a") as file:
        file.write('{"photo": "bird", "choi')  # cut off by a kill
    with Reviews(run, [CAT, DOG, BIRD]) as later:
        assert later.kept == {"cat": "A cat."}
        later.drop(BIRD)
        assert later.undo() == "bird"
        assert later.undo() == "cat"
        assert later.kept == {}


def test_an_empty_edit_is_refused(reviews: Reviews) -> None:
    with pytest.raises(UsageError, match="drop the picture instead"):
        reviews.edit(CAT, " \n")
    assert len(reviews.waiting) == 3


def test_an_unknown_choice_is_named(run: CurationRun) -> None:
    (run.path / "review.jsonl").write_text('{"photo": "cat", "choice": "maybe"}\n')
    with pytest.raises(DataError, match=r"line 1, holds the unknown choice 'maybe'"):
        Reviews(run, [CAT])
