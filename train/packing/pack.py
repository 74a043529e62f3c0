"""Shared-prefix packing: samples of different lengths in one row, without padding.

The examples of a sample share its image embedding and the prompt tokens with which all of them begin
(the shared prompt); then each continues on its own. Every continuation attends to the prefix, the
image, the shared prompt and itself, not to the others. The row holds all image embeddings first, then
all tokens, sample by sample; the linear layers of a language model, nearly all of its work, run on it
unchanged. Only attention pads: there every sample is a row of its own, as long as the longest, so that
its cost is a few dozen positions squared instead of the thousands squared of a mask over one long row.
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

from minigpt4.train.packing.sequence import Continuation

POSITIONS_PER_GROUP = 1500
"""Weights are read and laid out once per group: a pass through a 135M model costs 0.2 s of one core in
bfloat16 before its first position, as much as 140 positions, and at Vicuna 7B's widths 64 photos run at
14.5 per second in groups of this size, at 13.1 in groups of half the size."""

WORTH_TWO = 1000
"""From this many positions on there are two groups, for at least two cores: 12 photos/s instead of 8
for mini."""

_SHARED = 0


@dataclass(frozen=True, eq=False)
class Packed:
    """B samples in one row of S = B * N image embeddings + T tokens; in attention, B rows padded to Q.

    `positions_S` counts from each sample's own start, the prefix included. `indices_S` is the index of
    each position in the padded rows laid end to end (B * Q). `visible_BQK` is the attention mask over
    K = P prefix positions + Q positions of the row. The hidden states at `predicting_L` predict
    `labels_L`.
    """

    tokens_T: Tensor
    positions_S: Tensor
    indices_S: Tensor
    visible_BQK: Tensor
    predicting_L: Tensor
    labels_L: Tensor

    def to(self, device: torch.device) -> Packed:
        """The same on another device."""
        return Packed(**{name: value.to(device, non_blocking=True) for name, value in vars(self).items()})


def pack(texts: Sequence[Sequence[Continuation]], *, prefix: int, image_tokens: int) -> Packed:
    """Pack one list of continuations per sample, after `prefix` positions and `image_tokens` embeddings."""
    flat = [_flatten(continuations, image_tokens) for continuations in texts]
    lengths = [image_tokens + len(sample.tokens) for sample in flat]
    longest = max(lengths)
    # Where each sample's tokens begin in the row: after all images and the samples before it.
    begins = np.cumsum([len(texts) * image_tokens, *(len(sample.tokens) for sample in flat)])[:-1]
    image = np.arange(image_tokens)
    places, positions, indices, predicting = [], [], [], []
    for number, (sample, begin) in enumerate(zip(flat, begins, strict=True)):
        # Index in the row of each of the sample's positions: its image embeddings, then its tokens.
        places.append(np.concatenate([number * image_tokens + image, begin + np.arange(len(sample.tokens))]))
        positions.append(prefix + np.concatenate([image, image_tokens + np.array(sample.depths, int)]))
        indices.append(number * longest + np.arange(lengths[number]))
        predicting.append(places[-1][sample.predicting])
    row = np.argsort(np.concatenate(places))
    return Packed(
        tokens_T=_tensor([token for sample in flat for token in sample.tokens]),
        positions_S=_tensor(np.concatenate(positions)[row]),
        indices_S=_tensor(np.concatenate(indices)[row]),
        visible_BQK=torch.from_numpy(
            _visible([sample.owners for sample in flat], prefix, image_tokens, longest)
        ),
        predicting_L=_tensor(np.concatenate(predicting)),
        labels_L=_tensor([label for sample in flat for label in sample.labels]),
    )


def packed_length(continuations: Sequence[Continuation]) -> int:
    """How many tokens a sample takes in the row, without its image."""
    shared = _shared_length([one.prompt for one in continuations])
    return shared + sum(len(one.prompt) - shared + len(one.answer) - 1 for one in continuations)


def balanced_groups(lengths: Sequence[int], threads: int = 1) -> list[list[int]]:
    """Split samples 0..n-1 into groups of about the same total length, the longest samples first.

    The number of groups is a power of two that depends only on the lengths, so that sums, and with them
    losses, do not depend on the machine; or `threads`, if that is more. Samples of similar length
    share a group, because attention pads each to the longest of its group.
    """
    order = np.argsort(lengths, kind="stable")
    reached = np.cumsum(np.asarray(lengths)[order])
    least = 2 if reached[-1] >= WORTH_TWO else 1
    wanted = 2 ** round(np.log2(max(1.0, reached[-1] / POSITIONS_PER_GROUP)))
    count = min(len(lengths), max(threads, least, wanted))
    # A sample belongs to the group in which its middle falls when all are laid end to end.
    middles = reached - np.asarray(lengths)[order] / 2
    owners = np.minimum(middles * count // reached[-1], count - 1).astype(int)
    groups = [order[owners == number].tolist() for number in range(count)]
    return [group for group in reversed(groups) if group]


@dataclass(frozen=True)
class _FlatSample:
    """One sample's tokens, each with its continuation (from 1; 0: shared) and its depth after the image.

    `predicting` counts from the first image embedding.
    """

    tokens: list[int]
    owners: list[int]
    depths: list[int]
    predicting: list[int]
    labels: list[int]


def _flatten(continuations: Sequence[Continuation], image_tokens: int) -> _FlatSample:
    prompts = [one.prompt for one in continuations]
    shared = _shared_length(prompts)
    flat = _FlatSample(list(prompts[0][:shared]), [_SHARED] * shared, list(range(shared)), [], [])
    for owner, one in enumerate(continuations, start=1):
        # The last token of an answer predicts no label, so it is not part of the row.
        own = [*one.prompt[shared:], *one.answer[:-1]]
        own_begin, answer_begin = len(flat.tokens), len(one.prompt) - shared
        # The answer's first token may be predicted by the last shared token, or by the image's last.
        before = image_tokens + (own_begin + answer_begin if answer_begin else shared) - 1
        after = range(image_tokens + own_begin + answer_begin, image_tokens + own_begin + len(own))
        flat.tokens.extend(own)
        flat.owners.extend([owner] * len(own))
        flat.depths.extend(range(shared, shared + len(own)))
        flat.predicting.extend([before, *after])
        flat.labels.extend(one.answer)
    return flat


def _shared_length(prompts: Sequence[Sequence[int]]) -> int:
    """The length of the prompts' longest common prefix."""
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*prompts, strict=False)))


