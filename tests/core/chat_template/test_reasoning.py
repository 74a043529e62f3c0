"""What a model thinks is told from what it answers, however the text arrives."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.chat_template.forms import FAMILIES

from minigpt4.core.chat_template.reasoning import MARKS, ReasoningSplitter
from minigpt4.core.chat_template.template import ChatTemplate
from minigpt4.core.types import Reasoning

FREE = Reasoning(MARKS)
BEGUN = Reasoning(MARKS, "</think>")


def split(reasoning: Reasoning | None, *parts: str) -> tuple[str, str]:
    """The reasoning and the answer."""
    splitter = ReasoningSplitter(reasoning)
    pieces = [piece for part in parts for piece in splitter.feed(part)]
    pieces += splitter.feed("", is_last=True)
    assert all(text for text, _ in pieces)
    thought, answer = (
        "".join(text for text, is_thought in pieces if is_thought == wanted) for wanted in (True, False)
    )
    return thought, answer


@pytest.mark.parametrize(
    ("reasoning", "text", "expected"),
    [
        (FREE, "<think>\nA dog?\n</think>\n\nA cat.", ("A dog?", "A cat.")),
        (FREE, " \n<think>A dog?</think>A cat.", ("A dog?", "A cat.")),
        (FREE, "[THINK]A dog?[/THINK]A cat.", ("A dog?", "A cat.")),
        (FREE, "◁think▷A dog?◁/think▷ A cat.", ("A dog?", "A cat.")),
        (FREE, "<think></think>A cat.", ("", "A cat.")),
        (FREE, "A cat.", ("", "A cat.")),
        (FREE, " <thin air", ("", " <thin air")),
        (FREE, "<", ("", "<")),
        (FREE, "It says <think>x</think>.", ("", "It says <think>x</think>.")),
        (FREE, "<think>no end <", ("no end <", "")),
        (BEGUN, "A dog?</think>\nA cat </think>.", ("A dog?", "A cat </think>.")),
        (BEGUN, "\nno end", ("no end", "")),
        (BEGUN, "</think>A cat.", ("", "A cat.")),
        (None, "<think>A dog?</think>", ("", "<think>A dog?</think>")),
    ],
)
def test_reasoning_is_what_stands_between_the_marks_at_the_beginning(
    reasoning: Reasoning | None, text: str, expected: tuple[str, str]
) -> None:
    assert split(reasoning, text) == expected


words = st.lists(
    st.sampled_from(["<think>", "</think>", "[THINK]", "[/THINK]", "<", "</", "think>", " ", "\n", "a"])
)


@given(words.map("".join), st.sampled_from([FREE, BEGUN, None]), st.lists(st.integers(0, 40)))
def test_it_does_not_matter_how_the_text_is_divided(
    text: str, reasoning: Reasoning | None, cuts: list[int]
) -> None:
    places = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    parts = [text[start:end] for start, end in pairwise(places)]
    assert split(reasoning, *parts) == split(reasoning, text)


@given(words.map("".join), st.sampled_from([FREE, BEGUN, None]))
def test_nothing_but_marks_and_space_is_lost(text: str, reasoning: Reasoning | None) -> None:
    def letters(text: str) -> str:
        for mark in (mark for pair in MARKS for mark in pair):
            text = text.replace(mark, "")
        return "".join(text.split())

    assert letters("".join(split(reasoning, text))).count("a") == letters(text).count("a")


@pytest.mark.parametrize(("name", "closing"), [("thinking", "</think>"), ("qwen2-vl", "")])
def test_a_template_may_begin_the_reasoning_itself(name: str, closing: str) -> None:
    template = ChatTemplate(FAMILIES[name].source, name=name)
    assert template.reasoning == Reasoning(MARKS, closing)
    template.close()
