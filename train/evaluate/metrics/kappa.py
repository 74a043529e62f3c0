"""Cohen's kappa: how far two judges agree beyond chance.

Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological Measurement 20 (1960).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence


def cohen_kappa(pairs: Sequence[tuple[Hashable, Hashable]]) -> float | None:
    """Kappa of two judges' verdicts on each answer: 1 is full agreement, 0 is chance level.

    None if it is not defined: without answers, or if both always give the same single verdict.
    """
    count = len(pairs)
    first, second = (Counter(pair[judge] for pair in pairs) for judge in (0, 1))
    by_chance = sum(first[value] * second[value] for value in first)
    if by_chance == count * count:  # also without pairs
        return None
    agreed = sum(one == other for one, other in pairs)
    return (agreed * count - by_chance) / (count * count - by_chance)
