"""Sample answers during training: with the current weights, in the recipe's layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from minigpt4.core.projection import Projection
from minigpt4.core.prompt import VICUNA_V0, SmolLM2
from minigpt4.core.types import ImageEmbedding, PromptPiece, Sampling
from minigpt4.train.adapter import Adapter
from minigpt4.train.events import Answer
from minigpt4.train.packing.sequence import Layout
from minigpt4.train.recipe import Prompt, Recipe
from minigpt4.train.sample_answers import ANSWER_TOKENS, SampleAnswers, question_of

MakeRecipe = Callable[..., Recipe]


class SummingModel:
    """A language model that answers with the sum of the image's embeddings and never ends by itself."""

    width, context, computed = 3, 100, 0

    def __init__(self, end: str) -> None:
        self._end = end
        self.prompts: list[Sequence[PromptPiece]] = []
        self.resets = 0

    def tokenize(self, *texts: Any) -> list[int]:
        return [byte for text in texts for byte in text.text.encode()]

    def piece(self, token: int) -> bytes:
        return bytes([token])

    def generate(
        self,
        prompt: Sequence[PromptPiece],
        sampling: Sampling,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[int]:
        assert (sampling.temperature, sampling.max_tokens) == (0.0, ANSWER_TOKENS)
        self.prompts.append(prompt)
        (picture,) = (piece for piece in prompt if isinstance(piece, ImageEmbedding))
        yield from f" {np.sum(picture.tokens_ND):.0f} things.{self._end}and so on".encode()

    def reset(self) -> None:
        self.resets += 1


def doubled() -> Adapter:
    """An adapter whose embeddings are the features, times two."""
    adapter = Adapter(Projection(3, 3))
    with torch.no_grad():
        adapter.projection.linear.weight.copy_(2 * torch.eye(3))
        adapter.projection.linear.bias.zero_()
    return adapter


def answers(
    prompt: Prompt, template: Any, end: str, question: str
) -> tuple[SummingModel, tuple[Answer, ...]]:
    language = SummingModel(end)
    features_BND = torch.stack([torch.ones(2, 3), 2 * torch.ones(2, 3)]).half()
    layout = Layout(template, language.tokenize, prompt)
    asking = SampleAnswers(language, layout, question, ["a", "b"], features_BND, {})  # type: ignore[arg-type]
    return language, asking(doubled())


def test_answers_end_at_the_layout_s_stop_string() -> None:
    language, found = answers("chat", SmolLM2(), "<|im_end|>", "What?")
    assert found == (Answer("a", "What?", "12 things."), Answer("b", "What?", "24 things."))
    # Embeddings change with every step, so no KV prefix of an earlier one is reused.
    assert language.resets >= 2


def test_a_caption_ends_at_its_line_end() -> None:
    language, found = answers("none", VICUNA_V0, "\n", "")
    assert [one.answer for one in found] == ["12 things.", "24 things."]
    assert [type(piece) for piece in language.prompts[0]] == [int, int, int, ImageEmbedding]  # <s>


def test_the_question_follows_from_the_recipe(tiny_recipe: MakeRecipe) -> None:
    assert question_of(tiny_recipe()) == ""
    assert question_of(tiny_recipe(stage=2)) == "Describe this image in detail."
    assert question_of(tiny_recipe(stage=2, prompt="instruction", instructions=("Go.", "Say."))) == "Go."
