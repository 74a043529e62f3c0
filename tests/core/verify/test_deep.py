"""Findings about a language model from its loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from minigpt4.core.language.base import LanguageModel
from minigpt4.core.prompt import TEMPLATES
from minigpt4.core.types import PromptPiece, Text
from minigpt4.core.verify.deep import answer_check, mean_loss, sentence_check

VOCABULARY = 32000


class Letters:
    """A model whose tokens are letters, and which gives the true next one the probability `p`."""

    def __init__(self, p: float) -> None:
        self._p = p
        self._told = ""
        self.asked: list[str] = []

    def tokenize(self, *texts: Text) -> list[int]:
        joined = "".join(text.text for text in texts)
        self._told += joined
        return list(map(ord, joined))

    def logits(self, prompt: Sequence[PromptPiece]) -> NDArray[np.float32]:
        logits_V = np.full(VOCABULARY, math.log((1 - self._p) / (VOCABULARY - 1)), dtype=np.float32)
        so_far = "".join(chr(cast("int", piece)) for piece in prompt)
        following = self._told[self._told.rindex(so_far) + len(so_far)]
        logits_V[ord(following)] = math.log(self._p)
        self.asked.append(so_far)
        return logits_V


def model(p: float) -> LanguageModel:
    return cast("LanguageModel", Letters(p))


def test_the_loss_is_the_mean_of_minus_ln_p() -> None:
    letters = model(0.25)
    tokens = letters.tokenize(Text("abcdef"))
    loss, vocabulary = mean_loss(letters, tokens, start=1)
    assert loss == pytest.approx(math.log(4), abs=1e-5)
    assert vocabulary == VOCABULARY


@pytest.mark.parametrize("template", ["vicuna-v0", "llama2", "smollm2"])
@pytest.mark.parametrize(
    ("p", "state"), [(0.2, "ok"), (math.exp(-6), "warning"), (1 / VOCABULARY, "problem"), (1e-9, "problem")]
)
def test_a_loss_is_good_or_much_or_a_guess(template: str, p: float, state: str) -> None:
    for check in (sentence_check, answer_check):
        assert check(model(p), TEMPLATES[template]).state == state


def test_a_guess_is_called_by_its_number() -> None:
    check = sentence_check(model(1 / VOCABULARY), TEMPLATES["vicuna-v0"])
    assert "ln 32000 = 10.4" in check.text
    assert check.value == pytest.approx(VOCABULARY, rel=1e-3)


def test_logits_that_are_not_finite_are_a_problem_without_a_value() -> None:
    class Overflowed(Letters):
        def logits(self, prompt: Sequence[PromptPiece]) -> NDArray[np.float32]:
            return np.full(VOCABULARY, np.nan, dtype=np.float32)

    check = sentence_check(cast("LanguageModel", Overflowed(0.5)), TEMPLATES["vicuna-v0"])
    assert (check.state, check.value) == ("problem", None)
    assert "are not finite" in check.text


def test_only_the_answer_counts_and_it_follows_the_question() -> None:
    letters = Letters(0.5)
    answer_check(cast("LanguageModel", letters), TEMPLATES["vicuna-v0"])
    assert letters.asked[0].endswith("###Human: What is the capital of France?###Assistant: ")
    assert letters.asked[-1].endswith("###Assistant: The capital of France is Paris")
