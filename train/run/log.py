"""A run's folder as it is read by those who watch it, while it is written or long after.

`RunTail` reads what was added to a folder since the last look (on a thread of its own, where somebody
waits for a screen); `RunLog` holds what has been told so far, as curves over the steps. Nothing here
needs torch, and nothing is written.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tomllib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from minigpt4.core.errors import UsageError
from minigpt4.core.locks import acquire
from minigpt4.train.events import Answer, Note, PhotoLeftOut, Sampled, StepDone, Validated
from minigpt4.train.run.folder import LOCK, LOG, RECIPE, RunFolder

LogEvent = StepDone | Validated | Sampled | PhotoLeftOut | Note
RunState = Literal["preparing", "running", "stopped", "finished"]
"""`preparing`: a process works in the folder and has made no step yet."""

SAMPLES = "samples"
LONGEST_NAME = 180
"""Letters of a file's name, of the 255 bytes that most disks allow."""

RECENT = 50
"""Steps whose mean is told as the newest figure: single ones jump about by a tenth."""

MOST_STEPS = 2**53
"""Larger ones stand in no axis exactly; only a damaged log has them."""


def sample_picture(run: Path, key: str) -> Path:
    """Where a run keeps the picture that the answers about `key` are of, whatever the key's letters."""
    name = quote(key, safe="")
    if len(name) > LONGEST_NAME:
        name = f"{name[:LONGEST_NAME]}-{hashlib.sha256(key.encode('utf-8', 'replace')).hexdigest()[:16]}"
    return run / SAMPLES / f"{name}.jpg"


class Curve:
    """Finite values by step, in the order of the steps; sums over any stretch cost next to nothing."""

    def __init__(self) -> None:
        self._steps = array("q")
        self._values = array("d")
        self._sums = array("d", [0.0])

    def __len__(self) -> int:
        return len(self._steps)

    @property
    def first(self) -> int:
        """The first step, 0 where there is none."""
        return self._steps[0] if self._steps else 0

    @property
    def last(self) -> int:
        """The last step, 0 where there is none."""
        return self._steps[-1] if self._steps else 0

    def add(self, step: int, value: float) -> None:
        """Add a value; one of an earlier step begins that part again. What is no number is left out."""
        if self._steps and step <= self._steps[-1]:
            place = bisect_left(self._steps, step)
            del self._steps[place:], self._values[place:], self._sums[place + 1 :]
        if math.isfinite(value):
            self._steps.append(step)
            self._values.append(value)
            self._sums.append(self._sums[-1] + value)

    def mean(self, first: float, last: float) -> float | None:
        """The mean of the values of steps `first` to `last`, both included; None where there is none."""
        begin, end = self._between(first, last)
        return (self._sums[end] - self._sums[begin]) / (end - begin) if end > begin else None

    def extent(self, first: float, last: float) -> tuple[float, float] | None:
        """The smallest and the largest of those values."""
        begin, end = self._between(first, last)
        values = self._values[begin:end]
        return (min(values), max(values)) if values else None

    def points(self, first: float, last: float) -> list[tuple[int, float]]:
        """Step and value of each of those."""
        begin, end = self._between(first, last)
        return list(zip(self._steps[begin:end], self._values[begin:end], strict=True))

    def upto(self, step: float) -> tuple[int, float] | None:
        """Step and value of the newest one that is not after `step`."""
        place = bisect_right(self._steps, step)
        return (self._steps[place - 1], self._values[place - 1]) if place else None

    def recent(self, count: int) -> float | None:
        """The mean of the last so many values."""
        values = self._values[-count:]
        return math.fsum(values) / len(values) if values else None

    def _between(self, first: float, last: float) -> tuple[int, int]:
        return bisect_left(self._steps, first), bisect_right(self._steps, last)


@dataclass(frozen=True)
class Outline:
    """What of its recipe matters to somebody who watches; 0 where it is not told."""

    stage: int = 0
    bundle: str = ""
    steps: int = 0
    batch_size: int = 0


@dataclass(frozen=True)
class News:
    """What a run's folder has told since it was last read."""

    state: RunState
    outline: Outline
    written_at: float | None
    """When the log was last written to (seconds since 1970); None where there is no log."""

    events: tuple[LogEvent, ...]
    is_anew: bool
    """Whether the log begins again: a run that is resumed drops what came after its checkpoint."""


class RunTail:
    """Reads a run's folder again and again, each time what is new."""

    def __init__(self, folder: Path) -> None:
        """Raises UsageError where there is no run in the folder, and no process preparing one."""
        if not _is_run(folder):
            raise UsageError(_no_run(folder))
        self.folder = folder
        self._file: tuple[int, int] | None = None
        self._read = 0

    def news(self) -> News:
        """What has been added. Raises nothing: a folder that is gone is a run that has stopped."""
        events: tuple[LogEvent, ...] = ()
        is_anew, written_at = False, None
        try:
            with (self.folder / LOG).open("rb") as file:
                status = os.fstat(file.fileno())
                written_at = status.st_mtime
                is_anew = self._file != (status.st_dev, status.st_ino) or status.st_size < self._read
                if is_anew:
                    self._file, self._read = (status.st_dev, status.st_ino), 0
                file.seek(self._read)
                added = file.read()
        except OSError:
            added = b""
        # Half a line is read again once it is whole.
        whole = added[: added.rfind(b"\n") + 1]
        self._read += len(whole)
        events = tuple(event for line in whole.splitlines() if (event := _event_of(line)) is not None)
        outline = _outline(self.folder / RECIPE)
        return News(self._state(is_begun=self._read > 0), outline, written_at, events, is_anew)

    def _state(self, *, is_begun: bool) -> RunState:
        folder = RunFolder(self.folder)
        if _is_held(self.folder / LOCK):
            return "running" if is_begun else "preparing"
        return "finished" if folder.result.is_file() else "stopped"


