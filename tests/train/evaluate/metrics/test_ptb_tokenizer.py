"""Tokenisation: the same words as the COCO evaluation's tokeniser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt4.train.evaluate.metrics.ptb_tokenizer import words

REFERENCE: dict[str, Any] = json.loads((Path(__file__).parent / "coco_reference.json").read_text("utf-8"))


@pytest.mark.parametrize("photo", REFERENCE["photos"], ids=lambda photo: photo["answer"])
def test_the_words_match_the_reference_tokeniser(photo: dict[str, Any]) -> None:
    captions = [photo["answer"], *photo["captions"]]
    assert [" ".join(words(caption)) for caption in captions] == [
        photo["answer_words"],
        *photo["caption_words"],
    ]


@pytest.mark.parametrize(
    ("caption", "expected"),
    [  # each checked with Stanford CoreNLP 3.4.1
        ('He said: "Go, now!" -- and left...', "he said go now and left"),
        ("the dogs' owner can't, won't, cannot gonna", "the dogs owner ca n't wo n't can not gon na"),
        ("A t-shirt; a rock 'n' roll band", "a t-shirt a rock 'n' roll band"),
        ("10,000 cats & 3.5 dogs for $5", "10,000 cats & 3.5 dogs for $ 5"),
        ("Mr. Smith's car, e.g. in the U.S.", "mr. smith 's car e.g. in the u.s."),
        ("a 4-wheeler at five o'clock", "a 4-wheeler at five o'clock"),
        ("café … – “quoted” ‘it’s’", "café quoted it 's"),
        ("...", ""),
    ],
)  # fmt: skip
def test_clitics_are_split_off_and_punctuation_is_dropped(caption: str, expected: str) -> None:
    assert words(caption) == expected.split()


@given(st.text())
def test_any_text_becomes_words_without_spaces(text: str) -> None:
    assert all(word and not any(letter.isspace() for letter in word) for word in words(text))


@given(st.text())
def test_surrounding_and_repeated_spaces_are_ignored(text: str) -> None:
    assert words("  " + text.replace(" ", "   ") + "\n") == words(text)
