"""Answers about a few fixed photos during training, to the same question every time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from minigpt4.core.language.base import LanguageModel
from minigpt4.core.language.detokenizer import Detokenizer
from minigpt4.core.types import ImageEmbedding, ResolvedSampling
from minigpt4.train.adapter import Adapter
from minigpt4.train.evaluate.suites.fluency import DETAIL_QUESTION
from minigpt4.train.events import Answer
from minigpt4.train.packing.sequence import Layout
from minigpt4.train.recipe import Recipe

ANSWER_TOKENS = 80
"""Most tokens of an answer, so that four of them take seconds and not minutes."""


@dataclass(frozen=True, eq=False)
class SampleAnswers:
    """Generates answers about fixed photos with the adapter's current weights."""

    language: LanguageModel
    layout: Layout
    question: str
    keys: Sequence[str]
    features_BND: Tensor
    """The adapter's inputs for the photos `keys`."""

    images: Mapping[str, bytes]
    """The encoded files of the photos."""

    def __call__(self, adapter: Adapter) -> tuple[Answer, ...]:
        """Each photo's greedy answer."""
        device = next(adapter.parameters()).device
        with torch.no_grad():
            image_BND = adapter(self.features_BND.to(device, torch.float32)).cpu()
        return tuple(
            Answer(key, self.question, self._generate(image_ND))
            for key, image_ND in zip(self.keys, image_BND, strict=True)
        )

    def _generate(self, image_ND: Tensor) -> str:
        image = ImageEmbedding(image_ND.numpy(), key="")
        self.language.reset()  # the KV cache cannot tell embeddings without a key apart
        stream = Detokenizer(self.layout.stops)
        chunks = []
        prompt = self.layout.ask(self.question, image)
        for token in self.language.generate(prompt, ResolvedSampling(max_tokens=ANSWER_TOKENS).greedy()):
            chunks.append(stream.feed(self.language.piece(token)))
            if stream.stopped:
                break
        self.language.reset()
        return "".join([*chunks, stream.finish()]).strip()


def question_of(recipe: Recipe) -> str:
    """The recipe's first instruction, or a request for a description in stage 2; empty in stage 1."""
    if recipe.prompt == "instruction":
        return recipe.instructions[0]
    return DETAIL_QUESTION if recipe.stage == 2 else ""
