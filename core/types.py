"""The values that the engine passes to a language model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, Self

from minigpt4.core.storage.dataclass_toml import bounded

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from minigpt4.core.pixels import Picture


@dataclass(frozen=True, eq=False)
class Stretch:
    """Neighbouring vectors of a picture: all of it, or one of its tiles.

    `positions` is how far the context's positions advance over it: less than `vectors` for an M-RoPE grid,
    whose `offsets_4N` (int32: time, row, column, 0) are relative to the position of its first vector
    (arXiv 2409.12191, section 2.1). Without a causal mask, vectors attend to all of the stretch.
    """

    vectors: int
    positions: int
    offsets_4N: NDArray[np.int32] | None = None
    is_causal: bool = True

    @property
    def is_whole(self) -> bool:
        """Whether it is computed and dropped only as a whole."""
        return self.offsets_4N is not None or not self.is_causal


Layout = tuple[tuple[int, ...] | Stretch, ...]
"""A picture in the prompt, in order: its vectors, and ids of tokens that mark its beginning or its tiles."""


LaidOut = tuple["NDArray[np.float32]", Layout]
"""A picture's vectors (N, D) and their layout."""


class Encoder(Protocol):
    """Encodes pictures for an engine; see `ImageEncoder`."""

    def __call__(self, picture: Picture, /) -> NDArray[np.float32] | LaidOut:
        """The picture's embedding (N, D_llm), with its layout if it is more than a row of vectors."""
        ...

    def object_boxes(self, picture: Picture, /) -> NDArray[np.float32]:
        """The boxes (K, 6) of its objects; called only if the bundle has a detector."""
        ...


@dataclass(frozen=True, eq=False)
class ImageEmbedding:
    """A picture as input of the language model: N vectors of the model's width.

    Not pixels and not the tower's features. `key` identifies the picture and everything that encoded
    it, so equal keys mean equal vectors. Without a `layout` it is one causal stretch without marks.
    """

    tokens_ND: NDArray[np.float32]
    key: str
    layout: Layout = ()

    def __len__(self) -> int:
        """How many context entries it takes: its vectors and its layout's tokens."""
        marks = sum(len(part) for part in self.layout if isinstance(part, tuple))
        return int(self.tokens_ND.shape[0]) + marks

    def parts(self) -> Iterator[tuple[tuple[int, ...] | Stretch, NDArray[np.float32]]]:
        """The layout's parts, each with its vectors (none for tokens)."""
        first = 0
        for part in self.layout or (Stretch(len(self), len(self)),):
            count = part.vectors if isinstance(part, Stretch) else 0
            yield part, self.tokens_ND[first : first + count]
            first += count


@dataclass(frozen=True)
class FoundObject:
    """An object that a bundle's detector found in a picture."""

    name: str
    score: float
    """0 to 1."""
    box: tuple[float, float, float, float]
    """Left, top, right and bottom, as fractions of the picture's width and height."""


PromptPiece = int | ImageEmbedding
"""One token id, or a whole picture."""


@dataclass(frozen=True)
class Text:
    """A part of a prompt's text; only a template's text is `control`, never the user's."""

    text: str
    control: bool = False


@dataclass(frozen=True)
class Reasoning:
    """How a model delimits its reasoning before the answer.

    `marks` are pairs of opening and closing delimiters; `closing` ends reasoning that the prompt itself
    opens, and is empty if it opens none.
    """

    marks: tuple[tuple[str, str], ...]
    closing: str = ""


class Tokenize(Protocol):
    """A tokenizer of adjacent texts; see `LanguageModel.tokenize`."""

    def __call__(self, *texts: Text) -> Sequence[int]:
        """Token ids of the texts as one."""
        ...


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen; a field that is None takes the bundle's value.

    `max_tokens` bounds the answer. `temperature=0` is greedy and ignores `top_k`, `top_p` and `seed`;
    otherwise the token is drawn from the `top_k` most likely ones (0: all), and of these from the
    smallest set whose probability reaches `top_p`. `repetition_penalty` divides (multiplies, below
    zero) the logits of tokens already generated in this answer (Keskar et al. 2019, arXiv 1909.05858).
    Without a seed anywhere, every call draws differently.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    seed: int | None = bounded(0, default=None)

    def over(self, defaults: ResolvedSampling) -> ResolvedSampling:
        """`defaults` with the fields of this one that are not None."""
        return replace(defaults, **{name: value for name, value in vars(self).items() if value is not None})

    def greedy(self) -> Self:
        """The same limits, always the most likely token, without a repetition penalty."""
        return replace(self, temperature=0.0, repetition_penalty=1.0)


@dataclass(frozen=True, kw_only=True)
class ResolvedSampling(Sampling):
    """A Sampling in which every field has a value: the bundle's own, or one that overrides it.

    The bounds are those of a manifest's `[sampling]`.
    """

    max_tokens: int = bounded(1, default=300)
    temperature: float = bounded(0, 10, default=1.0)
    top_p: float = bounded(0, 1, default=0.9)
    top_k: int = bounded(0, default=50)
    repetition_penalty: float = bounded(0.01, 10, default=1.05)
