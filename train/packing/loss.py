"""What is learnt: the frozen language model's loss on answers, as a function of image vectors.

Nothing is computed twice. What stands before the picture is a key/value prefix made once for a whole
run; all questions about a picture are one tree (pack.py); trees of any length fill one row without
padding; and the head is computed where an answer's token is predicted, a quarter of the positions.
The loss and its gradient are those of the same sequences read one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from minigpt4.train.packing.attention import KeysValues, Lines, attend_with
from minigpt4.train.packing.pack import pack
from minigpt4.train.packing.sequence import Branch


class Objective:
    """The frozen language model's loss on answers about pictures."""

    def __init__(self, model: Any, prefix: Sequence[int]) -> None:
        """`model` is a transformers Llama without gradients; `prefix` are the tokens before the picture."""
        attend_with(model)
        self._model = model.get_decoder()
        self._head = model.get_output_embeddings().weight
        self._dtype: torch.dtype = model.dtype
        self._prefix_length = len(prefix)
        self._prefix = _keys_values(model, prefix)

    @property
    def device(self) -> torch.device:
        """Where the language model is."""
        device: torch.device = self._head.device
        return device

    def __call__(self, image_BND: Tensor, trees: Sequence[Sequence[Branch]]) -> Tensor:
        """The loss of B photos with one tree of branches each: float32, the SUM over their label tokens."""
        N = image_BND.shape[1]
        packed = pack(trees, prefix=self._prefix_length, image_tokens=N).to(self.device)
        lines = Lines.of(packed, self._prefix, self._dtype)
        text_TD = self._model.embed_tokens(packed.tokens_T)
        hidden_SD = self._model(
            inputs_embeds=torch.cat([image_BND.to(text_TD).flatten(0, 1), text_TD])[None],
            # Of four dimensions, so that transformers makes none of its own; it is read from `lines`.
            attention_mask=lines.bias_B1QK,
            position_ids=packed.positions_S[None],
            use_cache=False,
            lines=lines,
        ).last_hidden_state[0]
        loss: Tensor = AnswerLoss.apply(  # type: ignore[no-untyped-call]
            hidden_SD[packed.predicting_L], self._head, packed.labels_L
        )
        return loss


def label_tokens(trees: Sequence[Sequence[Branch]]) -> int:
    """How many tokens the loss of these trees is the sum over."""
    return sum(len(branch.answer) for tree in trees for branch in tree)


def _keys_values(model: Any, prefix: Sequence[int]) -> KeysValues:
    """Keys and values (1, heads, P, D_head) of the prefix, layer by layer; of no positions for none."""
    from transformers.cache_utils import DynamicCache

    cache: Any = DynamicCache()
    with torch.no_grad():
        # A prefix of no tokens is made from one, so that types and shapes are the model's own.
        tokens = torch.tensor([list(prefix) or [0]], device=model.device)
        model.get_decoder()(tokens, past_key_values=cache, use_cache=True)
    P = len(prefix)
    return [(layer.keys[:, :, :P], layer.values[:, :, :P]) for layer in cache.layers]


class AnswerLoss(torch.autograd.Function):
    """Summed cross-entropy of hidden states (L, D) under a frozen head (V, D), for labels (L,).

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
            places = torch.arange(len(labels_L), device=labels_L.device)
            errors_LV = logits_LV.sub_(log_sums_L[:, None]).exp_()
            errors_LV[places, labels_L] -= 1
            # Of the sum and not of the mean: float16 would lose small numbers before they are scaled.
            ctx.save_for_backward(errors_LV.to(head_VD.dtype) @ head_VD)
        return (log_sums_L - chosen_L).sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of the hidden states; the head is frozen."""
        (gradient_LD,) = ctx.saved_tensors
        return (gradient_LD * gradients[0]).to(gradient_LD.dtype), None, None
