from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt4.core.language.detokenizer import Detokenizer

# A small alphabet makes stop strings occur, overlap and begin without ending.
LETTERS = st.text("abé猫🐈", max_size=20)
STOPS = st.lists(st.text("abé猫🐈", min_size=1, max_size=5), max_size=4)


def divided(data: bytes, borders: list[int]) -> list[bytes]:
    cuts = sorted({0, len(data), *(border % (len(data) + 1) for border in borders)})
    return [data[start:end] for start, end in pairwise(cuts)]


def streamed(chunks: list[bytes], stops: list[str]) -> tuple[list[str], Detokenizer]:
    stream = Detokenizer(stops)
    return [*(stream.feed(chunk) for chunk in chunks), stream.finish()], stream


def before_first_stop(text: str, stops: list[str]) -> str:
    return text[: min((text.find(stop) for stop in stops if stop in text), default=len(text))]


@given(LETTERS, STOPS, st.lists(st.integers(0, 100)))
def test_what_comes_out_is_the_text_before_the_first_stop_however_it_is_divided(
    text: str, stops: list[str], borders: list[int]
) -> None:
    pieces, stream = streamed(divided(text.encode(), borders), stops)
    assert "".join(pieces) == before_first_stop(text, stops)
    assert stream.stopped == any(stop in text for stop in stops)


@given(st.text(max_size=30), st.lists(st.text(max_size=3), max_size=3), st.lists(st.integers(0, 200)))
def test_the_same_holds_for_any_text_and_any_stops(text: str, stops: list[str], borders: list[int]) -> None:
    text = text.encode(errors="replace").decode()
    stops = [stop for stop in stops if stop]
    assert "".join(streamed(divided(text.encode(), borders), stops)[0]) == before_first_stop(text, stops)


@given(st.binary(max_size=40), st.lists(st.integers(0, 200)))
def test_any_bytes_come_out_as_python_would_replace_them_without_the_unfinished_end(
    data: bytes, borders: list[int]
) -> None:
    text = "".join(streamed(divided(data, borders), [])[0])
    whole = data.decode(errors="replace")
    unfinished = whole.removeprefix(text)
    assert whole == text + unfinished
    assert unfinished in ("", "\ufffd", "\ufffd\ufffd")  # two: the first half of a surrogate
    if text != whole:
        assert whole.endswith("\ufffd")


@given(LETTERS, STOPS, st.lists(st.integers(0, 100)))
def test_no_piece_is_taken_back(text: str, stops: list[str], borders: list[int]) -> None:
    shown = ""
    stream = Detokenizer(stops)
    for chunk in divided(text.encode(), borders):
        shown += stream.feed(chunk)
        assert before_first_stop(text, stops).startswith(shown)


def test_text_without_the_beginning_of_a_stop_is_shown_at_once() -> None:
    stream = Detokenizer(["###"])
    assert stream.feed(b"A cat") == "A cat"
    assert stream.feed(b" #") == " "
    assert stream.feed(b"1 is best.") == "#1 is best."


def test_a_stop_string_does_not_leak_even_in_part() -> None:
    stream = Detokenizer(["</s>"])
    assert [stream.feed(piece) for piece in (b"Yes.", b"<", b"/s", b">", b"No.")] == ["Yes.", "", "", "", ""]
    assert stream.stopped
    assert stream.finish() == ""


def test_a_held_back_beginning_is_shown_when_the_answer_ends() -> None:
    stream = Detokenizer(["###"])
    assert stream.feed(b"C##") == "C"
    assert stream.finish() == "##"
    assert not stream.stopped


def test_an_emoji_cut_in_four_appears_once_and_whole() -> None:
    stream = Detokenizer()
    assert [stream.feed(bytes([byte])) for byte in "🐈".encode()] == ["", "", "", "🐈"]


def test_an_unfinished_character_at_the_end_is_dropped() -> None:
    stream = Detokenizer()
    assert stream.feed("猫".encode()[:2]) == ""
    assert stream.finish() == ""


@pytest.mark.parametrize("broken", [b"\xff", b"\xf0\x9f\x90", b"\xe7\x8c"])
def test_a_broken_character_inside_becomes_one_replacement_character(broken: bytes) -> None:
    assert "".join(streamed([b"a", broken, b"b"], [])[0]) == "a\ufffdb"


EDGES = st.lists(st.sampled_from([" ", "\n", "Assistant:", "Assis", "a", "猫", "###", "#"]), max_size=10).map(
    "".join
)


@given(EDGES, st.lists(st.integers(0, 100)))
def test_with_an_opening_white_space_around_the_answer_and_the_opening_are_omitted(
    text: str, borders: list[int]
) -> None:
    stream = Detokenizer(["###"], opening="Assistant:")
    pieces = [*(stream.feed(chunk) for chunk in divided(text.encode(), borders)), stream.finish()]
    expected = before_first_stop(text, ["###"]).strip()
    while expected.startswith("Assistant:"):
        expected = expected.removeprefix("Assistant:").strip()
    assert "".join(pieces) == expected


def test_white_space_inside_an_answer_is_kept_and_waits_for_what_follows() -> None:
    stream = Detokenizer(opening="Assistant:")
    assert [stream.feed(piece) for piece in (b" ", b" The", b" ", b"\n", b"cat", b" ")] == [
        "", "The", "", "", " \ncat", "",
    ]  # fmt: skip
    assert stream.finish() == ""


def test_a_held_back_opening_that_was_none_is_shown_at_the_end() -> None:
    stream = Detokenizer(opening="Assistant:")
    assert stream.feed(b"Assis") == ""
    assert stream.finish() == "Assis"
