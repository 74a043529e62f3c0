"""What is learnt: the frozen language model's loss on answers, as a function of image vectors.

Sequences that share their beginning are computed once, as a tree. What stands before the picture
is a key/value prefix made once for a whole run; each photo is one row of image vectors, then its
trunk (the tokens with which all its questions begin), then its branches: several questions with
their answers, each of which sees the prefix, the picture, the trunk and itself, and none of the
others. The loss is that of the same sequences read one by one, and a caption of three costs 38 ms
of one core instead of 57.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minigpt4.core.language.protocol import ImageEmbedding, Text, Tokenize
from minigpt4.core.prompt import PromptTemplate, User, prompt_pieces

IGNORED = -100
"""The label of a position that counts nothing."""

_TRUNK = 0
_PADDING = -1


@dataclass(frozen=True)
class Branch:
    """One question and its answer as tokens.

    `header` is what stands between picture and answer, `answer` ends with the end token.
    """

    header: tuple[int, ...]
    answer: tuple[int, ...]


class ChatLayout:
    """Questions and answers as tokens, cut exactly as core/prompt.py cuts them when it answers."""

    def __init__(self, template: PromptTemplate, tokenize: Tokenize) -> None:
        """`tokenize` is the language model's own, or as it."""
        self._template = template
        self._tokenize = tokenize
        self._end = tuple(tokenize(Text(template.stop[0], control=True)))
        self.prefix, _ = self._around_picture("")

    def branch(self, question: str, answer: str) -> Branch:
        """The branch of a question about one picture, the first of a conversation."""
        _, header = self._around_picture(question)
        return Branch(header, (*self._tokenize(Text(answer)), *self._end))

    def _around_picture(self, question: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        picture = ImageEmbedding(np.zeros((1, 1), np.float32), key="")
        segments = self._template.segments([User(question, images=[picture])])
        pieces = prompt_pieces(segments, self._tokenize)
        place = next(place for place, piece in enumerate(pieces) if isinstance(piece, ImageEmbedding))
        tokens = [piece for piece in pieces if isinstance(piece, int)]
        return tuple(tokens[:place]), tuple(tokens[place:])


@dataclass(frozen=True, eq=False)
class Tree:
    """Rows of a batch laid out as trees, S = N image vectors + T tokens, K = P prefix positions + S.

    `visible_BSK` says which keys a position may read; `labels_BT` the token that follows a
    position, or IGNORED.
    """

    tokens_BT: Tensor
    positions_BS: Tensor
    visible_BSK: Tensor
    labels_BT: Tensor


def lay_out(rows: Sequence[Sequence[Branch]], *, prefix: int, image_tokens: int) -> Tree:
    """Lay out one row of branches a photo, behind `prefix` positions and `image_tokens` vectors."""
    flat = [_flatten(branches) for branches in rows]
    longest = max(len(tokens) for tokens, _, _, _ in flat)

    def padded(column: int, filler: int) -> Tensor:
        return torch.tensor([row[column] + [filler] * (longest - len(row[column])) for row in flat])

    tokens_BT, owners_BT, depths_BT, labels_BT = (
        padded(column, filler) for column, filler in enumerate((0, _PADDING, 0, IGNORED))
    )
    B, T = tokens_BT.shape
    S = image_tokens + T
    # A branch may look at the trunk, the picture is part of every trunk, and padding sees itself:
    # a row of the mask without a single key would turn into NaN.
    owners_BS = torch.cat([torch.full((B, image_tokens), _TRUNK), owners_BT], dim=1)
    within = (owners_BS[:, :, None] == owners_BS[:, None, :]) | (owners_BS[:, None, :] == _TRUNK)
    within &= torch.ones(S, S, dtype=torch.bool).tril()
    before = torch.ones(B, S, prefix, dtype=torch.bool)
    image_positions = (prefix + torch.arange(image_tokens)).expand(B, -1)
    return Tree(
        tokens_BT=tokens_BT,
        positions_BS=torch.cat([image_positions, prefix + image_tokens + depths_BT], dim=1),
        visible_BSK=torch.cat([before, within], dim=2),
        labels_BT=labels_BT,
    )


def _flatten(branches: Sequence[Branch]) -> tuple[list[int], list[int], list[int], list[int]]:
    """Tokens, owner (trunk 0, branches from 1), depth below the picture and label of one row."""
    headers = [branch.header for branch in branches]
    # The header's last token predicts the answer's first, so it belongs to the branch.
    trunk = min(_shared(headers), min(map(len, headers)) - 1)
    tokens, owners = list(headers[0][:trunk]), [_TRUNK] * trunk
    depths, labels = list(range(trunk)), [IGNORED] * trunk
    for owner, branch in enumerate(branches, start=1):
        own = [*branch.header[trunk:], *branch.answer]
        unlabelled = len(branch.header) - trunk - 1
        tokens += own
        owners += [owner] * len(own)
        depths += range(trunk, trunk + len(own))
        labels += [IGNORED] * unlabelled + list(branch.answer) + [IGNORED]
    return tokens, owners, depths, labels


def _shared(headers: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all headers begin with."""
    columns = takewhile(lambda column: len(set(column)) == 1, zip(*headers, strict=False))
    return sum(1 for _ in columns)


class Objective:
    """The mean cross-entropy of answer tokens under a frozen language model.

    The model is read with eager attention: on a CPU the backward pass of fused attention with a
    mask takes 1.3 times as long.
    """

    def __init__(self, language_model: Any, prefix: Sequence[int]) -> None:
        """`language_model` is a transformers Llama, frozen; `prefix` the tokens before the picture."""
        from transformers.cache_utils import DynamicCache

        language_model.set_attn_implementation("eager")
        self._model = language_model.model
        self._head: Tensor = language_model.lm_head.weight
        self._dtype: torch.dtype = self._head.dtype
        self._new_cache = DynamicCache
        self._prefix_length = len(prefix)
        with torch.no_grad():
            cache = self._model(torch.tensor([list(prefix)]), use_cache=True).past_key_values
        self._prefix = [(layer.keys, layer.values) for layer in cache.layers]

    def __call__(self, image_BND: Tensor, rows: Sequence[Sequence[Branch]]) -> tuple[Tensor, int]:
        """The loss of B photos, one row of branches each, and how many label tokens it is the mean of."""
        B, N, _ = image_BND.shape
        tree = lay_out(rows, prefix=self._prefix_length, image_tokens=N)
        embeddings = self._model.embed_tokens(tree.tokens_BT)
        mask = torch.zeros(tree.visible_BSK.shape, dtype=self._dtype)
        mask.masked_fill_(~tree.visible_BSK, torch.finfo(self._dtype).min)
        hidden_BSD = self._model(
            inputs_embeds=torch.cat([image_BND.to(self._dtype), embeddings], dim=1),
            attention_mask=mask[:, None],
            position_ids=tree.positions_BS,
            past_key_values=self._prefix_cache(B),
            use_cache=True,
        ).last_hidden_state
        is_label_BT = tree.labels_BT != IGNORED
        labels_L = tree.labels_BT[is_label_BT]
        loss: Tensor = AnswerLoss.apply(  # type: ignore[no-untyped-call]
            hidden_BSD[:, N:][is_label_BT], self._head, labels_L
        )
        return loss, len(labels_L)

    def _prefix_cache(self, rows: int) -> Any:
        cache = self._new_cache()
        for layer, (keys, values) in enumerate(self._prefix):
            cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), layer)
        return cache


class AnswerLoss(torch.autograd.Function):
    """Mean cross-entropy of hidden states (L, D) under a frozen head (V, D), for labels (L,).

    The gradient is made in the forward pass, in the memory of the logits: with 49,152 words these
    are the largest tensor of a step, and autograd would keep them and their softmax as well.
    """

    @staticmethod
    def forward(ctx: Any, hidden_LD: Tensor, head_VD: Tensor, labels_L: Tensor) -> Tensor:
        """The loss, in float32."""
        logits_LV = (hidden_LD @ head_VD.T).float()
        log_sums_L = logits_LV.logsumexp(dim=1)
        chosen_L = logits_LV.gather(1, labels_L[:, None])[:, 0]
        if ctx.needs_input_grad[0]:
            places = torch.arange(len(labels_L))
            errors_LV = logits_LV.sub_(log_sums_L[:, None]).exp_()
            errors_LV[places, labels_L] -= 1
            ctx.save_for_backward((errors_LV.to(head_VD.dtype) @ head_VD) / len(labels_L))
        return (log_sums_L - chosen_L).mean()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of the hidden states; the head is frozen."""
        (gradient_LD,) = ctx.saved_tensors
        return gradient_LD * gradients[0], None, None
