"""Choose the next token, in numpy, so that every backend chooses alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.errors import BackendError, UsageError
from minigpt4.core.types import ResolvedSampling


class Sampler:
    """Chooses the tokens of one answer and records them for the repetition penalty.

    The order is that of the transformers library: penalty, temperature, top-k, top-p
    (Holtzman et al. 2020, arXiv 1904.09751). Equal logits and an equal seed give equal tokens.
    """

    def __init__(self, sampling: ResolvedSampling) -> None:
        """Raises UsageError if a setting is outside its range."""
        check_sampling(sampling)
        self._sampling = sampling
        self._rng = np.random.default_rng(sampling.seed)
        self._generated: set[int] = set()

    def next(self, logits_V: NDArray[np.float32]) -> int:
        """The next token; raises BackendError if the logits are not numbers."""
        logits = logits_V.astype(np.float64)
        if not np.isfinite(logits.max()):
            raise BackendError(
                "The language model computed logits that are not numbers; its weights or an image embedding "
                "are damaged. Fetch the bundle again with `minigpt4 models pull`."
            )
        penalise(logits, self._generated, self._sampling.repetition_penalty)
        if self._sampling.temperature == 0:
            token = int(logits.argmax())
        else:
            token = self._draw(logits / self._sampling.temperature)
        self._generated.add(token)
        return token

    def _draw(self, logits: NDArray[np.float64]) -> int:
        tokens, probabilities = nucleus(logits, top_k=self._sampling.top_k, top_p=self._sampling.top_p)
        cumulative = probabilities.cumsum()
        index = np.searchsorted(cumulative, self._rng.random() * cumulative[-1], side="right")
        return int(tokens[min(int(index), len(tokens) - 1)])


def penalise(logits_V: NDArray[np.float64], generated: set[int], penalty: float) -> None:
    """Make tokens already generated less likely, in place (Keskar et al. 2019, arXiv 1909.05858)."""
    if penalty == 1.0 or not generated:
        return
    tokens = np.fromiter(generated, dtype=np.int64)
    values = logits_V[tokens]
    logits_V[tokens] = np.where(values > 0, values / penalty, values * penalty)


def nucleus(
    logits_V: NDArray[np.float64], *, top_k: int, top_p: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The tokens that may be drawn, most likely first, and their probabilities.

    `top_k` most likely tokens (0: all), of these the smallest set whose probability reaches
    `top_p`. Equally likely tokens are in the order of their ids. Probabilities sum to 1
    over the `top_k`, not over the tokens that `top_p` leaves.
    """
    candidates = np.arange(len(logits_V))
    if 0 < top_k < len(logits_V):
        least = np.partition(logits_V, -top_k)[-top_k]
        candidates = np.flatnonzero(logits_V >= least)
    order = np.argsort(-logits_V[candidates], kind="stable")
    tokens = candidates[order][: top_k or None]
    weights = np.exp(logits_V[tokens] - logits_V[tokens[0]])
    probabilities = weights / weights.sum()
    if top_p < 1:
        reached = int(np.searchsorted(probabilities.cumsum(), top_p, side="left"))
        tokens, probabilities = tokens[: reached + 1], probabilities[: reached + 1]
    return tokens, probabilities


def check_sampling(sampling: ResolvedSampling) -> None:
    """Raise UsageError naming the first setting outside its range."""
    s = sampling
    for name, value, allowed, is_right in (
        ("max_tokens", s.max_tokens, "0 or more", s.max_tokens >= 0),
        ("temperature", s.temperature, "0 (greedy) or more", 0 <= s.temperature < float("inf")),
        ("top_p", s.top_p, "more than 0 and at most 1", 0 < s.top_p <= 1),
        ("top_k", s.top_k, "0 (all tokens) or more", s.top_k >= 0),
        (
            "repetition_penalty",
            s.repetition_penalty,
            "more than 0 (1 is none)",
            0 < s.repetition_penalty < float("inf"),
        ),
        ("seed", s.seed, "0 or more", s.seed is None or s.seed >= 0),
    ):
        if not is_right:
            raise UsageError(f"{name} is {value}; it must be {allowed}.")


def check_beams(sampling: ResolvedSampling, beams: int) -> None:
    """Raise UsageError for fewer than one beam, or a temperature: beam search is deterministic."""
    check_sampling(sampling)
    if beams < 1:
        raise UsageError(f"{beams} beams cannot find an answer; ask for 1 (no search) or more.")
    if sampling.temperature > 0:
        raise UsageError(
            f"Beam search over {beams} beams is deterministic, and the temperature is "
            f"{sampling.temperature:g}; set it to 0, or leave the beams out."
        )
