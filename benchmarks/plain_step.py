"""A straightforward training step of MiniGPT-4, the baseline of training_step.py.

The tower encodes every image in every step, captions form one padded batch, each with its own copy of the
prompt before the image, and the output layer is computed at every position, as in the released code
(minigpt4/models/minigpt_base.py of Vision-CAIR/MiniGPT-4).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from minigpt4.core.projection import Projection
from minigpt4.core.vision.base import VisionTower
from minigpt4.train.packing.sequence import Continuation, Layout
from minigpt4.train.recipe import Recipe

IGNORED = -100


class PlainStep:
    """Tower, projection, language model and optimizer; a call is one step over a batch of images."""

    def __init__(
        self, recipe: Recipe, projection: Projection, model: Any, tower: VisionTower, layout: Layout
    ) -> None:
        self._projection = projection.requires_grad_(True)
        self._model = model
        self._tower = tower
        self._layout = layout
        linear = projection.linear
        self._optimizer = torch.optim.AdamW(
            [
                {"params": [linear.weight], "weight_decay": recipe.weight_decay},
                {"params": [linear.bias], "weight_decay": 0.0},
            ],
            lr=recipe.warmup_rate,
            betas=(recipe.beta1, recipe.beta2),
        )

    def __call__(self, pixels_BCHW: Tensor, continuations: Sequence[Continuation]) -> float:
        """One step over B images with one caption each; returns the loss."""
        self._optimizer.zero_grad()
        features_BND = self._tower.encode(pixels_BCHW).clone()
        image_BND = self._projection(features_BND)
        embeddings_BSD, mask_BS, labels_BS = self._padded(image_BND, continuations)
        loss = self._model(
            inputs_embeds=embeddings_BSD, attention_mask=mask_BS, labels=labels_BS, use_cache=False
        ).loss
        loss.backward()
        self._optimizer.step()
        return float(loss.detach())

    def _padded(
        self, image_BND: Tensor, continuations: Sequence[Continuation]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings, attention mask and labels, padded on the right."""
        embed = self._model.get_input_embeddings()
        prefix = list(self._layout.prefix)
        rows = [[*continuation.prompt, *continuation.answer] for continuation in continuations]
        longest = max(map(len, rows))
        tokens_BT = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        B, N, _ = image_BND.shape
        prefix_BPD = embed(torch.tensor([prefix] * B, dtype=torch.long))
        embeddings_BSD = torch.cat([prefix_BPD, image_BND.to(prefix_BPD.dtype), embed(tokens_BT)], dim=1)
        start = len(prefix) + N
        mask_BS = torch.zeros(B, start + longest, dtype=torch.long)
        labels_BS = torch.full((B, start + longest), IGNORED)
        for place, (row, continuation) in enumerate(zip(rows, continuations, strict=True)):
            mask_BS[place, : start + len(row)] = 1
            answer = torch.tensor(continuation.answer)
            labels_BS[place, start + len(continuation.prompt) : start + len(row)] = answer
        return embeddings_BSD, mask_BS, labels_BS
