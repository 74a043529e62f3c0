"""CIDEr-D: computed by hand, against the reference implementation, and the properties."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt4.train.evaluate.metrics.cider import cider_d
from minigpt4.train.evaluate.metrics.ptb_tokenizer import words

REFERENCE: dict[str, Any] = json.loads((Path(__file__).parent / "coco_reference.json").read_text("utf-8"))

sentence = st.lists(st.sampled_from("a dog cat runs sleeps on the grass sofa red".split()), max_size=9)
photo = st.tuples(sentence, st.lists(sentence, min_size=1, max_size=4))
corpus = st.lists(photo, min_size=2, max_size=5)


def split(*texts: str) -> list[list[str]]:
    return [text.split() for text in texts]


def test_two_photos_computed_by_hand() -> None:
    # N = 2 photos. Every n-gram below is in the references of one photo only, so its idf is
    # ln 2 - ln 1 = ln 2, but for "a" (in both: idf ln 2 - ln 2 = 0). L stands for ln 2.
    candidates = split("a dog runs", "a cat")
    references = [split("a dog sleeps"), split("a cat", "the cat sits")]
    #
    # Photo 1, answer "a dog runs" against "a dog sleeps", lengths equal, penalty 1:
    #   n=1  answer (a 0, dog L, runs L), reference (a 0, dog L, sleeps L); unseen "runs" has df 1.
    #        clipped product: dog L*L;   norms: sqrt(2) L each   -> L^2 / (2 L^2) = 1/2
    #   n=2  answer (a dog L, dog runs L), reference (a dog L, dog sleeps L)            -> 1/2
    #   n=3  no common trigram -> 0;   n=4  neither has one -> 0
    #   mean over n: (1/2 + 1/2 + 0 + 0) / 4 = 1/4;  times ten: 2.5
    first = 2.5
    #
    # Photo 2, answer "a cat":
    #   against "a cat": n=1 (cat L)(cat L) -> 1;  n=2 (a cat) -> 1;  n=3, 4: 0;  mean 2/4
    #   against "the cat sits", one word longer, penalty exp(-1 / (2 * 36)):
    #        n=1 product L^2, norms L and sqrt(3) L -> 1/sqrt(3);  the rest 0;  mean 1/(4 sqrt(3))
    #   mean over the two references, times ten
    second = 10 * (2 / 4 + math.exp(-1 / 72) / (4 * math.sqrt(3))) / 2

    assert cider_d(candidates, references) == pytest.approx([first, second], abs=1e-12)


def test_a_repeated_word_is_clipped_at_its_count_in_the_reference() -> None:
    # "dog dog": n=1 weight 2L, clipped to L; norms 2L and L: L^2 / 2L^2 = 1/2, not the cosine's 1.
    # n=2: "dog dog" is not in the reference, which has no bigram at all. One word too long.
    score, _ = cider_d(split("dog dog", "cat"), [split("dog"), split("cat")])
    assert score == pytest.approx(10 * math.exp(-1 / 72) * (1 / 2) / 4, abs=1e-12)


def test_agrees_with_the_coco_evaluation_code() -> None:
    photos = REFERENCE["photos"]
    candidates = [words(photo["answer"]) for photo in photos]
    references = [[words(caption) for caption in photo["captions"]] for photo in photos]
    scores = cider_d(candidates, references)
    assert scores == pytest.approx([photo["cider_d"] for photo in photos], abs=1e-9)
    assert fmean(scores) == pytest.approx(REFERENCE["cider_d"], abs=1e-9)


def test_a_single_photo_has_no_document_frequencies_and_scores_zero() -> None:
    assert cider_d(split("a dog"), [split("a dog")]) == [0]


def test_every_candidate_needs_its_references() -> None:
    with pytest.raises(ValueError, match="zip"):
        cider_d(split("a dog", "a cat"), [split("a dog")])


@settings(deadline=None)
@given(corpus, st.randoms())
def test_the_order_of_references_and_photos_does_not_matter(photos: list[Any], rng: Any) -> None:
    before = fmean(cider_d([answer for answer, _ in photos], [several for _, several in photos]))
    shuffled = [(answer, rng.sample(several, len(several))) for answer, several in photos]
    rng.shuffle(shuffled)
    after = fmean(cider_d([answer for answer, _ in shuffled], [several for _, several in shuffled]))
    assert after == pytest.approx(before, abs=1e-12)


@settings(deadline=None)
@given(corpus)
def test_scores_lie_between_zero_and_ten(photos: list[Any]) -> None:
    scores = cider_d([answer for answer, _ in photos], [several for _, several in photos])
    assert all(0 <= score <= 10 + 1e-9 for score in scores)


@settings(deadline=None)
@given(corpus)
def test_no_answer_beats_the_one_that_all_references_agree_on(photos: list[Any]) -> None:
    agreed = [[several[0]] * len(several) for _, several in photos]
    best = cider_d([several[0] for several in agreed], agreed)
    others = cider_d([answer for answer, _ in photos], agreed)
    assert all(other <= most + 1e-9 for other, most in zip(others, best, strict=True))


def test_the_answer_that_all_references_agree_on_scores_ten() -> None:
    photos = split("a dog runs on the grass", "two cats sleep in one bed")
    assert cider_d(photos, [[photo] * 5 for photo in photos]) == pytest.approx([10, 10], abs=1e-9)
