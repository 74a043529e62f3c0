"""Near-duplicate texts, by the Jaccard similarity of their sets of three-word shingles."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping

from minigpt4.train.evaluate.metrics.ptb_tokenizer import words

IN_A_ROW = 3

Shingles = frozenset[tuple[str, ...]]


def similarity(one: str, other: str) -> float:
    """The Jaccard similarity of two texts, 0 to 1."""
    first, second = shingles(one), shingles(other)
    return len(first & second) / len(first | second)


def shingles(text: str) -> Shingles:
    """All runs of three words; the whole text if it is shorter."""
    found = words(text)
    ends = range(min(IN_A_ROW, len(found)), len(found) + 1)
    return frozenset(tuple(found[max(end - IN_A_ROW, 0) : end]) for end in ends)


def near_duplicates(texts: Mapping[str, str], least: float) -> dict[str, str]:
    """The names of texts with a similarity of at least `least` (0 to 1) to an earlier one, and its name.

    A text that resembles only a duplicate stays. Only texts that share one of their rarest parts are
    compared: with a similarity of t, two sets share one of the first (1 - t) |x| + 1 parts in a common order
    (prefix filtering: Bayardo, Ma and Srikant 2007, Scaling Up All Pairs Similarity Search).
    """
    sets = {name: shingles(text) for name, text in texts.items()}
    frequency = Counter(part for parts in sets.values() for part in parts)
    by_part: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    duplicates: dict[str, str] = {}
    for name, parts in sets.items():
        # A margin of 1e-9, as 0.55 * 100 is above 55 in floating point.
        prefix = sorted(parts, key=lambda part: (frequency[part], part))
        prefix = prefix[: len(parts) - math.ceil(least * len(parts) - 1e-9) + 1]
        near = dict.fromkeys(other for part in prefix for other in by_part[part])
        for other in near:
            if len(parts & sets[other]) >= least * len(parts | sets[other]) - 1e-9:
                duplicates[name] = other
                break
        else:
            for part in prefix:
                by_part[part].append(name)
    return duplicates
