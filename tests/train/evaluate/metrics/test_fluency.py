"""Failures in the form of long answers."""

from __future__ import annotations

import pytest

from minigpt4.train.evaluate.metrics.fluency import Failure, failures, is_english, loops

SOUND = "A man walks his dog. The dog is black; it pulls at its lead! Is it raining?"

POEM = """A dog runs over the sand,
the sea is at his side,
and nobody holds his hand

But he runs with the tide

Oh run, little dog, run,
the sea is at his side"""


@pytest.mark.parametrize(
    ("answer", "ran_to_limit", "expected"),
    [
        (SOUND, False, ()),
        ("The sign says 'Stop.'", False, ()),
        ("A dog runs fast.\nA cat sits.", False, ()),
        ("Mr. Smith meets Mr. Jones.", False, ()),
        ("A dog runs. A dog RUNS!", False, ("repeats itself",)),
        ("A dog runs. It is happy. A dog runs.", False, ("repeats itself",)),
        ("A dog runs.\n\nA dog runs", False, ("repeats itself", "stops in mid-sentence")),
        ("A dog and a cat and a cat and a cat.", False, ("repeats itself",)),
        ("A dog runs across the", False, ("stops in mid-sentence",)),
        ("A dog runs on,", False, ("stops in mid-sentence",)),
        ("A dog.", False, ("is a fragment",)),
        ("Dog", False, ("is a fragment", "stops in mid-sentence")),
        (SOUND, True, ("runs to the token limit",)),
        ("A dog and a dog and", True, ("stops in mid-sentence", "runs to the token limit")),
        ("Ein Mann in einem roten Hemd steht auf der Straße.", False, ("is not English",)),
        ("一只狗在沙滩上奔跑.", False, ("is not English",)),
        ("", False, ("says nothing",)),
        (" ... ", False, ("says nothing",)),
    ],
)
def test_form(answer: str, ran_to_limit: bool, expected: tuple[Failure, ...]) -> None:
    assert failures(answer, ran_to_limit=ran_to_limit) == expected


def test_a_poem_may_have_a_refrain_and_no_full_stop() -> None:
    assert failures(POEM, ran_to_limit=False, is_verse=True) == ()
    assert failures(POEM, ran_to_limit=False) == ("repeats itself", "stops in mid-sentence")


@pytest.mark.parametrize(
    "more", ["\nthe sea is at his side", "\nI see\nthe sea is at his side", "\nrun run run run"]
)
def test_a_poem_fails_by_repeating_without_end(more: str) -> None:
    assert failures(POEM + more, ran_to_limit=False, is_verse=True) == ("repeats itself",)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("It is a very, very, very big dog.", False),
        ("It is very very very very big.", True),
        ("A man with a man with a dog.", False),
        ("He says the same, the same, the same.", True),
        ("on the sofa of the room on the sofa of the room on the sofa of the room", True),
        ("a red car and a blue car and a green car", False),
    ],
)
def test_a_loop_is_the_same_words_three_times_in_a_row(answer: str, expected: bool) -> None:
    assert loops(answer) is expected


@pytest.mark.parametrize(
    "sentence",
    [
        "Man wearing black shirt climbs steep rock wall above water.",
        "Three dogs run across a snowy field.",
        "Children playing soccer on a muddy field near tall trees.",
        "The sign says \u505c\u6b62, which is Chinese, and under it STOP.",
        "The café serves crème brûlée and a glass of Grüner Veltliner to two guests.",
        "Los Angeles.",
    ],
)
def test_english_is_taken_for_english(sentence: str) -> None:
    assert is_english(sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "Ein Mann in einem roten Hemd steht auf einer Straße und hält einen Hund an der Leine.",
        "Un homme en chemise rouge se tient debout dans la rue et tient un chien en laisse.",
        "Un hombre con una camisa roja está de pie en la calle y sostiene un perro con una correa.",
        "Un uomo con una camicia rossa è in piedi per strada e tiene un cane al guinzaglio.",
        "Een man in een rood shirt staat op straat en houdt een hond aan de lijn.",
        "Um homem de camisa vermelha está de pé na rua e segura um cachorro pela coleira.",
        "En man i röd skjorta står på gatan och håller en hund i koppel.",
        "Mężczyzna w czerwonej koszuli stoi na ulicy i trzyma psa na smyczy.",
        "Мужчина в красной рубашке стоит на улице.",
        "赤いシャツを着た男性が通りに立っています。",
        "رجل يرتدي قميصا أحمر يقف في الشارع",
    ],
)
def test_other_languages_are_not_english_even_beside_it(sentence: str) -> None:
    assert not is_english(sentence)
    assert not is_english(f"{SOUND} {sentence}")
