"""Text from users, models and files cannot control the terminal or hide in it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from minigpt4.tui.terminal.sanitize import MAX_MARKS, sanitize, sanitize_line


@pytest.mark.parametrize(
    ("text", "sanitized"),
    [
        ("\x1b[31mred\x1b[0m", "␛[31mred␛[0m"),
        ("\x1b]0;title\x07", "␛]0;title␇"),
        ("a\x9b31mb", "a\ufffd31mb"),
        ("one\r\ntwo\rthree\x0bfour\u2028five\x85six", "one\ntwo\nthree\nfour\nfive\nsix"),
        ("safe\u202egpj.exe", "safegpj.exe"),
        ("a\u200bb\u2060c\ufeffd\u00ade", "abcde"),
        ("tags \U000e0041\U000e0042", "tags "),
        ("half \ud800", "half \ufffd"),
        ("[/] [bold]", "[/] [bold]"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("naïve — “yes” 猫 😀", "naïve — “yes” 猫 😀"),
    ],
)
def test_what_a_terminal_would_obey_is_seen_or_gone(text: str, sanitized: str) -> None:
    assert sanitize(text) == sanitized


def test_a_pile_of_accents_is_cut() -> None:
    assert sanitize("e" + "\u0301" * 50 + "f") == "e" + "\u0301" * MAX_MARKS + "f"


@given(st.text())
def test_no_text_keeps_a_control_or_a_format_character(text: str) -> None:
    for letter in sanitize(text):
        assert letter in "\n\t" or unicodedata.category(letter) not in ("Cc", "Cs", "Zl", "Zp")
        assert not 0x202A <= ord(letter) <= 0x202E
        assert not 0x2066 <= ord(letter) <= 0x2069


@given(st.text())
def test_safe_text_stays_as_it_is(text: str) -> None:
    assert sanitize(sanitize(text)) == sanitize(text)


@given(st.text())
def test_lines_are_counted_as_python_counts_them(text: str) -> None:
    assert sanitize(text).splitlines() == sanitize(text).split("\n")[: len(sanitize(text).splitlines())]


@given(st.text(), st.integers(1, 30))
def test_a_line_is_one_line_and_no_wider_than_asked(text: str, width: int) -> None:
    line = sanitize_line(text, width)
    assert "\n" not in line
    assert cell_len(line) <= width
