"""The training loss: the frozen language model's cross-entropy on answers, given image embeddings.

Nothing is computed twice. The tokens before the image are a key/value prefix computed once per run; the
examples of a sample share its image (pack.py); samples of any length fill one row without padding; and
the output head runs only at positions that predict a token of an answer, a quarter of all. Loss and
gradient are those of the same sequences computed one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from minigpt4.train.packing.attention import KeysValues, PaddedRows, attend_with
from minigpt4.train.packing.pack import pack
from minigpt4.train.packing.sequence import Continuation


class LanguageModelLoss:
    """The frozen language model's loss on answers about images."""

    def __init__(self, model: Any, prefix: Sequence[int]) -> None:
        """`model` is a transformers Llama without gradients; `prefix` are the tokens before the image."""
        attend_with(model)
        self.language_model = model
        self._decoder = model.get_decoder()
        self._head: Tensor = model.get_output_embeddings().weight
        self._dtype: torch.dtype = model.dtype
        self._prefix_length = len(prefix)
        self._prefix = _keys_values(model, prefix)

    def __call__(self, image_BND: Tensor, texts: Sequence[Sequence[Continuation]]) -> Tensor:
        """The loss of B samples, each with its continuations: float32, summed over all label tokens."""
        N = image_BND.shape[1]
        packed = pack(texts, prefix=self._prefix_length, image_tokens=N).to(self._head.device)
        rows = PaddedRows.of(packed, self._prefix, self._dtype)
        text_TD = self._decoder.embed_tokens(packed.tokens_T)
        hidden_SD = self._decoder(
            inputs_embeds=torch.cat([image_BND.to(text_TD).flatten(0, 1), text_TD])[None],
            # Four-dimensional, so that transformers makes no mask of its own; packed_attention uses `rows`.
            attention_mask=rows.bias_B1QK,
            position_ids=packed.positions_S[None],
            use_cache=False,
            rows=rows,
        ).last_hidden_state[0]
        loss: Tensor = SummedCrossEntropy.apply(  # type: ignore[no-untyped-call]
            hidden_SD[packed.predicting_L], self._head, packed.labels_L
        )
        return loss


def label_tokens(texts: Sequence[Sequence[Continuation]]) -> int:
    """The number of label tokens, over which the loss is summed."""
    return sum(len(one.answer) for continuations in texts for one in continuations)


def _keys_values(model: Any, prefix: Sequence[int]) -> KeysValues:
    """Keys and values (1, heads, P, D_head) of the prefix, layer by layer; P may be 0."""
    from transformers.cache_utils import DynamicCache

    cache: Any = DynamicCache()
    with torch.no_grad():
        # An empty prefix is cut from one token, so that dtypes and shapes are the model's own.
        tokens = torch.tensor([list(prefix) or [0]], device=model.device)
        model.get_decoder()(tokens, past_key_values=cache, use_cache=True)
    P = len(prefix)
    return [(layer.keys[:, :, :P], layer.values[:, :, :P]) for layer in cache.layers]


class SummedCrossEntropy(torch.autograd.Function):
    """Summed cross-entropy of hidden states (L, D) under a frozen head (V, D), for labels (L,).

    The gradient is computed in the forward pass, in the memory of the logits: with a vocabulary of 49,152
    these are the largest tensor of a step, and autograd would keep both them and their softmax.
    """

    @staticmethod
    def forward(ctx: Any, hidden_LD: Tensor, head_VD: Tensor, labels_L: Tensor) -> Tensor:
        """The loss, in float32."""
        logits_LV = (hidden_LD @ head_VD.T).float()
        log_sums_L = logits_LV.logsumexp(dim=1)
        chosen_L = logits_LV.gather(1, labels_L[:, None])[:, 0]
        if ctx.needs_input_grad[0]:
            places = torch.arange(len(labels_L), device=labels_L.device)
            errors_LV = logits_LV.sub_(log_sums_L[:, None]).exp_()
            errors_LV[places, labels_L] -= 1
            # The gradient of the sum, not of the mean: float16 would underflow before the loss is scaled.
            ctx.save_for_backward(errors_LV.to(head_VD.dtype) @ head_VD)
        return (log_sums_L - chosen_L).sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of the hidden states; the head is frozen."""
        (gradient_LD,) = ctx.saved_tensors
        return (gradient_LD * gradients[0]).to(gradient_LD.dtype), None, None
