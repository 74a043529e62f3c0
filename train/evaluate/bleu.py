"""Corpus BLEU-1 to BLEU-4 against several references (Papineni et al. 2002).

As the COCO evaluation code computes it: counts are summed over the whole set before they are
divided, an n-gram counts at most as often as in the one reference that has it most, and the
brevity penalty uses the reference length closest to each candidate's (the shorter of two equally
close ones). Nothing is smoothed: one order without a match makes it and the next ones 0.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from minigpt4.train.evaluate.cider import LONGEST, Ngram, ngram_counts


def bleu(
    candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> tuple[float, float, float, float]:
    """BLEU-1, -2, -3 and -4, each in [0, 1], of one candidate a picture, all as lists of words."""
    matched, offered = [0] * LONGEST, [0] * LONGEST
    length = wanted_length = 0
    for candidate, several in zip(candidates, references, strict=True):
        most: Counter[Ngram] = Counter()
        for reference in several:
            most |= ngram_counts(reference)
        for ngram, count in ngram_counts(candidate).items():
            offered[len(ngram) - 1] += count
            matched[len(ngram) - 1] += min(count, most[ngram])
        length += len(candidate)
        wanted_length += min((abs(len(words) - len(candidate)), len(words)) for words in several)[1]
    one, two, three, four = _geometric_means(matched, offered)
    brevity = _brevity_penalty(length, wanted_length)
    return one * brevity, two * brevity, three * brevity, four * brevity


def _geometric_means(matched: Sequence[int], offered: Sequence[int]) -> list[float]:
    means, product = [], 1.0
    for order, (hits, total) in enumerate(zip(matched, offered, strict=True), start=1):
        product *= hits / total if total else 0.0
        means.append(product ** (1 / order))
    return means


def _brevity_penalty(length: int, wanted: int) -> float:
    if length >= wanted:
        return 1.0
    return math.exp(1 - wanted / length) if length else 0.0
