"""Distinguish an unmerged Vicuna delta from a merged model.

Vicuna v0 was published as its difference from LLaMA, because LLaMA itself could not be: a "delta"
folder has the headers of a model and answers gibberish.

The rule. The fine-tuning behind the difference used Adam at a learning rate of at most 2e-5 for some
1,600 steps, and Adam moves a weight by about the learning rate per step. Even with every step in one
direction that is 0.03, and about 0.001 if directions differ. So in a delta

- weights of RMSNorm, which start at 1 and stay of that order in a model, lie below NORM,
- the rows of the embedding and the matrices, which start with a spread of 0.02 (a mean magnitude of
  0.016) and grow from there, lie below MATRIX.

Each number is the median over tensors of the mean magnitude of the sampled values. Two of the three
signs indicate a delta; one alone, or the word in the folder's name, gets a warning.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from minigpt4.core.verify.finding import Check
from minigpt4.core.verify.samples import Sample

NORM = 0.05
MATRIX = 0.003

MERGE = (
    "add it to LLaMA's own weights first (FastChat's `python -m fastchat.model.apply_delta` does) and "
    "import the folder that this makes"
)

SUBJECT = "merged"


def delta_check(samples: Sequence[Sample], name: str) -> Check:
    """Whether the language model's weights are a model's, not a delta's; `name` is the model's name.

    `samples` are those of a LLaMA under the names of transformers or of GGUF.
    """
    signs = [
        f"{kind} {size:.2g} (a model's: above {least:g})"
        for kind, size, least in _sizes(samples)
        if size < least
    ]
    if len(signs) >= 2:
        return Check(
            SUBJECT,
            "problem",
            "The weights look like a Vicuna delta that was not merged: mean magnitudes of "
            f"{', '.join(signs)}; {MERGE}.",
        )
    if signs:
        return Check(
            SUBJECT,
            "warning",
            f"The weights are unusually small: a mean magnitude of {signs[0]}; if answers are gibberish, "
            f"this may be a Vicuna delta: {MERGE}.",
        )
    if "delta" in name.lower():
        return Check(
            SUBJECT,
            "warning",
            f"'{name}' is called a delta, though its weights have the size of a whole model's; if it is one, "
            f"{MERGE}.",
        )
    return Check(SUBJECT, "ok", "The weights have the size of a whole model's, not of a delta's.")


def _sizes(samples: Sequence[Sample]) -> list[tuple[str, float, float]]:
    """Kind, median magnitude and least magnitude of norms, embedding and matrices, if it has any."""
    kinds: dict[str, list[float]] = {"norms": [], "embedding": [], "matrices": []}
    for sample in samples:
        if "embed_tokens" in sample.name or "token_embd" in sample.name:
            kinds["embedding"].append(sample.magnitude)
        elif len(sample.shape) == 1 and "norm" in sample.name:
            kinds["norms"].append(sample.magnitude)
        elif len(sample.shape) == 2:
            kinds["matrices"].append(sample.magnitude)
    least = {"norms": NORM, "embedding": MATRIX, "matrices": MATRIX}
    return [(kind, median(sizes), least[kind]) for kind, sizes in kinds.items() if sizes]
