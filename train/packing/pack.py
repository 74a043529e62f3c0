"""Samples of different lengths side by side in one row, without padding.

A sample is a tree: its picture's vectors and its trunk (the tokens with which all its questions
begin), then its branches, each of which sees the prefix, the picture, the trunk and itself, and
none of the others. The row holds all pictures' vectors first, then all tokens, tree by tree; the
linear layers of a language model, nearly all of its work, read it as it is. Only in attention every
tree is a line of its own, as long as the longest: a few dozen positions squared, where one long row
under a mask would be thousands squared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minigpt4.train.packing.sequence import Branch

_TRUNK = 0


@dataclass(frozen=True, eq=False)
class Packed:
    """B trees in one row of S = B * N image vectors + T tokens; in attention B lines of Q positions.

    `positions_S` counts from each tree's own start, the prefix included. `lines_S` is where each
    position stands in the lines laid end to end (B * Q). `visible_BQK` says which of K = P prefix
    positions + Q line positions each may read. `predicting_L` are the positions after which each of
    `labels_L` stands.
    """

    tokens_T: Tensor
    positions_S: Tensor
    lines_S: Tensor
    visible_BQK: Tensor
    predicting_L: Tensor
    labels_L: Tensor

    def to(self, device: torch.device) -> Packed:
        """The same on another device."""
        return Packed(**{name: value.to(device, non_blocking=True) for name, value in vars(self).items()})


def pack(trees: Sequence[Sequence[Branch]], *, prefix: int, image_tokens: int) -> Packed:
    """Lay out one tree of branches a photo, behind `prefix` positions and `image_tokens` vectors."""
    flat = [_flatten(branches, image_tokens) for branches in trees]
    lengths = [image_tokens + len(tree.tokens) for tree in flat]
    longest = max(lengths)
    # Where each tree's tokens begin in the row: behind all pictures and the trees before it.
    begins = np.cumsum([len(trees) * image_tokens, *(len(tree.tokens) for tree in flat)])[:-1]
    image = np.arange(image_tokens)
    places, positions, lines, predicting = [], [], [], []
    for number, (tree, begin) in enumerate(zip(flat, begins, strict=True)):
        # Place in the row of each of the tree's own places: the picture's vectors, then its tokens.
        places.append(np.concatenate([number * image_tokens + image, begin + np.arange(len(tree.tokens))]))
        positions.append(prefix + np.concatenate([image, image_tokens + np.array(tree.depths, int)]))
        lines.append(number * longest + np.arange(lengths[number]))
        predicting.append(places[-1][tree.predicting])
    row = np.argsort(np.concatenate(places))
    return Packed(
        tokens_T=_tensor([token for tree in flat for token in tree.tokens]),
        positions_S=_tensor(np.concatenate(positions)[row]),
        lines_S=_tensor(np.concatenate(lines)[row]),
        visible_BQK=torch.from_numpy(_visible([tree.owners for tree in flat], prefix, image_tokens, longest)),
        predicting_L=_tensor(np.concatenate(predicting)),
        labels_L=_tensor([label for tree in flat for label in tree.labels]),
    )


def tree_length(branches: Sequence[Branch]) -> int:
    """How many tokens a tree of branches takes in a row, its picture left out."""
    trunk = _shared([branch.header for branch in branches])
    return trunk + sum(len(branch.header) - trunk + len(branch.answer) - 1 for branch in branches)


@dataclass(frozen=True)
class _Tree:
    """One tree's tokens, with the branch (from 1; 0: the trunk) and the depth below the picture of each.

    `predicting` counts from the picture's first vector.
    """

    tokens: list[int]
    owners: list[int]
    depths: list[int]
    predicting: list[int]
    labels: list[int]


def _flatten(branches: Sequence[Branch], image_tokens: int) -> _Tree:
    headers = [branch.header for branch in branches]
    trunk = _shared(headers)
    tree = _Tree(list(headers[0][:trunk]), [_TRUNK] * trunk, list(range(trunk)), [], [])
    for owner, branch in enumerate(branches, start=1):
        # An answer's last token predicts nothing that is learnt, so it is not read.
        own = [*branch.header[trunk:], *branch.answer[:-1]]
        own_begin, answer_begin = len(tree.tokens), len(branch.header) - trunk
        # What predicts the answer's first token may be the trunk's last one, or the picture's.
        before = image_tokens + (own_begin + answer_begin if answer_begin else trunk) - 1
        after = range(image_tokens + own_begin + answer_begin, image_tokens + own_begin + len(own))
        tree.tokens.extend(own)
        tree.owners.extend([owner] * len(own))
        tree.depths.extend(range(trunk, trunk + len(own)))
        tree.predicting.extend([before, *after])
        tree.labels.extend(branch.answer)
    return tree


def _shared(headers: Sequence[Sequence[int]]) -> int:
    """How many tokens all of them begin with."""
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*headers, strict=False)))


def _visible(
    owners: Sequence[Sequence[int]], prefix: int, image_tokens: int, longest: int
) -> NDArray[np.bool_]:
    # Padding is nobody's: -1 on the side that reads, -2 on the side that is read.
    readers_BQ, read_BQ = (np.full((len(owners), longest), nobody) for nobody in (-1, -2))
    for line_BQ in (readers_BQ, read_BQ):
        line_BQ[:, :image_tokens] = _TRUNK
        for number, of_tree in enumerate(owners):
            line_BQ[number, image_tokens : image_tokens + len(of_tree)] = of_tree
    within_BQQ = (readers_BQ[:, :, None] == read_BQ[:, None, :]) | (read_BQ[:, None, :] == _TRUNK)
    within_BQQ &= np.tri(longest, dtype=bool)
    return np.concatenate([np.ones((len(owners), longest, prefix), bool), within_BQQ], axis=2)


def _tensor(values: Sequence[int] | NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.int64))


class Apart(torch.autograd.Function):
    """Rows (S, ...) into the lines of attention (B * Q, ...), zeros where a line has no position."""

    @staticmethod
    def forward(ctx: Any, rows_S: Tensor, lines_S: Tensor, length: int) -> Tensor:
        """The lines, laid end to end."""
        ctx.save_for_backward(lines_S)
        return rows_S.new_zeros(length, *rows_S.shape[1:]).index_copy_(0, lines_S, rows_S)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Each row's gradient is that of its place in the lines."""
        (lines_S,) = ctx.saved_tensors
        return gradients[0].index_select(0, lines_S), None, None


class Together(torch.autograd.Function):
    """The reverse of Apart.

    torch's own gradient of `index_select` adds, with atomics on a GPU; here nothing is chosen twice.
    """

    @staticmethod
    def forward(ctx: Any, lines: Tensor, lines_S: Tensor) -> Tensor:
        """The rows (S, ...)."""
        ctx.save_for_backward(lines_S)
        ctx.length = len(lines)
        return lines.index_select(0, lines_S)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Each place's gradient is that of the row that came from it, and 0 where none did."""
        (lines_S,) = ctx.saved_tensors
        (gradient_S,) = gradients
        empty = gradient_S.new_zeros(ctx.length, *gradient_S.shape[1:])
        return empty.index_copy_(0, lines_S, gradient_S), None
