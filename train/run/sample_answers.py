"""What the model says about a few photos while it learns: the same photos and questions every time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from minigpt4.core.language.detokenizer import TextStream
from minigpt4.core.types import ImageEmbedding, LanguageModel, Sampling
from minigpt4.train.evaluate.evaluate import DETAIL_QUESTION
from minigpt4.train.events import Answer
from minigpt4.train.packing.sequence import Layout
from minigpt4.train.recipe import Recipe
from minigpt4.train.trainable import TrainedPart

ANSWER_TOKENS = 80
"""Most tokens of an answer, so that four of them take seconds and not minutes."""


class Answers:
    """Asks about fixed photos; an instance is what Trainer's `answers` calls."""

    def __init__(
        self,
        language: LanguageModel,
        layout: Layout,
        question: str,
        keys: Sequence[str],
        features_BND: Tensor,
    ) -> None:
        """`features_BND` are what the trained part reads of the photos called `keys`."""
        self._language = language
        self._layout = layout
        self._question = question
        self._keys = tuple(keys)
        self._features_BND = features_BND

    def __call__(self, part: TrainedPart) -> tuple[Answer, ...]:
        """Each photo's most likely answer, as `part` is now."""
        device = next(part.parameters()).device
        with torch.no_grad():
            image_BND = part(self._features_BND.to(device, torch.float32)).cpu()
        return tuple(
            Answer(key, self._question, self._say(image_ND))
            for key, image_ND in zip(self._keys, image_BND, strict=True)
        )

    def _say(self, image_ND: Tensor) -> str:
        picture = ImageEmbedding(image_ND.numpy(), key="")
        self._language.reset()  # pictures that change have no key by which a cache could tell them apart
        stream = TextStream(self._layout.stops)
        said = []
        prompt = self._layout.ask(self._question, picture)
        for token in self._language.generate(prompt, Sampling(max_tokens=ANSWER_TOKENS).greedy()):
            said.append(stream.feed(self._language.piece(token)))
            if stream.stopped:
                break
        self._language.reset()
        return "".join([*said, stream.finish()]).strip()


def question_of(recipe: Recipe) -> str:
    """What is asked in a recipe's own form: nothing in stage 1, else a description."""
    if recipe.prompt == "instruction":
        return recipe.instructions[0]
    return DETAIL_QUESTION if recipe.stage == 2 else ""
