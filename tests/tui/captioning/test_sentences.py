"""Alt text: one sentence, without saying that this is a picture."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt4.tui.captioning.sentences import alt_text, whole_sentences


@pytest.mark.parametrize(
    ("answer", "alt"),
    [
        ("A cat.", "A cat."),
        ("a cat", "A cat."),
        ("The image shows a cat on a sofa. It looks tired.", "A cat on a sofa."),
        ("In this image, there is a cat\non a sofa.", "A cat on a sofa."),
        ("In the photo, two men are playing chess!", "Two men are playing chess!"),
        ("This is a photo of a red bus.", "A red bus."),
        ("This is a black-and-white photo of a bus.", "A black-and-white photo of a bus."),
        ("The picture appears to show that a dog sleeps.", "A dog sleeps."),
        ("The image is a close-up of a rose.", "A close-up of a rose."),
        ("A picture of Dr. Smith with J. Doe at 3.5 m. They smile.", "Dr. Smith with J. Doe at 3.5 m."),
        ('Alt text: "Two dogs run."', "Two dogs run."),
        ("“A cat sits here.”", "A cat sits here."),
        ("1. A cat. 2. A dog.", "A cat."),
        ("Sure! Here's a short caption for this image: A red bus. It is new.", "A red bus."),
        ("There are two **dogs**, playing", "Two dogs, playing."),
        ("We can see a house ,", "A house."),
        ('A sign that says "Stop." Cars wait.', 'A sign that says "Stop."'),
        ("Is it a cat? Yes.", "Is it a cat?"),
        ("The U.S. flag at 3 p.m. on a roof. It waves.", "The U.S. flag at 3 p.m. on a roof."),
        ("Ein Hund läuft durch den Schnee. Er bellt.", "Ein Hund läuft durch den Schnee."),
        ("一只猫。它很累。", "一只猫。"),
        ("The picture hangs on a wall.", "The picture hangs on a wall."),
        ("The image shows", "The image shows."),
        (" \n", ""),
    ],
)
def test_alt_text_says_at_once_what_is_seen(answer: str, alt: str) -> None:
    assert alt_text(answer) == alt


@given(st.text(st.sampled_from("aT .\"'!?\n1*:。,")))
def test_alt_text_is_one_line_that_ends_and_stays_as_it_is(answer: str) -> None:
    alt = alt_text(answer)
    assert "\n" not in alt
    assert alt == alt.strip()
    assert bool(alt) <= bool(answer.strip())


@pytest.mark.parametrize(
    ("answer", "whole"),
    [
        ("A cat sits. It looks ti", "A cat sits."),
        ("A cat sits. Dr. Who", "A cat sits."),
        ("A cat that", "A cat that"),
        ("One.\n\nTwo!\nThr", "One.\n\nTwo!"),
        (" A cat. ", "A cat."),
    ],
)
def test_an_answer_that_was_cut_off_keeps_its_whole_sentences(answer: str, whole: str) -> None:
    assert whole_sentences(answer) == whole
