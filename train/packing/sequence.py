"""What stands around a picture in training, as tokens: before it, between it and an answer, and the answer.

A layout cuts texts exactly as core/prompt.py has them cut when people ask, so that the form that is
learnt is the form that is used.
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
"""What ends a caption where nothing is asked (section 3.2 of arXiv 2304.10592, stage 1 of its code)."""


@dataclass(frozen=True)
class Branch:
    """One question and its answer as tokens.

    `header` is what stands between picture and answer, possibly nothing; `answer` ends with the end
    token, unless it `is_cut`: too long, and without its end.
    """

    header: tuple[int, ...]
    answer: tuple[int, ...]
    is_cut: bool = False


class Layout(ABC):
    """Questions and answers about one picture as tokens."""

    stops: tuple[str, ...]
    """Texts at which an answer in this form ends, besides the model's own end token."""

    def __init__(self, tokenize: Tokenize, text_tokens: int = 0) -> None:
        """`tokenize` is the language model's own; answers longer than `text_tokens` (0: none) are cut."""
        self._tokenize = tokenize
        self._most = text_tokens or None
        self.prefix, _ = self._around_picture("")
        """What stands before the picture, the same for every question."""

    @abstractmethod
    def segments(self, question: str, picture: ImageEmbedding) -> Sequence[Segment]:
        """All that stands before the answer."""

    @abstractmethod
    def learnt(self, answer: str) -> Sequence[Text]:
        """The answer with its end."""

    def branch(self, question: str, answer: str) -> Branch:
        """The branch of a question about the picture and its answer.

        The limit counts the end as well, as the tokenizer of the released code does.
        """
        _, header = self._around_picture(question)
        tokens = tuple(self._tokenize(*self.learnt(answer)))
        return Branch(header, tokens[: self._most], is_cut=len(tokens) > len(tokens[: self._most]))

    def ask(self, question: str, picture: ImageEmbedding) -> list[PromptPiece]:
        """The prompt to which the model answers in this form."""
        return prompt_pieces(self.segments(question, picture), self._tokenize)

    def _around_picture(self, question: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        pieces = self.ask(question, ImageEmbedding(np.zeros((1, 1), np.float32), key=""))
        place = next(place for place, piece in enumerate(pieces) if isinstance(piece, ImageEmbedding))
        tokens = [piece for piece in pieces if isinstance(piece, int)]
        return tuple(tokens[:place]), tuple(tokens[place:])


class ChatLayout(Layout):
    """The form of a conversation's first question."""

    def __init__(self, template: PromptTemplate, tokenize: Tokenize, text_tokens: int = 0) -> None:
        self._template = template
        self.stops = template.stop
        super().__init__(tokenize, text_tokens)

    def segments(self, question: str, picture: ImageEmbedding) -> Sequence[Segment]:
        return self._template.segments([User(question, images=[picture])])

    def learnt(self, answer: str) -> Sequence[Text]:
        return self._template.learnt_answer(answer)


class PlainLayout(Layout):
    """The paper's stage 1: the picture, a caption and a line end; nothing is asked."""

    stops = (PLAIN_END,)

    def __init__(self, template: PromptTemplate, tokenize: Tokenize, text_tokens: int = 0) -> None:
        self._begin = template.begin
        super().__init__(tokenize, text_tokens)

    def segments(self, question: str, picture: ImageEmbedding) -> Sequence[Segment]:
        """A question, if there is one, is not asked."""
        return ([Joined(self._begin)] if self._begin else []) + [Image(picture)]

    def learnt(self, answer: str) -> Sequence[Text]:
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

    def segments(self, question: str, picture: ImageEmbedding) -> Sequence[Segment]:
        return self._training.segments(question, picture)

    def learnt(self, answer: str) -> Sequence[Text]:
        return self._template.learnt_answer(answer)


def layout_for(recipe: Recipe, template: PromptTemplate, tokenize: Tokenize) -> Layout:
    """The recipe's layout; raises UsageError where the template has no training prompt for it."""
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
