"""Corpus BLEU-1 to BLEU-4 against several references (Papineni et al. 2002).

As the COCO evaluation code computes it: counts are summed over the whole set before they are
divided, an n-gram's count is clipped to its maximum in a single reference, and the
brevity penalty uses the reference length closest to each candidate's (the shorter of two equally
close ones). Nothing is smoothed: an order without a match makes its BLEU and the higher ones 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from minigpt4.train.evaluate.metrics.cider import LONGEST, Ngram, ngram_counts


def bleu(
    candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> tuple[float, float, float, float]:
    """BLEU-1, -2, -3 and -4, each in [0, 1], of one candidate per picture, all as lists of words."""
    counts = np.array([bleu_counts(*one) for one in zip(candidates, references, strict=True)], np.float64)
    one, two, three, four = (float(bleu_of(counts.sum(0), order)) for order in range(1, LONGEST + 1))
    return one, two, three, four


def bleu_counts(candidate: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, ...]:
    """The counts to sum over the set: matched and all n-grams by order, length, and reference length."""
    most: Counter[Ngram] = Counter()
    for reference in references:
        most |= ngram_counts(reference)
    matched, offered = [0] * LONGEST, [0] * LONGEST
    for ngram, count in ngram_counts(candidate).items():
        offered[len(ngram) - 1] += count
        matched[len(ngram) - 1] += min(count, most[ngram])
    _, wanted = min((abs(len(words) - len(candidate)), len(words)) for words in references)
    return (*matched, *offered, len(candidate), wanted)


def bleu_of(sums: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """BLEU of an order from sums (..., 10) of `bleu_counts`."""
    matched, offered = sums[..., :order], sums[..., LONGEST : LONGEST + order]
    length, wanted = sums[..., -2], sums[..., -1]
    precisions = np.divide(matched, offered, out=np.zeros_like(matched), where=offered > 0)
    brevity = np.exp(np.minimum(1 - wanted / np.maximum(length, 1e-9), 0))
    result: NDArray[np.float64] = precisions.prod(-1) ** (1 / order) * np.where(length > 0, brevity, 0)
    return result
