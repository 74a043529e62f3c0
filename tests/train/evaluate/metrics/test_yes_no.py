"""What a judge's words mean."""

from __future__ import annotations

import pytest

from minigpt4.train.evaluate.metrics.yes_no import yes_or_no


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("yes", 1),
        ("No.", 0),
        ("**Yes**", 1),
        (" 'no' ", 0),
        ("Yes, it covers the dog, and there is no contradiction.", 1),
        ("No, image caption2 does not mention the ball.", 0),
        ("No \u2014 the ball is missing.", 0),
        ("No it does not.", 0),
        ("Caption1 has a dog. Caption2 has one too.\nAnswer: yes", 1),
        ("The answer is no.", 0),
        ("", None),
        ("I think that caption2 covers most of it.", None),
        ("There is no dog in caption2.", None),
        ("No doubt it covers everything.", None),
        ("Yes and no.", None),
        ("Yes. No.", None),
        ("Yes, but no.", None),
        ("yes/no", None),
        ("Only answer yes or no", None),
        ("Yes\nAnswer: no", None),
        ("Yesterday it rained.", None),
        ("Nobody is in it.", None),
    ],
)
def test_only_a_clear_yes_or_no_is_understood(words: str, expected: float | None) -> None:
    assert yes_or_no(words) == expected
