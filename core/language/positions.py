"""A prompt as positions of the context: the key of each, and the model's input for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.errors import BundleError
from minigpt4.core.language.kept_states import Key
from minigpt4.core.types import PromptPiece, Stretch


@dataclass(frozen=True, eq=False)
class ImageRun:
    """Vectors (N, D) of an indivisible image (`Stretch.is_whole`), from its vector `first` on."""

    stretch: Stretch
    vectors_ND: NDArray[np.float32]
    first: int = 0

    def __len__(self) -> int:
        return len(self.vectors_ND)

    def __getitem__(self, part: slice) -> ImageRun:
        start, _, _ = part.indices(len(self))
        return ImageRun(self.stretch, self.vectors_ND[part], self.first + start)


Run = list[int] | NDArray[np.float32] | ImageRun
"""Neighbouring positions of one kind: token ids, or the vectors (N, D) of an image embedding."""


@dataclass(frozen=True, eq=False)
class Positions:
    """Some positions of the context, in order: the key of each, and the model's input for them."""

    keys: list[Key]
    runs: list[Run]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, part: slice) -> Positions:
        start, stop, _ = part.indices(len(self))
        runs: list[Run] = []
        first = 0
        for run in self.runs:
            piece = run[max(start - first, 0) : max(stop - first, 0)]
            if len(piece):
                runs.append(piece)
            first += len(run)
        return Positions(self.keys[start:stop], runs)


def positions_of(prompt: Sequence[PromptPiece], width: int) -> Positions:
    """The positions of a prompt; raises BundleError for an image embedding of another width."""
    keys: list[Key] = []
    runs: list[Run] = []

    def add_tokens(tokens: Sequence[int]) -> None:
        keys.extend(tokens)
        if runs and isinstance(last := runs[-1], list):
            last.extend(tokens)
        elif tokens:
            runs.append(list(tokens))

    for piece in prompt:
        if isinstance(piece, int):
            add_tokens((piece,))
            continue
        if piece.tokens_ND.ndim != 2 or piece.tokens_ND.shape[1] != width:
            raise BundleError(
                f"An image embedding has the shape {piece.tokens_ND.shape}, but the language model "
                f"reads vectors of width {width}; projection and language model do not fit."
            )
        for place, (part, vectors_ND) in enumerate(piece.parts()):
            if isinstance(part, Stretch):
                keys += _image_keys(f"{piece.key}#{place}" if piece.layout else piece.key, part)
                runs.append(ImageRun(part, vectors_ND) if part.is_whole else vectors_ND)
            else:
                add_tokens(part)
    return Positions(keys, runs)


def _image_keys(name: str, stretch: Stretch) -> list[Key]:
    if stretch.is_whole:
        return [(name, index, stretch.positions) for index in range(stretch.vectors)]
    return [(name, index) for index in range(stretch.vectors)]
