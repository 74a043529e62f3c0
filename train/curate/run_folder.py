"""The folder of a curation: the results of each step for each picture; no step changes its input.

RUN/run.json            model, prompt, sampling, seed, pictures, versions; a run is only resumed with the same
RUN/described.jsonl     the model's description of each picture
RUN/repaired.jsonl      another model's repair of a description
RUN/filtered.jsonl      the descriptions that a filter removed, and why; rewritten whenever filters run
RUN/review.jsonl        the reviewers' decisions, one per line
RUN/captions.jsonl      the result: picture and text
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from minigpt4.core.storage.atomic import replacing
from minigpt4.train.evaluate.photos import EvalPhoto
from minigpt4.train.evaluate.run_folder import RowFile, RunFolder, row_line, rows

DESCRIBED, REPAIRED, FILTERED = "described.jsonl", "repaired.jsonl", "filtered.jsonl"
REVIEW, CAPTIONS = "review.jsonl", "captions.jsonl"


@dataclass(frozen=True)
class Description:
    """The model's description of a picture: a line of described.jsonl."""

    photo: str
    set: str
    digest: str
    """SHA-256 of the picture's file."""

    look: str
    """The picture's perceptual hash in hexadecimal; empty for a flat picture."""

    text: str
    """The answers of all turns, joined."""

    turns: list[str] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    """Tokens of each turn's answer."""

    finish: str = "stop"
    """Why the last turn ended: by itself, or at the token limit."""

    error: str = ""
    """Why there is no text, as a sentence."""


@dataclass(frozen=True)
class Repair:
    """Another model's repair of a description: a line of repaired.jsonl."""

    photo: str
    by: str
    """The model's name."""

    before: str
    text: str
    """Empty with an error: the description stays as it was."""

    error: str = ""


@dataclass(frozen=True)
class Removal:
    """A description that a filter removed: a line of filtered.jsonl."""

    photo: str
    rule: str
    why: str
    """What the rule found: words of the text, or the name of the picture that it resembles."""

    text: str


@dataclass(frozen=True, eq=False)
class Candidate:
    """A picture with its description before and after the repair; they are equal without one."""

    photo: EvalPhoto
    before: str
    after: str

    @property
    def key(self) -> str:
        """The picture's name in the run."""
        return self.photo.key


class CurationRun(RunFolder):
    """A curation's folder."""

    kind = "curation"

    def descriptions(self) -> dict[str, Description]:
        """The last description of each picture."""
        return {one.photo: one for one in rows(self.path / DESCRIBED, Description)}

    def repairs(self) -> dict[str, Repair]:
        """The last repair of each picture."""
        return {one.photo: one for one in rows(self.path / REPAIRED, Repair)}

    def removals(self) -> dict[str, Removal]:
        """What the filters removed, by picture."""
        return {one.photo: one for one in rows(self.path / FILTERED, Removal)}

    @contextmanager
    def adding_to(self, name: str) -> Iterator[RowFile]:
        """Open one of the run's files to append rows."""
        with RowFile(self.path / name) as file:
            yield file

    def write_removals(self, removals: Iterable[Removal]) -> None:
        """Replace filtered.jsonl."""
        self._write(FILTERED, (asdict(one) for one in removals))

    def write_captions(self, captions: Iterable[tuple[str, str]]) -> None:
        """Replace captions.jsonl with pairs of picture and text."""
        self._write(CAPTIONS, ({"photo": photo, "captions": [text]} for photo, text in captions))

    def _write(self, name: str, content: Iterable[dict[str, Any]]) -> None:
        with replacing(self.path / name) as draft, draft.open("wb") as file:
            file.writelines(map(row_line, content))
