"""How answers to questions about pictures are matched with human answers."""

from __future__ import annotations

import re
from collections.abc import Sequence

ENOUGH = 3
"""People who must agree for a full score."""

_PUNCTUATION = re.compile(r"(?<!\d)[.,](?!\d)|[.,](?!\d)|[;:!?\"()\[\]{}`*_~<>]")
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def normalized(answer: str) -> str:
    """In lower case, without punctuation, articles and extra spaces, as human answers are plain words."""
    return " ".join(_ARTICLES.sub(" ", _PUNCTUATION.sub(" ", answer.lower())).split())


def soft_accuracy(answer: str, people: Sequence[str]) -> float:
    """min(1, equal human answers / 3), A-OKVQA's measure of direct answers (its eval_predictions.py).

    The original compares texts unchanged, for models that choose from a vocabulary; here both sides are
    normalised, since the answers are free text.
    """
    said = normalized(answer)
    return min(1.0, sum(said == normalized(other) for other in people) / ENOUGH)


def is_equal(answer: str, right: str) -> bool:
    """Whether they are the same when normalised: GQA's accuracy (its eval.py), and that of a choice."""
    return normalized(answer) == normalized(right)
