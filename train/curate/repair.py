"""Repair of descriptions by a language model with the paper's instruction (arXiv 2304.10592, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from minigpt4.core.errors import UsageError
from minigpt4.train.curate.run_folder import REPAIRED, Candidate, CurationRun, Repair
from minigpt4.train.evaluate.judges.client import Request, TextModel

INSTRUCTION = (
    "Fix the error in the given paragraph. Remove any repeating sentences, meaningless characters, not "
    "English sentences, and so on. Remove unnecessary repetition. Rewrite any incomplete sentences. Return "
    "directly the results without explanation. Return directly the input paragraph if it is already correct "
    "without explanation."
)
MAX_TOKENS = 512
"""Limit of a repaired text; descriptions are shorter."""


def unrepaired(run: CurationRun, candidates: Sequence[Candidate], by: str) -> list[Candidate]:
    """The descriptions that wait for a repair; raises UsageError if another model has repaired some."""
    done = run.repairs()
    other = next((one.by for one in done.values() if one.by != by), None)
    if other is not None:
        raise UsageError(
            f"'{run.path}' holds repairs by {other}, and now they would be by {by}; choose another --output, "
            "or the same --repair-with."
        )
    return [
        one
        for one in candidates
        if one.key not in done or done[one.key].error or done[one.key].before != one.before
    ]


def request_of(candidate: Candidate) -> Request:
    """The request to repair a description."""
    return Request(f"{INSTRUCTION}\n\n{candidate.before}", max_tokens=MAX_TOKENS)


def repair(
    run: CurationRun,
    candidates: Sequence[Candidate],
    model: TextModel,
    *,
    advance: Callable[[Repair], object] = lambda _made: None,
) -> None:
    """Repair descriptions and save each result at once; a refused or empty one leaves the text as it was.

    Raises Minigpt4Error for a failure that concerns all.
    """
    requests = [request_of(one) for one in candidates]
    with run.adding_to(REPAIRED) as file:

        def keep(index: int, text: str, error: str = "") -> None:
            one = candidates[index]
            made = Repair(one.key, model.name, one.before, text.strip(), error)
            file.add(made)
            advance(made)

        for index, text in model.complete(requests, lambda index, sentence: keep(index, "", sentence)):
            keep(index, text, "" if text.strip() else "The model returned an empty text.")
