"""Human captions as written sentences, and their order by centrality."""

from __future__ import annotations

import re
from collections.abc import Sequence

from minigpt4.train.captions import lexicon
from minigpt4.train.captions.parser import ParsedCaption


def clean_caption(text: str) -> str | None:
    """A human caption as a written sentence, or None if it is not one (too short, or cut off).

    Spacing is normalised, the first letter is capitalised, and a single full stop ends it:
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
    if len(words) < 3 or words[-1].lower() in lexicon.DANGLING:
        return None
    return f"{text[0].upper()}{text[1:]}."


def cleaned(captions: Sequence[str]) -> list[str]:
    """The captions as sentences, without unusable ones and duplicates."""
    return list(dict.fromkeys(line for text in captions if (line := clean_caption(text)) is not None))


def by_centrality(captions: Sequence[ParsedCaption]) -> list[ParsedCaption]:
    """The captions by their mean Jaccard similarity to the others, highest first, then by length."""

    def similarity(left: set[str], right: set[str]) -> float:
        return len(left & right) / len(left | right) if left | right else 0.0

    def rank(caption: ParsedCaption) -> tuple[float, int]:
        total = sum(similarity(caption.stems, other.stems) for other in captions if other is not caption)
        return (-total / max(len(captions) - 1, 1), -len(caption.stems))

    return sorted(captions, key=rank)
