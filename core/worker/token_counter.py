"""Counts the tokens of conversations without encoding their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from minigpt4.core.errors import ContextError
from minigpt4.core.prompt import Message, prompt_pieces, prompt_positions
from minigpt4.core.trim import trim
from minigpt4.core.types import ImageEmbedding, Text

if TYPE_CHECKING:
    from minigpt4.core.engine import Engine

CACHED_TEXTS = 512
LONGEST_CACHED = 10_000
"""Characters: a draft as long as a book, counted at every keystroke, must not be cached 512 times."""


class TokenCounter:
    """Counts prompts as an engine would build them; does not touch the engine's KV cache."""

    placeholder: ImageEmbedding
    """Zeros in the size of a picture's embedding (approximate if sizes differ)."""

    def __init__(self, engine: Engine) -> None:
        zeros_ND = np.broadcast_to(np.float32(0), (engine.bundle.image_tokens, engine.language.width))
        self.placeholder = ImageEmbedding(zeros_ND, key="any")
        self._context = engine.language.context
        self._language = engine.language
        self._template = engine.template
        self._cached = lru_cache(CACHED_TEXTS)(self._language.tokenize)

    def count(self, conversation: Sequence[Message], max_tokens: int) -> tuple[int, int]:
        """Positions of the prompt for an answer of `max_tokens`, and how many messages it drops.

        If the last message alone is too long, the positions are those of all messages.
        """
        try:
            kept = trim(conversation, self._positions, context=self._context, max_tokens=max_tokens)
        except ContextError:
            return self._positions(conversation), 0
        return self._positions(kept.messages), kept.dropped

    def _positions(self, conversation: Sequence[Message]) -> int:
        return prompt_positions(prompt_pieces(self._template.segments(conversation), self._tokenize))

    def _tokenize(self, *texts: Text) -> list[int]:
        is_long = sum(len(text.text) for text in texts) > LONGEST_CACHED
        return self._language.tokenize(*texts) if is_long else self._cached(*texts)
