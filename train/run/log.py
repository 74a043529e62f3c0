"""Reading a run's folder, during training or long after.

`RunTail` reads what was added to the log since the last call (in its own thread, if a screen is
waiting); `RunLog` collects the events as curves over the steps. Needs no torch and writes nothing.
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
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from minigpt4.core.errors import UsageError
from minigpt4.core.storage.locks import acquire
from minigpt4.core.storage.regular_file import read_regular_file
from minigpt4.core.weights.run_projection import RECIPE
from minigpt4.train.events import Answer, AnswersSampled, Note, PhotoSkipped, StepDone, Validated
from minigpt4.train.run.folder import LOCK, LOG, RunFolder, require_file_of_run

LogEvent = StepDone | Validated | AnswersSampled | PhotoSkipped | Note
RunState = Literal["preparing", "running", "stopped", "finished"]
"""`preparing`: a process has locked the folder but not finished a step yet."""

SAMPLES = "samples"
LONGEST_NAME = 180
"""Most characters of a file name; most file systems allow 255 bytes."""

RECENT = 50
"""The newest figure is a mean over this many steps: single steps vary by a tenth."""

MOST_STEPS = 2**53
"""Larger numbers are not exact in a float; only a damaged log has them."""


def sample_picture(run: Path, key: str) -> Path:
    """The file of the photo `key` of the sample answers, for any characters in the key."""
    name = quote(key, safe="")
    if len(name) > LONGEST_NAME:
        name = f"{name[:LONGEST_NAME]}-{hashlib.sha256(key.encode('utf-8', 'replace')).hexdigest()[:16]}"
    return run / SAMPLES / f"{name}.jpg"


class Curve:
    """Finite values by step, with prefix sums, so that a mean over any range takes constant time."""

    def __init__(self) -> None:
        self._steps = array("q")
        self._values = array("d")
        self._sums = array("d", [0.0])

    def __len__(self) -> int:
        return len(self._steps)

    @property
    def first(self) -> int:
        """The first step, 0 if there is none."""
        return self._steps[0] if self._steps else 0

    @property
    def last(self) -> int:
        """The last step, 0 if there is none."""
        return self._steps[-1] if self._steps else 0

    def add(self, step: int, value: float) -> None:
        """Add a value; an earlier step replaces all values from there on. NaN and infinity are ignored."""
        if self._steps and step <= self._steps[-1]:
            place = bisect_left(self._steps, step)
            del self._steps[place:], self._values[place:], self._sums[place + 1 :]
        if math.isfinite(value):
            self._steps.append(step)
            self._values.append(value)
            self._sums.append(self._sums[-1] + value)

    def mean(self, first: float, last: float) -> float | None:
        """The mean of the values of steps `first` to `last`, inclusive; None if there is none."""
        begin, end = self._between(first, last)
        return (self._sums[end] - self._sums[begin]) / (end - begin) if end > begin else None

    def extent(self, first: float, last: float) -> tuple[float, float] | None:
        """The smallest and the largest value of steps `first` to `last`; None if there is none."""
        begin, end = self._between(first, last)
        values = self._values[begin:end]
        return (min(values), max(values)) if values else None

    def points(self, first: float, last: float) -> list[tuple[int, float]]:
        """The (step, value) pairs of steps `first` to `last`."""
        begin, end = self._between(first, last)
        return list(zip(self._steps[begin:end], self._values[begin:end], strict=True))

    def upto(self, step: float) -> tuple[int, float] | None:
        """The newest (step, value) pair up to `step`; None if there is none."""
        place = bisect_right(self._steps, step)
        return (self._steps[place - 1], self._values[place - 1]) if place else None

    def recent(self, count: int) -> float | None:
        """The mean of the last `count` values; None if there is none."""
        values = self._values[-count:]
        return math.fsum(values) / len(values) if values else None

    def _between(self, first: float, last: float) -> tuple[int, int]:
        return bisect_left(self._steps, first), bisect_right(self._steps, last)


@dataclass(frozen=True)
class RecipeSummary:
    """The displayed keys of a run's recipe; 0 or empty if unknown."""

    stage: int = 0
    bundle: str = ""
    steps: int = 0
    batch_size: int = 0


@dataclass(frozen=True)
class LogUpdate:
    """What is new in a run's folder since it was last read."""

    state: RunState
    summary: RecipeSummary
    written_at: float | None
    """When the log was last written to (seconds since 1970); None if there is no log."""

    events: tuple[LogEvent, ...]
    restarted: bool
    """Whether the log was rewritten: a resumed run removes the rows after its checkpoint."""


