"""How far the judges of a run can be trusted: what they falsely accept, and whether they agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from minigpt4.train.evaluate.metrics.kappa import cohen_kappa
from minigpt4.train.evaluate.suite import Verdict

MOST_ACCEPTED = 0.2
"""The share of known negatives above which a judge should not be trusted."""


@dataclass(frozen=True)
class JudgeSummary:
    """A judge's verdicts on one of the suite's questions, as counts."""

    judge: str
    question: str
    judged: int
    """Answers with a verdict that was understood, without known negatives."""

    not_understood: int
    """Verdicts, including those about known negatives, that the judge's words do not make clear."""

    negatives: int
    """Known negatives with a verdict that was understood."""

    accepted: int
    """How many of these it accepted, at least in part."""

    @property
    def sentence(self) -> str:
        """Everything in one line."""
        parts = [f"{self.judge}: {self.judged} answers judged ({self.question})"]
        if self.not_understood:
            parts.append(f"{self.not_understood} verdicts not understood")
        if self.negatives:
            parts.append(f"{self.accepted} of {self.negatives} answers about other pictures accepted")
        return ", ".join(parts)

    @property
    def warning(self) -> str:
        """A sentence for a judge that accepts what is false; otherwise empty."""
        if self.accepted <= MOST_ACCEPTED * self.negatives:
            return ""
        return (
            f"Do not trust the judge '{self.judge}': it accepted {self.accepted} of {self.negatives} answers "
            f"about other pictures ({self.question})."
        )


@dataclass(frozen=True)
class Agreement:
    """The agreement of two judges about the answers that both have judged, without known negatives."""

    judges: tuple[str, str]
    question: str
    answers: int
    kappa: float | None
    """Cohen's kappa; None if it is not defined."""

    @property
    def sentence(self) -> str:
        """Everything in one line."""
        kappa = "not defined" if self.kappa is None else f"{self.kappa:.3f}"
        judges = " and ".join(self.judges)
        return f"{judges}: Cohen's kappa {kappa} over {self.answers} answers ({self.question})"


def judge_summaries(verdicts: Sequence[Verdict]) -> list[JudgeSummary]:
    """One summary for each judge and question, in the order of their first verdicts."""
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for one in verdicts:
        groups.setdefault((one.judge, one.question), []).append(one)
    found = []
    for (judge, question), said in groups.items():
        understood = [one for one in said if one.value is not None]
        negatives = [one for one in understood if one.is_negative]
        accepted = sum(1 for one in negatives if one.value)
        found.append(
            JudgeSummary(
                judge,
                question,
                len(understood) - len(negatives),
                len(said) - len(understood),
                len(negatives),
                accepted,
            )
        )
    return found


def agreements(verdicts: Sequence[Verdict]) -> list[Agreement]:
    """For each question, the agreement of each two judges that have judged the same answers."""
    values: dict[str, dict[str, dict[str, float]]] = {}
    for one in verdicts:
        if one.value is not None and not one.is_negative:
            values.setdefault(one.question, {}).setdefault(one.judge, {})[one.id] = one.value
    found = []
    for question, by_judge in values.items():
        for first, second in combinations(by_judge, 2):
            pairs = [
                (by_judge[first][key], by_judge[second][key])
                for key in by_judge[first].keys() & by_judge[second]
            ]
            if pairs:
                found.append(Agreement((first, second), question, len(pairs), cohen_kappa(pairs)))
    return found


def as_json(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The summaries and agreements as a JSON record."""
    return {
        "judges": [asdict(one) | {"warning": one.warning} for one in judge_summaries(verdicts)],
        "agreements": [asdict(one) for one in agreements(verdicts)],
    }
