"""Attention of packed trees inside transformers' own Llama, which stays as it is otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from minigpt4.train.packing.pack import Apart, Packed, Together

NAME = "minigpt4-packed"

ALIGNED = 16
"""Numbers in a row of a mask that the memory-efficient kernels read without a copy."""

KeysValues = Sequence[tuple[Tensor, Tensor]]
"""Keys and values (1, heads, P, D_head) of the shared prefix, layer by layer."""


@dataclass(frozen=True, eq=False)
class Lines:
    """How the positions of a packed row stand in attention: see Packed."""

    lines_S: Tensor
    bias_B1QK: Tensor
    """0 where a position may read, a very large negative number elsewhere."""

    prefix: KeysValues

    @classmethod
    def of(cls, packed: Packed, prefix: KeysValues, dtype: torch.dtype) -> Lines:
        """Those of a packed row, for a model that computes in `dtype`."""
        visible_BQK = packed.visible_BQK
        B, Q, K = visible_BQK.shape
        # Made once, of numbers, in rows of whole blocks: from anything else CUDA's kernels make that
        # themselves, in every layer. No -inf, which padding would turn into NaN.
        blocks = torch.zeros(B, Q, -(-K // ALIGNED) * ALIGNED, dtype=dtype, device=visible_BQK.device)
        bias_BQK = blocks[..., :K].masked_fill_(~visible_BQK, torch.finfo(dtype).min)
        return cls(packed.lines_S, bias_BQK[:, None], prefix)


def attend_with(model: Any) -> None:
    """Have the model ask `packed_attention` for its attention; what is not packed is attended as before."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(NAME, packed_attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    lines: Lines | None = None,
    scaling: float | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """Queries, keys and values (1, heads, S, D_head) -> what each position has read (1, S, heads, D_head)."""
    if lines is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        plain: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **more
        )
        return plain
    B, _, Q, _ = lines.bias_B1QK.shape

    def apart(heads_1HSD: Tensor) -> Tensor:
        rows = Apart.apply(heads_1HSD[0].transpose(0, 1), lines.lines_S, B * Q)  # type: ignore[no-untyped-call]
        lines_BHQD: Tensor = rows.unflatten(0, (B, Q)).transpose(1, 2)
        return lines_BHQD

    prefix_keys, prefix_values = lines.prefix[module.layer_idx]
    keys_BGKD = torch.cat([prefix_keys.expand(B, -1, -1, -1), apart(key)], dim=2)
    values_BGKD = torch.cat([prefix_values.expand(B, -1, -1, -1), apart(value)], dim=2)
    attend = _attend_on_gpu if query.is_cuda else _attend_on_cpu
    read_BHQD = attend(apart(query), keys_BGKD, values_BGKD, lines.bias_B1QK, scaling)
    read_SHD = Together.apply(read_BHQD.transpose(1, 2).flatten(0, 1), lines.lines_S)  # type: ignore[no-untyped-call]
    return read_SHD[None], None


def _attend_on_gpu(
    query_BHQD: Tensor, keys_BGKD: Tensor, values_BGKD: Tensor, bias_B1QK: Tensor, scaling: float | None
) -> Tensor:
    # Kernels that take a mask want as many key heads as query heads; what is shared is shown again.
    shared = query_BHQD.shape[1] // keys_BGKD.shape[1]
    if shared > 1:
        keys_BGKD, values_BGKD = (
            heads.repeat_interleave(shared, dim=1) for heads in (keys_BGKD, values_BGKD)
        )
    return F.scaled_dot_product_attention(
        query_BHQD, keys_BGKD, values_BGKD, attn_mask=bias_B1QK, scale=scaling
    )


def _attend_on_cpu(
    query_BHQD: Tensor, keys_BGKD: Tensor, values_BGKD: Tensor, bias_B1QK: Tensor, scaling: float | None
) -> Tensor:
    """Written out: the gradient of torch's own kernel takes five times as long in bfloat16.

    Query heads that share a key head (G of them are keys') are one longer line of queries.
    """
    B, H, Q, D = query_BHQD.shape
    G = keys_BGKD.shape[1]
    query_BGMD = (query_BHQD * (scaling or D**-0.5)).reshape(B, G, H // G * Q, D)
    scores_BGMK = query_BGMD @ keys_BGKD.transpose(2, 3)
    scores_BHQK = scores_BGMK.view(B, H, Q, -1) + bias_B1QK
    shares_BGMK = scores_BHQK.softmax(dim=-1).view_as(scores_BGMK)
    return (shares_BGMK @ values_BGKD).view(B, H, Q, D)
