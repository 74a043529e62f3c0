"""The state of a curation: which descriptions are left after each step, and how many each one removed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minigpt4.train.curate.filters import RULES, FilterOptions, removals
from minigpt4.train.curate.reviews import Reviews
from minigpt4.train.curate.run_folder import Candidate, CurationRun, Description, Removal
from minigpt4.train.evaluate.photos import EvalPhoto

EXAMPLES = 3
"""Most examples of each filter in a summary."""


def described(run: CurationRun, photos: Sequence[EvalPhoto]) -> list[Candidate]:
    """The pictures that have a description, in their order, with its repair if there is one."""
    descriptions, repairs = run.descriptions(), run.repairs()
    found = []
    for photo in photos:
        one = descriptions.get(photo.key)
        if one is None or one.error:
            continue
        repair = repairs.get(photo.key)
        is_repaired = repair is not None and not repair.error and repair.before == one.text
        found.append(Candidate(photo, one.text, repair.text if repair and is_repaired else one.text))
    return found


def filtered(run: CurationRun, candidates: Sequence[Candidate], options: FilterOptions) -> list[Candidate]:
    """The candidates that no filter removes; the removals are written to filtered.jsonl."""
    removed = removals(candidates, run.descriptions(), options)
    run.write_removals(removed)
    fallen = {one.photo for one in removed}
    return [one for one in candidates if one.key not in fallen]


def final_texts(reviews: Reviews, *, accept_waiting: bool) -> dict[str, str]:
    """The texts to export, by picture, in order: what reviewers kept and, if wished, what nobody reviewed."""
    kept = reviews.kept
    waiting = {one.key: one.after for one in reviews.waiting} if accept_waiting else {}
    texts = ((one.key, kept.get(one.key, waiting.get(one.key))) for one in reviews.candidates)
    return {key: text for key, text in texts if text is not None}


@dataclass(frozen=True)
class Summary:
    """How many pictures each step had and lost, with examples of what was lost."""

    pictures: int
    failed: tuple[Description, ...]
    continued: int
    """Descriptions that took a second turn."""

    repaired_by: str
    """The model that repaired; empty without a repair."""

    changed: int
    """Texts that the repair changed."""

    unrepaired: int
    """Texts that could not be repaired and stayed as they were."""

    removed: tuple[Removal, ...]
    waiting: int
    """Descriptions that wait for a review."""

    edited: int
    dropped: tuple[str, ...]
    """Names of the pictures that reviewers dropped."""

    kept: int

    def as_json(self) -> dict[str, Any]:
        """The summary as JSON values; each filter has its count and examples."""
        counts = self.fallen()
        return {
            "pictures": self.pictures,
            "described": self.pictures - len(self.failed),
            "not_described": [{"photo": one.photo, "error": one.error} for one in self.failed],
            "continued": self.continued,
            "repair": {"by": self.repaired_by, "changed": self.changed, "not_repaired": self.unrepaired}
            if self.repaired_by
            else None,
            "filters": {
                rule: {
                    "removed": counts[rule],
                    "examples": [
                        {"photo": one.photo, "why": one.why, "text": one.text} for one in self.examples(rule)
                    ],
                }
                for rule in RULES
            },
            "review": {"waiting": self.waiting, "edited": self.edited, "dropped": list(self.dropped)},
            "kept": self.kept,
        }

    def fallen(self) -> Counter[str]:
        """How many descriptions each filter removed."""
        return Counter(one.rule for one in self.removed)

    def examples(self, rule: str) -> list[Removal]:
        """The first removals of a filter."""
        return [one for one in self.removed if one.rule == rule][:EXAMPLES]


def summary(
    run: CurationRun,
    photos: Sequence[EvalPhoto],
    candidates: Sequence[Candidate],
    reviews: Reviews,
    kept: Mapping[str, str],
) -> Summary:
    """The summary of a run; `candidates` are those that the filters left, `kept` the final texts."""
    descriptions: Mapping[str, Description] = run.descriptions()
    ours = [descriptions[photo.key] for photo in photos if photo.key in descriptions]
    repairs = run.repairs().values()
    decisions = [one for one in map(reviews.decision, (one.key for one in candidates)) if one is not None]
    return Summary(
        pictures=len(photos),
        failed=tuple(one for one in ours if one.error),
        continued=sum(len(one.turns) > 1 for one in ours),
        repaired_by=next((one.by for one in repairs), ""),
        changed=sum(not one.error and one.text != one.before for one in repairs),
        unrepaired=sum(bool(one.error) for one in repairs),
        removed=tuple(run.removals().values()),
        waiting=sum(one.key not in kept for one in reviews.waiting),
        edited=sum(one.choice == "edit" for one in decisions),
        dropped=tuple(one.photo for one in decisions if one.choice == "drop"),
        kept=len(kept),
    )
