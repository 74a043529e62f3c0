"""Attention over packed samples, plugged into transformers' own Llama, which is otherwise unchanged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from minigpt4.train.packing.pack import Packed, PadRows, UnpadRows

NAME = "minigpt4-packed"

ALIGNED = 16
"""The memory-efficient kernels read a mask without a copy if its rows are a multiple of this."""

KeysValues = Sequence[tuple[Tensor, Tensor]]
"""Keys and values (1, heads, P, D_head) of the shared prefix, layer by layer."""


@dataclass(frozen=True, eq=False)
class PaddedRows:
    """The inputs of attention for a packed row: see Packed."""

    indices_S: Tensor
    bias_B1QK: Tensor
    """The additive mask: 0 for visible keys, a very large negative number for others."""

    prefix: KeysValues

    @classmethod
    def of(cls, packed: Packed, prefix: KeysValues, dtype: torch.dtype) -> PaddedRows:
        """The inputs for a packed row and a model that computes in `dtype`."""
        visible_BQK = packed.visible_BQK
        B, Q, K = visible_BQK.shape
        # Additive and in rows of whole blocks: CUDA's kernels would convert any other mask themselves, in
        # every layer. No -inf, which would make NaN of rows that are all padding.
        blocks = torch.zeros(B, Q, -(-K // ALIGNED) * ALIGNED, dtype=dtype, device=visible_BQK.device)
        bias_BQK = blocks[..., :K].masked_fill_(~visible_BQK, torch.finfo(dtype).min)
        return cls(packed.indices_S, bias_BQK[:, None], prefix)


def attend_with(model: Any) -> None:
    """Make the model use `packed_attention`; inputs that are not packed are computed as before."""
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
    rows: PaddedRows | None = None,
    scaling: float | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """Queries, keys and values (1, heads, S, D_head) -> attention outputs (1, S, heads, D_head)."""
    if rows is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        plain: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **more
        )
        return plain
    B, _, Q, _ = rows.bias_B1QK.shape

    def padded(heads_1HSD: Tensor) -> Tensor:
        flat = PadRows.apply(heads_1HSD[0].transpose(0, 1), rows.indices_S, B * Q)  # type: ignore[no-untyped-call]
        padded_BHQD: Tensor = flat.unflatten(0, (B, Q)).transpose(1, 2)
        return padded_BHQD

    prefix_keys, prefix_values = rows.prefix[module.layer_idx]
    keys_BGKD = torch.cat([prefix_keys.expand(B, -1, -1, -1), padded(key)], dim=2)
    values_BGKD = torch.cat([prefix_values.expand(B, -1, -1, -1), padded(value)], dim=2)
    attend = _attend_on_gpu if query.is_cuda else _attend_on_cpu
    out_BHQD = attend(padded(query), keys_BGKD, values_BGKD, rows.bias_B1QK, scaling)
    out_SHD = UnpadRows.apply(out_BHQD.transpose(1, 2).flatten(0, 1), rows.indices_S)  # type: ignore[no-untyped-call]
    return out_SHD[None], None


def _attend_on_gpu(
    query_BHQD: Tensor, keys_BGKD: Tensor, values_BGKD: Tensor, bias_B1QK: Tensor, scaling: float | None
) -> Tensor:
    # Kernels that take a mask need as many key heads as query heads; shared ones are repeated.
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
    """Explicit attention: the backward pass of torch's own kernel takes five times as long in bfloat16.

    Query heads that share one of G key heads are joined into one longer row of queries.
    """
    B, H, Q, D = query_BHQD.shape
    G = keys_BGKD.shape[1]
    query_BGMD = (query_BHQD * (scaling or D**-0.5)).reshape(B, G, H // G * Q, D)
    scores_BGMK = query_BGMD @ keys_BGKD.transpose(2, 3)
    scores_BHQK = scores_BGMK.view(B, H, Q, -1) + bias_B1QK
    weights_BGMK = scores_BHQK.softmax(dim=-1).view_as(scores_BGMK)
    return (weights_BGMK @ values_BGKD).view(B, H, Q, D)
