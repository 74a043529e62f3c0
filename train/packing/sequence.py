"""Training examples as tokens: the prefix before the image, the prompt after it, and the answer.

A layout tokenizes exactly as core/prompt.py does at inference, so that the model is trained on the
form in which it is used.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minigpt4.core.errors import UsageError
from minigpt4.core.prompt import (
    Image,
    Joined,
    PromptTemplate,
    Segment,
    TrainingPrompt,
    User,
    prompt_pieces,
)
from minigpt4.core.types import ImageEmbedding, PromptPiece, Text, Tokenize
from minigpt4.train.recipe import Recipe

PLAIN_END = "\n"
"""Ends a caption if there is no question (section 3.2 of arXiv 2304.10592, stage 1 of its code)."""


@dataclass(frozen=True)
class Continuation:
    """One example as tokens, after the image.

    `prompt` are the tokens between image and answer, possibly none; `answer` ends with the end token
    unless it `is_truncated`.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    is_truncated: bool = False


class Layout(ABC):
    """How the examples of an image become tokens."""

    stops: tuple[str, ...]
    """Stop strings of this form, besides the model's own end token."""

    def __init__(self, tokenize: Tokenize, text_tokens: int = 0) -> None:
        """`tokenize` is the language model's own; answers are truncated to `text_tokens` (0: no limit)."""
        self._tokenize = tokenize
        self._most = text_tokens or None
        self.prefix, _ = self._around_image("")
        """The tokens before the image, the same for every question."""

    @abstractmethod
    def segments(self, question: str, image: ImageEmbedding) -> Sequence[Segment]:
        """Everything before the answer."""

    @abstractmethod
    def answer_texts(self, answer: str) -> Sequence[Text]:
        """The answer and its end token."""

    def tokenize_example(self, question: str, answer: str) -> Continuation:
        """A question and its answer as tokens.

        The limit includes the end token, as in the released code.
        """
        _, prompt = self._around_image(question)
        tokens = tuple(self._tokenize(*self.answer_texts(answer)))
        return Continuation(
            prompt, tokens[: self._most], is_truncated=len(tokens) > len(tokens[: self._most])
        )

    def ask(self, question: str, image: ImageEmbedding) -> list[PromptPiece]:
        """The prompt for generating an answer in this form."""
        return prompt_pieces(self.segments(question, image), self._tokenize)

    def _around_image(self, question: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        pieces = self.ask(question, ImageEmbedding(np.zeros((1, 1), np.float32), key=""))
        place = next(place for place, piece in enumerate(pieces) if isinstance(piece, ImageEmbedding))
        tokens = [piece for piece in pieces if isinstance(piece, int)]
        return tuple(tokens[:place]), tuple(tokens[place:])


class ChatLayout(Layout):
    """The first question of a conversation."""

    def __init__(self, template: PromptTemplate, tokenize: Tokenize, text_tokens: int = 0) -> None:
        self._template = template
        self.stops = template.stop
        super().__init__(tokenize, text_tokens)

    def segments(self, question: str, image: ImageEmbedding) -> Sequence[Segment]:
        return self._template.segments([User(question, images=[image])])

    def answer_texts(self, answer: str) -> Sequence[Text]:
        return self._template.learnt_answer(answer)


class PlainLayout(Layout):
    """The paper's stage 1: the image, a caption and a line end, without a question."""

    stops = (PLAIN_END,)

    def __init__(self, template: PromptTemplate, tokenize: Tokenize, text_tokens: int = 0) -> None:
        self._begin = template.begin
        super().__init__(tokenize, text_tokens)

    def segments(self, question: str, image: ImageEmbedding) -> Sequence[Segment]:
        """The question is ignored."""
        return ([Joined(self._begin)] if self._begin else []) + [Image(image)]

    def answer_texts(self, answer: str) -> Sequence[Text]:
        return (Text(answer), Text(PLAIN_END, control=True))


class InstructionLayout(Layout):
    """The paper's stage 2: the template's training prompt around one instruction."""

    def __init__(
        self, template: PromptTemplate, training: TrainingPrompt, tokenize: Tokenize, text_tokens: int = 0
    ) -> None:
        self._template = template
        self._training = training
        self.stops = template.stop
        super().__init__(tokenize, text_tokens)

    def segments(self, question: str, image: ImageEmbedding) -> Sequence[Segment]:
        return self._training.segments(question, image)

    def answer_texts(self, answer: str) -> Sequence[Text]:
        return self._template.learnt_answer(answer)


def layout_for(recipe: Recipe, template: PromptTemplate, tokenize: Tokenize) -> Layout:
    """The recipe's layout; raises UsageError if the template has no training prompt for it."""
    match recipe.prompt:
        case "none":
            return PlainLayout(template, tokenize, recipe.text_tokens)
        case "chat":
            return ChatLayout(template, tokenize, recipe.text_tokens)
        case "instruction":
            if template.training is None:
                raise UsageError(
                    f"The recipe's prompt is 'instruction', and the template '{template.name}' of the bundle "
                    f"'{recipe.bundle}' has no such form; --set prompt=chat with 'instructions=[]', or "
                    "choose a bundle of MiniGPT-4."
                )
            return InstructionLayout(template, template.training, tokenize, recipe.text_tokens)