class RunTail:
    """Reads what is new in a run's folder, at every call."""

    def __init__(self, folder: Path) -> None:
        """Raises UsageError if there is no run in the folder, and no process preparing one."""
        if not _is_run(folder):
            raise UsageError(_no_run(folder))
        for name in (LOCK, LOG):
            require_file_of_run(folder / name)
        self.folder = folder
        self._file: tuple[int, int] | None = None
        self._read = 0

    def poll(self) -> LogUpdate:
        """Read what was added. Never raises: a deleted folder counts as a stopped run."""
        events: tuple[LogEvent, ...] = ()
        restarted, written_at = False, None
        try:
            with (self.folder / LOG).open("rb") as file:
                status = os.fstat(file.fileno())
                written_at = status.st_mtime
                restarted = self._file != (status.st_dev, status.st_ino) or status.st_size < self._read
                if restarted:
                    self._file, self._read = (status.st_dev, status.st_ino), 0
                file.seek(self._read)
                added = file.read()
        except OSError:
            added = b""
        # An incomplete line is read again once it is complete.
        whole = added[: added.rfind(b"\n") + 1]
        self._read += len(whole)
        events = tuple(event for line in whole.splitlines() if (event := _event_of(line)) is not None)
        summary = _summary(self.folder / RECIPE)
        return LogUpdate(self._state(has_log=self._read > 0), summary, written_at, events, restarted)

    def _state(self, *, has_log: bool) -> RunState:
        if _is_locked(self.folder / LOCK):
            return "running" if has_log else "preparing"
        return "finished" if RunFolder(self.folder).result.is_file() else "stopped"


@dataclass
class RunLog:
    """Everything that a run has logged so far."""

    folder: Path
    state: RunState = "stopped"
    summary: RecipeSummary = RecipeSummary()
    written_at: float | None = None
    last: StepDone | None = None
    loss: Curve = field(default_factory=Curve)
    val_loss: Curve = field(default_factory=Curve)
    lr: Curve = field(default_factory=Curve)
    grad_norm: Curve = field(default_factory=Curve)
    samples_per_s: Curve = field(default_factory=Curve)
    sampled: list[AnswersSampled] = field(default_factory=list)
    skipped: int = 0
    """Photos that were skipped."""

    note: str = ""
    """The newest note."""

    @property
    def step(self) -> int:
        """The last finished step."""
        return self.last.step if self.last is not None else 0

    @property
    def seconds_left(self) -> float | None:
        """The estimated time left at the speed of the last steps; None if unknown."""
        speed = self.samples_per_s.recent(RECENT)
        photos = (self.summary.steps - self.step) * self.summary.batch_size
        return photos / speed if speed and photos > 0 and self.state == "running" else None

    def update(self, update: LogUpdate) -> None:
        """Add an update."""
        if update.restarted:
            vars(self).update(vars(RunLog(self.folder)))
        self.state, self.summary, self.written_at = update.state, update.summary, update.written_at
        for event in update.events:
            self._add(event)

    def answers_at(self, step: float) -> AnswersSampled | None:
        """The newest answers up to a step."""
        return next((one for one in reversed(self.sampled) if one.step <= step), None)

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
            case AnswersSampled():
                self.sampled = [one for one in self.sampled if one.step < event.step] + [event]
            case PhotoSkipped():
                self.skipped += 1
            case Note():
                self.note = event.sentence


def _event_of(line: bytes) -> LogEvent | None:
    """The event of a line of the log; None if it is another kind of line, or damaged."""
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
        return AnswersSampled(_step(row), tuple(answers))
    if "reason" in row:
        return PhotoSkipped(str(row["source"]), str(row["key"]), str(row["reason"]))
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
        raise ValueError(f"the step {step} is out of range")
    return step


def _summary(recipe: Path) -> RecipeSummary:
    """Read leniently: runs of other versions, whose recipes have other keys, can be watched as well."""
    try:
        values = tomllib.loads(read_regular_file(recipe).decode("utf-8"))
    except (OSError, ValueError):
        return RecipeSummary()
    known = {entry.name: type(entry.default) for entry in fields(RecipeSummary)}
    return RecipeSummary(**{key: values[key] for key in known if type(values.get(key)) is known[key]})


def _is_locked(lock: Path) -> bool:
    """Whether a training process has locked the folder.

    Tested with a shared lock held for microseconds, so that watching processes do not block each other.
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