def _visible(
    owners: Sequence[Sequence[int]], prefix: int, image_tokens: int, longest: int
) -> NDArray[np.bool_]:
    # Padding belongs to no continuation: -1 among the queries, -2 among the keys, so they never match.
    queries_BQ, keys_BQ = (np.full((len(owners), longest), padding) for padding in (-1, -2))
    for side_BQ in (queries_BQ, keys_BQ):
        side_BQ[:, :image_tokens] = _SHARED
        for number, of_sample in enumerate(owners):
            side_BQ[number, image_tokens : image_tokens + len(of_sample)] = of_sample
    within_BQQ = (queries_BQ[:, :, None] == keys_BQ[:, None, :]) | (keys_BQ[:, None, :] == _SHARED)
    within_BQQ &= np.tri(longest, dtype=bool)
    return np.concatenate([np.ones((len(owners), longest, prefix), bool), within_BQQ], axis=2)


def _tensor(values: Sequence[int] | NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.int64))


class PadRows(torch.autograd.Function):
    """Positions (S, ...) -> padded rows (B * Q, ...), zeros in the padding."""

    @staticmethod
    def forward(ctx: Any, packed_S: Tensor, indices_S: Tensor, length: int) -> Tensor:
        """The padded rows, laid end to end."""
        ctx.save_for_backward(indices_S)
        return packed_S.new_zeros(length, *packed_S.shape[1:]).index_copy_(0, indices_S, packed_S)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Gather the gradient of each position."""
        (indices_S,) = ctx.saved_tensors
        return gradients[0].index_select(0, indices_S), None, None


class UnpadRows(torch.autograd.Function):
    """The reverse of PadRows.

    torch's own gradient of `index_select` accumulates, with atomics on a GPU; here no index occurs twice.
    """

    @staticmethod
    def forward(ctx: Any, padded: Tensor, indices_S: Tensor) -> Tensor:
        """The positions (S, ...)."""
        ctx.save_for_backward(indices_S)
        ctx.length = len(padded)
        return padded.index_select(0, indices_S)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Scatter the gradients; zeros in the padding."""
        (indices_S,) = ctx.saved_tensors
        (gradient_S,) = gradients
        empty = gradient_S.new_zeros(ctx.length, *gradient_S.shape[1:])
        return empty.index_copy_(0, indices_S, gradient_S), None