@dataclass
class RunLog:
    """Everything that a run has told so far."""

    folder: Path
    state: RunState = "stopped"
    outline: Outline = Outline()
    written_at: float | None = None
    last: StepDone | None = None
    loss: Curve = field(default_factory=Curve)
    val_loss: Curve = field(default_factory=Curve)
    lr: Curve = field(default_factory=Curve)
    grad_norm: Curve = field(default_factory=Curve)
    samples_per_s: Curve = field(default_factory=Curve)
    sampled: list[Sampled] = field(default_factory=list)
    left_out: int = 0
    """Photos that could not be learnt from."""

    note: str = ""
    """The newest of its notes."""

    @property
    def step(self) -> int:
        """The last step that was made."""
        return self.last.step if self.last is not None else 0

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at the speed of the last steps; None where that is not known."""
        speed = self.samples_per_s.recent(RECENT)
        photos = (self.outline.steps - self.step) * self.outline.batch_size
        return photos / speed if speed and photos > 0 and self.state == "running" else None

    def take(self, news: News) -> None:
        """Add what is new."""
        if news.is_anew:
            self._begin_again()
        self.state, self.outline, self.written_at = news.state, news.outline, news.written_at
        for event in news.events:
            self._add(event)

    def answers_at(self, step: float) -> Sampled | None:
        """The newest answers that are not of a later step."""
        found = [one for one in self.sampled if one.step <= step]
        return found[-1] if found else None

    def _begin_again(self) -> None:
        fresh = RunLog(self.folder)
        for name in vars(fresh):
            setattr(self, name, getattr(fresh, name))

    def _add(self, event: LogEvent) -> None:
        match event:
            case StepDone():
                self.last = event
                self.loss.add(event.step, event.loss)
                self.lr.add(event.step, event.lr)
                self.grad_norm.add(event.step, event.grad_norm)
                self.samples_per_s.add(event.step, event.samples_per_s)
            case Validated():
                self.val_loss.add(event.step, event.val_loss)
            case Sampled():
                self.sampled = [one for one in self.sampled if one.step < event.step] + [event]
            case PhotoLeftOut():
                self.left_out += 1
            case Note():
                self.note = event.sentence


def _event_of(line: bytes) -> LogEvent | None:
    """The event of a line of the log; None where it is another one, or damaged."""
    try:
        row = json.loads(line)
        return _event(row) if isinstance(row, dict) else None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _event(row: Mapping[str, Any]) -> LogEvent | None:
    if "loss" in row:
        return _step_done(row)
    if "val_loss" in row:
        return Validated(_step(row), float(row["val_loss"]))
    if "answers" in row:
        answers = [
            Answer(str(one["key"]), str(one["question"]), str(one["answer"])) for one in row["answers"]
        ]
        return Sampled(_step(row), tuple(answers))
    if "reason" in row:
        return PhotoLeftOut(str(row["source"]), str(row["key"]), str(row["reason"]))
    return Note(str(row["sentence"])) if "sentence" in row else None


def _step_done(row: Mapping[str, Any]) -> StepDone:
    mfu = row.get("mfu")
    return StepDone(
        step=_step(row),
        loss=float(row["loss"]),
        lr=float(row["lr"]),
        grad_norm=float(row["grad_norm"]),
        samples_per_s=float(row["samples_per_s"]),
        label_tokens=int(row["label_tokens"]),
        data_wait=float(row.get("data_wait", 0.0)),
        mfu=None if mfu is None else float(mfu),
        memory=int(row.get("memory", 0)),
        left_out=int(row.get("left_out", 0)),
    )


def _step(row: Mapping[str, Any]) -> int:
    step = int(row["step"])
    if not 0 <= step <= MOST_STEPS:
        raise ValueError(f"the step {step} cannot be")
    return step


def _outline(recipe: Path) -> Outline:
    """Read loosely: a run of another version, whose recipe has other keys, can be watched all the same."""
    try:
        values = tomllib.loads(recipe.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Outline()
    stage, bundle = values.get("stage"), values.get("bundle")
    steps, batch_size = values.get("steps"), values.get("batch_size")
    return Outline(
        stage if isinstance(stage, int) else 0,
        bundle if isinstance(bundle, str) else "",
        steps if isinstance(steps, int) else 0,
        batch_size if isinstance(batch_size, int) else 0,
    )


def _is_held(lock: Path) -> bool:
    """Whether a process trains in the folder.

    Asked with a lock that others may share, held for microseconds, so that those who watch are not in
    each other's way.
    """
    try:
        with lock.open("rb") as file:
            return not acquire(file, shared=True, wait=False)
    except OSError:
        return False


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (RECIPE, LOG, LOCK))


def _no_run(folder: Path) -> str:
    if not folder.exists():
        return f"There is no folder {folder}; give the one that --output named."
    if not folder.is_dir():
        return f"{folder} is a file; give the folder of a run, which --output named."
    below = sorted(place.name for place in folder.iterdir() if place.is_dir() and _is_run(place))
    if below:
        return f"There is no run in {folder} itself; give one of those below: {', '.join(below[:8])}."
    return f"There is no run in {folder}; give the folder that --output named."
