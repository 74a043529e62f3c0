"""BLEU: computed by hand, against the reference implementation, and the properties."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt4.train.evaluate.metrics.bleu import bleu
from minigpt4.train.evaluate.metrics.ptb_tokenizer import words

REFERENCE: dict[str, Any] = json.loads((Path(__file__).parent / "coco_reference.json").read_text("utf-8"))

sentence = st.lists(st.sampled_from("a dog cat runs sleeps on the grass sofa red".split()), max_size=9)
corpus = st.lists(st.tuples(sentence, st.lists(sentence, min_size=1, max_size=4)), min_size=1, max_size=5)


def test_one_photo_computed_by_hand() -> None:
    # Papineni's own example of clipping, and a brevity penalty:
    #   n=1  "the" 5 times, at most 2 in one reference, "cat" once -> 3 of 6
    #   n=2  "the the" 4 times and "the cat": only "the cat" occurs -> 1 of 5
    #   n=3  "the the cat" occurs nowhere -> 0
    # Reference lengths 7 and 8, answer 6: the closest is 7, penalty exp(1 - 7/6).
    answer = "the the the the the cat".split()
    references = ["the cat is on the mat now".split(), "there is a cat on the mat now".split()]
    short = math.exp(1 - 7 / 6)
    assert bleu([answer], [references]) == pytest.approx(
        (short * 3 / 6, short * math.sqrt(3 / 6 * 1 / 5), 0, 0), abs=1e-12
    )


def test_counts_are_summed_over_the_set_before_they_are_divided() -> None:
    # 1 of 1 word and 1 of 3: 2 of 4, not the mean of 1 and 1/3. Lengths 4 and 4: no penalty.
    one, *_ = bleu([["dog"], "a cat sleeps".split()], [[["dog"]], ["the cat sits".split()]])
    assert one == pytest.approx(2 / 4)


def test_of_two_equally_close_lengths_the_shorter_counts() -> None:
    references = [["a"] * 3, ["a"] * 5]
    assert bleu([["a"] * 4], [references])[0] == pytest.approx(1)


def test_agrees_with_the_coco_evaluation_code() -> None:
    photos = REFERENCE["photos"]
    scores = bleu(
        [words(photo["answer"]) for photo in photos],
        [[words(caption) for caption in photo["captions"]] for photo in photos],
    )
    assert scores == pytest.approx(REFERENCE["bleu"], abs=1e-9)


def test_an_answer_without_words_scores_zero() -> None:
    assert bleu([[]], [[["a", "dog"]]]) == (0, 0, 0, 0)


@settings(deadline=None)
@given(corpus, st.randoms())
def test_the_order_of_references_does_not_matter(photos: list[Any], rng: Any) -> None:
    answers = [answer for answer, _ in photos]
    shuffled = [rng.sample(several, len(several)) for _, several in photos]
    assert bleu(answers, shuffled) == bleu(answers, [several for _, several in photos])


@settings(deadline=None)
@given(corpus)
def test_scores_lie_between_zero_and_one(photos: list[Any]) -> None:
    scores = bleu([answer for answer, _ in photos], [several for _, several in photos])
    assert all(0 <= score <= 1 + 1e-12 for score in scores)


def test_repeating_a_reference_of_four_words_or_more_is_perfect() -> None:
    answer = "a dog runs on grass".split()
    assert bleu([answer], [[["a", "cat"], answer]]) == pytest.approx((1, 1, 1, 1))
