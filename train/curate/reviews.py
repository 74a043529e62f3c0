"""The decisions of reviewers about curated descriptions: accept, edit, drop, and undo.

Every decision is a line of review.jsonl, written at once; undoing adds a line, so nothing is ever lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from minigpt4.core.errors import DataError, UsageError
from minigpt4.train.curate.run_folder import REVIEW, Candidate, CurationRun
from minigpt4.train.evaluate.run_folder import RowFile, rows

CHOICES = ("accept", "edit", "drop", "undo")


@dataclass(frozen=True)
class Decision:
    """A line of review.jsonl. `text` is the text to export: as it was shown, or as it was edited."""

    photo: str
    choice: str
    """One of CHOICES."""

    text: str = ""


class Reviews:
    """The decisions about some candidates; closes its file as a context manager.

    The run should be locked meanwhile (`CurationRun.locked`), so that only one review writes to it.
    """

    def __init__(self, run: CurationRun, candidates: Sequence[Candidate]) -> None:
        """`candidates` are the ones to review, in the order in which they are shown.

        Earlier decisions count, also those about other pictures. Raises DataError for a damaged file.
        """
        self.candidates = tuple(candidates)
        self._order: list[Decision] = []
        for number, one in enumerate(rows(run.path / REVIEW, Decision), start=1):
            if one.choice not in CHOICES:
                raise DataError(
                    f"{run.path / REVIEW}, line {number}, holds the unknown choice '{one.choice}'; remove "
                    "that line, and review again."
                )
            self._apply(one)
        self._file = RowFile(run.path / REVIEW)

    @property
    def waiting(self) -> list[Candidate]:
        """The candidates without a decision."""
        decided = self._decided()
        return [one for one in self.candidates if one.key not in decided]

    @property
    def kept(self) -> dict[str, str]:
        """The texts to export, by picture, in the candidates' order."""
        decided = self._decided()
        found = ((one.key, decided.get(one.key)) for one in self.candidates)
        return {key: made.text for key, made in found if made is not None and made.choice != "drop"}

    def decision(self, photo: str) -> Decision | None:
        """What was decided about a picture; None if nothing was, or it was undone."""
        return self._decided().get(photo)

    def accept(self, candidate: Candidate) -> None:
        """Keep the candidate's text as it is."""
        self._add(Decision(candidate.key, "accept", candidate.after))

    def edit(self, candidate: Candidate, text: str) -> None:
        """Keep another text; raises UsageError for an empty one."""
        if not text.strip():
            raise UsageError("The text is empty; drop the picture instead.")
        self._add(Decision(candidate.key, "edit", text.strip()))

    def drop(self, candidate: Candidate) -> None:
        """Leave the picture out."""
        self._add(Decision(candidate.key, "drop"))

    def undo(self) -> str | None:
        """Undo the last decision; returns the picture's name, or None if there is nothing to undo.

        If it had replaced an earlier decision about the picture, the earlier one counts again.
        """
        if not self._order:
            return None
        photo = self._order[-1].photo
        self._add(Decision(photo, "undo"))
        return photo

    def close(self) -> None:
        """Close the file; all decisions are on disk already."""
        self._file.__exit__()

    def __enter__(self) -> Reviews:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _decided(self) -> dict[str, Decision]:
        return {one.photo: one for one in self._order}

    def _add(self, decision: Decision) -> None:
        self._file.add(decision)
        self._apply(decision)

    def _apply(self, decision: Decision) -> None:
        if decision.choice != "undo":
            self._order.append(decision)
            return
        for place in reversed(range(len(self._order))):
            if self._order[place].photo == decision.photo:
                del self._order[place]
                return
