"""Beam search through the transformers library, from input embeddings."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import torch
from torch import Tensor


def beam_search(
    model: Any,
    inputs_SD: Tensor,
    *,
    beams: int,
    length_penalty: float,
    repetition_penalty: float,
    max_tokens: int,
    ends: AbstractSet[int],
    stops: Sequence[Sequence[int]],
) -> list[int]:
    """The best of `beams` answers by mean log-probability (sum / length ** `length_penalty`).

    An end token stays in it. `stops` end the whole search when all beams end with the same one.
    """
    if max_tokens < 1:
        return []
    from transformers.generation.configuration_utils import GenerationConfig
    from transformers.generation.stopping_criteria import StoppingCriteriaList

    configuration: Any = GenerationConfig
    criteria = StoppingCriteriaList([AllBeamsStopped(stops, ends, beams)] if stops else [])
    settings: Any = configuration(
        num_beams=beams,
        do_sample=False,
        max_new_tokens=max_tokens,
        repetition_penalty=repetition_penalty,
        length_penalty=length_penalty,
        eos_token_id=sorted(ends),
        pad_token_id=min(ends),
        use_cache=True,
    )
    with warnings.catch_warnings():
        # The penalty is meant to count only the answer's tokens.
        warnings.filterwarnings("ignore", message="Passing `repetition_penalty`")
        found = model.generate(
            inputs_embeds=inputs_SD[None],
            attention_mask=torch.ones(1, len(inputs_SD), dtype=torch.long, device=inputs_SD.device),
            generation_config=settings,
            stopping_criteria=criteria,
        )
    answer: list[int] = found[0].tolist()
    # An answer shorter than the longest finished beam is padded.
    end = next((place for place, token in enumerate(answer) if token in ends), len(answer))
    return answer[: end + 1]


class AllBeamsStopped:
    """MiniGPT-4's StoppingCriteriaSub: the search ends when all beams end with the same stop word.

    The library passes more candidates than beams, the most likely first; its beams are the first
    candidates that have not ended.
    """

    def __init__(self, stops: Sequence[Sequence[int]], ends: AbstractSet[int], beams: int) -> None:
        self._stops = [list(stop) for stop in stops]
        self._ends = ends
        self._beams = beams

    def __call__(self, tokens_CT: Tensor, scores: Tensor, **_: Any) -> Tensor:
        running = [row for row in tokens_CT.tolist() if row[-1] not in self._ends][: self._beams]
        is_over = any(all(row[-len(stop) :] == stop for row in running) for stop in self._stops)
        return torch.full((len(tokens_CT),), is_over, dtype=torch.bool, device=tokens_CT.device)
