"""Failures in the form of long answers."""

from __future__ import annotations

import pytest

from minigpt4.train.evaluate.metrics.fluency import Failure, failures

SOUND = "A man walks his dog. The dog is black; it pulls at its lead! Is it raining?"


@pytest.mark.parametrize(
    ("answer", "ran_to_limit", "expected"),
    [
        (SOUND, False, ()),
        ("The sign says 'Stop.'", False, ()),
        ("A dog runs.\nA cat sits.", False, ()),
        ("Mr. Smith meets Mr. Jones.", False, ()),
        ("A dog runs. A dog RUNS!", False, ("repeats a sentence",)),
        ("A dog runs. It is happy. A dog runs.", False, ("repeats a sentence",)),
        ("A dog runs.\n\nA dog runs", False, ("repeats a sentence", "stops in mid-sentence")),
        ("A dog runs across the", False, ("stops in mid-sentence",)),
        ("A dog runs,", False, ("stops in mid-sentence",)),
        (SOUND, True, ("runs to the token limit",)),
        ("A dog and a dog and", True, ("stops in mid-sentence", "runs to the token limit")),
        ("", False, ("says nothing",)),
        (" ... ", False, ("says nothing",)),
    ],
)
def test_form(answer: str, ran_to_limit: bool, expected: tuple[Failure, ...]) -> None:
    assert failures(answer, ran_to_limit=ran_to_limit) == expected
