"""The small protocol that both backends speak, and the values that cross it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ImageEmbedding:
    """A picture as the language model reads it: N vectors of the model's own width.

    Not pixels and not the tower's features. `key` names the content and everything that
    made the vectors, so equal keys mean equal vectors.
    """

    tokens_ND: NDArray[np.float32]
    key: str

    def __len__(self) -> int:
        return int(self.tokens_ND.shape[0])


PromptPiece = int | ImageEmbedding
"""One token id, or a whole picture."""


@dataclass(frozen=True)
class Text:
    """A stretch of a prompt's text; only a template's own is `control`, never a person's."""

    text: str
    control: bool = False


class Tokenize(Protocol):
    """What cuts texts that stand side by side into tokens; see `LanguageModel.tokenize`."""

    def __call__(self, *texts: Text) -> Sequence[int]:
        """Token ids of the texts as one."""
        ...


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen. `temperature=0` is greedy and ignores the rest of the dice.

    `max_tokens` bounds an answer. The dice fall among the `top_k` most likely tokens (0: all), of
    these among the fewest whose probabilities reach `top_p`; `seed=None` differs from call to call.
    `repetition_penalty` divides (or multiplies, below zero) the logits of tokens already
    generated in this answer, as in Keskar et al. 2019 (arXiv 1909.05858).
    """

    max_tokens: int = 300
    temperature: float = 1.0
    top_p: float = 0.9
    top_k: int = 50
    repetition_penalty: float = 1.05
    seed: int | None = None

    def greedy(self) -> Sampling:
        """The same limits without dice or penalty."""
        return replace(self, temperature=0.0, repetition_penalty=1.0)


class LanguageModel(Protocol):
    """A frozen language model with a key/value cache that lives from one call to the next."""

    width: int
    """Width of its input embeddings."""

    context: int
    """Most positions (tokens and image vectors) that one prompt and its answer may take."""

    def tokenize(self, *texts: Text) -> list[int]:
        """Token ids of texts that stand side by side, cut together where the family cuts them so.

        Only `control` text may become a control token, or what separates one turn from the next.
        """
        ...

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for; control tokens stand for none."""
        ...

    def is_end(self, token: int) -> bool:
        """Whether the token ends an answer."""
        ...

    def generate(
        self,
        prompt: Sequence[PromptPiece],
        sampling: Sampling,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[int]:
        """Yield token ids, without the end token, until it, `max_tokens` or a cancel.

        Only what follows the longest prefix shared with the cache is computed; `cancelled`
        is asked before every token and between chunks of the prompt.
        """
        ...

    def logits(self, prompt: Sequence[PromptPiece]) -> NDArray[np.float32]:
        """Logits (V,) of the token after the prompt."""
        ...

    def beams(
        self,
        prompt: Sequence[PromptPiece],
        sampling: Sampling,
        beams: int,
        length_penalty: float = 1.0,
        stop: Sequence[str] = (),
    ) -> list[int]:
        """The answer that a search over `beams` parallel ones finds, without the end token.

        The search also ends when all of them end with the same of the texts `stop`, which the
        answer then still has. Raises BackendError where the backend has no beam search,
        UsageError for fewer than one beam or a `sampling` that rolls dice.
        """
        ...

    def reset(self) -> None:
        """Forget the key/value cache."""
        ...

    @property
    def computed(self) -> int:
        """Positions computed by the last `generate` or `logits` call, cached ones not counted."""
        ...

    def close(self) -> None:
        """Free the model's memory."""
        ...
