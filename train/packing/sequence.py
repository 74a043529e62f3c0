"""Training examples as tokens: the prefix before the image, the prompt after it, and the answer.

A layout tokenizes exactly as core/prompt.py does at inference, so that the model is trained on the
form in which it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minigpt4.core.errors import UsageError
from minigpt4.core.prompt import Image, Joined, PromptTemplate, Segment, User, prompt_pieces
from minigpt4.core.types import ImageEmbedding, PromptPiece, Text, Tokenize
from minigpt4.train.recipe import Prompt, Recipe

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


class Layout:
    """How the examples of an image become tokens.

    The form follows the recipe's `prompt`. `none`, the paper's stage 1: the image, a caption and a line
    end, without a question. `instruction`, its stage 2: the template's training prompt around one
    instruction. `chat`: the first question of a conversation.
    """

    def __init__(
        self, template: PromptTemplate, tokenize: Tokenize, prompt: Prompt = "chat", text_tokens: int = 0
    ) -> None:
        """`tokenize` is the language model's own; answers are truncated to `text_tokens` (0: no limit)."""
        self._template = template
        self._tokenize = tokenize
        self._form = prompt
        self._most = text_tokens or None
        self.stops = (PLAIN_END,) if prompt == "none" else template.stop
        """Stop strings of this form, besides the model's own end token."""

        self.prefix, _ = self._around_image("")
        """The tokens before the image, the same for every question."""

    def segments(self, question: str, image: ImageEmbedding) -> Sequence[Segment]:
        """Everything before the answer."""
        template = self._template
        match self._form:
            case "none":
                return ([Joined(template.begin)] if template.begin else []) + [Image(image)]
            case "instruction":
                assert template.training is not None  # layout_for checks it
                return template.training.segments(question, image)
            case "chat":
                return template.segments([User(question, images=[image])])

    def answer_texts(self, answer: str) -> Sequence[Text]:
        """The answer and its end token."""
        if self._form == "none":
            return (Text(answer), Text(PLAIN_END, control=True))
        return self._template.learnt_answer(answer)

    def tokenize_example(self, question: str, answer: str) -> Continuation:
        """A question and its answer as tokens.

        The limit includes the end token, as in the released code.
        """
        _, prompt = self._around_image(question)
        tokens = tuple(self._tokenize(*self.answer_texts(answer)))
        kept = tokens[: self._most]
        return Continuation(prompt, kept, is_truncated=len(tokens) > len(kept))

    def ask(self, question: str, image: ImageEmbedding) -> list[PromptPiece]:
        """The prompt for generating an answer in this form."""
        return prompt_pieces(self.segments(question, image), self._tokenize)

    def _around_image(self, question: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        pieces = self.ask(question, ImageEmbedding(np.zeros((1, 1), np.float32), key=""))
        place = next(place for place, piece in enumerate(pieces) if isinstance(piece, ImageEmbedding))
        tokens = [piece for piece in pieces if isinstance(piece, int)]
        return tuple(tokens[:place]), tuple(tokens[place:])


def layout_for(recipe: Recipe, template: PromptTemplate, tokenize: Tokenize) -> Layout:
    """The recipe's layout; raises UsageError if the template has no training prompt for it."""
    if recipe.prompt == "instruction" and template.training is None:
        raise UsageError(
            f"The recipe's prompt is 'instruction', and the template '{template.name}' of the bundle "
            f"'{recipe.bundle}' has no such form; --set prompt=chat with 'instructions=[]', or "
            "choose a bundle of MiniGPT-4."
        )
    return Layout(template, tokenize, recipe.prompt, recipe.text_tokens)
