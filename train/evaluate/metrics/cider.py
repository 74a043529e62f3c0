"""CIDEr-D: the agreement of a caption with several human captions of the same picture.

Vedantam et al. 2015 (arXiv 1411.5726), sections 3 and 4.2, as the COCO evaluation code computes
it: n-grams of 1 to 4 words weighted by tf-idf over the references of the evaluated set, clipped
cosine similarity, a Gaussian penalty on the difference of length, times ten. So a value of 0.40
here is the 0.40 of papers, which some print as 40.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

LONGEST = 4
SIGMA = 6.0
SCALE = 10.0

Ngram = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Vectors:
    """tf-idf weights and their Euclidean norm, one entry for each n, and the length in words."""

    weights: tuple[dict[Ngram, float], ...]
    norms: tuple[float, ...]
    length: int


def cider_d(
    candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> list[float]:
    """The CIDEr-D, in [0, 10], of each picture's candidate against its references, all as lists of words.

    The inverse document frequency comes from these very references, so the score of a picture
    depends on the whole set; with a single picture every weight, and the score, is 0.
    """
    pictures = [[ngram_counts(words) for words in several] for several in references]
    frequency = Counter(ngram for counts in pictures for ngram in set().union(*counts))
    idf = {ngram: math.log(len(pictures) / count) for ngram, count in frequency.items()}
    unseen = math.log(len(pictures))

    def vectors(counts: Counter[Ngram], length: int) -> _Vectors:
        weights: tuple[dict[Ngram, float], ...] = tuple({} for _ in range(LONGEST))
        for ngram, count in counts.items():
            weights[len(ngram) - 1][ngram] = count * idf.get(ngram, unseen)
        norms = tuple(math.sqrt(math.fsum(w * w for w in order.values())) for order in weights)
        # The reference code counts bigrams for length, which makes one word as long as none.
        return _Vectors(weights, norms, max(0, length - 1))

    scores = []
    for candidate, several, counts in zip(candidates, references, pictures, strict=True):
        answer = vectors(ngram_counts(candidate), len(candidate))
        wanted = [vectors(count, len(words)) for count, words in zip(counts, several, strict=True)]
        mean = math.fsum(_similarity(answer, reference) for reference in wanted) / len(wanted)
        scores.append(SCALE * mean)
    return scores


def _similarity(answer: _Vectors, reference: _Vectors) -> float:
    total = 0.0
    for mine, theirs, norm_a, norm_b in zip(
        answer.weights, reference.weights, answer.norms, reference.norms, strict=True
    ):
        if norm_a and norm_b:
            shared = (
                min(weight, theirs[ngram]) * theirs[ngram]
                for ngram, weight in mine.items()
                if ngram in theirs
            )
            total += math.fsum(shared) / (norm_a * norm_b)
    apart = answer.length - reference.length
    return total / LONGEST * math.exp(-(apart**2) / (2 * SIGMA**2))


def ngram_counts(words: Sequence[str]) -> Counter[Ngram]:
    """How often each run of 1 to 4 words occurs."""
    return Counter(
        tuple(words[start : start + n]) for n in range(1, LONGEST + 1) for start in range(len(words) - n + 1)
    )
