"""Human captions as written sentences, and which of them says best what all say."""

from __future__ import annotations

import re
from collections.abc import Sequence

from minigpt4.train.captions.parser import content_stems

_DANGLING = frozenset("a an the of in on at with and or to from by near for into onto".split())


def clean_caption(text: str) -> str | None:
    """A human caption as a written sentence, or None if it is not one (too short, or cut off).

    Spaces go where print has them, the first letter becomes a capital, and one full stop ends it:
    "people playing , basketball ball in air ." -> "People playing, basketball ball in air."
    """
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r'"\s*([^"]*?)\s*"', lambda quote: f'"{quote[1].rstrip(" .,")}"', text)
    text = re.sub(r"\s+([,.;:!?])", r"\1", text)
    text = re.sub(r"\s+('(?:s|re|ll|ve|d|m)|n't)\b", r"\1", text)
    text = re.sub(r"(\w)\s+'(?=\s|$)", r"\1'", text)
    text = re.sub(r"#\s+(?=\d)", "#", text)
    text = re.sub(r"\(\s+", "(", text)
    text = re.sub(r"\s+\)", ")", text)
    text = re.sub(r"([,;:])(?=[^\W\d])", r"\1 ", text)
    text = re.sub(r"[\s.,;:!?-]+$", "", text).lstrip(" .,;:!?-")
    words = re.findall(r"[^\W\d_]+", text)
    if len(words) < 3 or words[-1].lower() in _DANGLING:
        return None
    return f"{text[0].upper()}{text[1:]}."


def cleaned(captions: Sequence[str]) -> list[str]:
    """The captions as sentences, without those that are none and without repeats."""
    return list(dict.fromkeys(line for text in captions if (line := clean_caption(text)) is not None))


def overlap(left: set[str], right: set[str]) -> float:
    """Jaccard index of two sets of words, 0 where both are empty."""
    return len(left & right) / len(left | right) if left | right else 0.0


def by_centrality(lines: Sequence[str]) -> list[str]:
    """The sentences, those that share most words with the others first (longer ones first among equals)."""
    bags = [content_stems(line) for line in lines]

    def rank(index: int) -> tuple[float, int, int]:
        others = [overlap(bags[index], bag) for other, bag in enumerate(bags) if other != index]
        return (-sum(others) / max(len(others), 1), -len(bags[index]), index)

    return [lines[index] for index in sorted(range(len(lines)), key=rank)]
