"""The folder of a resumable run: a header that identifies the run, and rows that are added one by one.

The folder of an evaluation has its settings, every answer, and the judges' verdicts:

RUN/run.json            suite, model, data, sampling, seed, versions; a run is only resumed with the same.
                        "places": where pictures and projection lay, which may change
RUN/answers*.jsonl      one answer per line, one file per process
RUN/verdicts.jsonl      one verdict per line
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from minigpt4.core.errors import DataError, UsageError
from minigpt4.core.storage.atomic import replacing
from minigpt4.core.storage.locks import acquire
from minigpt4.train.data.remote import is_remote
from minigpt4.train.evaluate.suite import Record, Verdict

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FORMAT = 1
HEADER, VERDICTS, LOCK = "run.json", "verdicts.jsonl", ".lock"
PLACES = "places"

T = TypeVar("T", bound="DataclassInstance")

_WRITTEN: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (Real,),
    "bool": (bool,),
    "float | None": (Real, type(None)),
    "Mapping[str, Any]": (dict,),
    "list[str]": (list,),
    "list[int]": (list,),
}
"""The types that a row's field may have when read, by its annotation."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of a resumable run; `header` is the content of run.json."""

    path: Path
    header: Mapping[str, Any]

    kind: ClassVar[str]
    """The kind of run, as a noun; a run cannot be resumed as another kind."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """An existing run; raises UsageError if there is none."""
        try:
            header = json.loads((path / HEADER).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UsageError(f"'{path}' is no {cls.kind} run: it has no {HEADER}.") from None
        except (OSError, ValueError) as error:
            raise DataError(f"{path / HEADER} cannot be read ({error}).") from error
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise DataError(f"{path / HEADER} is of another version; begin again in a new folder.")
        if header.get("kind") != cls.kind:
            raise UsageError(f"'{path}' is no {cls.kind} run; it is of another kind: {header.get('kind')}.")
        return cls(path, header)

    @classmethod
    def begin(
        cls, path: Path, header: Mapping[str, Any], places: Mapping[str, Sequence[str]] | None = None
    ) -> Self:
        """Begin or resume a run; raises UsageError, naming the first difference, if its header differs.

        `places` tells a report where the pictures ("data") and the projection lie; they may move later.
        """
        now_at = {name: [_lasting(place) for place in some] for name, some in (places or {}).items()}
        header = json.loads(json.dumps({"format": FORMAT, "kind": cls.kind, **header}))
        if (path / HEADER).exists():
            before = cls.open(path)
            was_asked = {name: value for name, value in before.header.items() if name != PLACES}
            for name, was, now in _differences(was_asked, header):
                raise UsageError(
                    f"'{path}' holds answers with another {name}: {_shown(was)}, and now it would be "
                    f"{_shown(now)}; choose another --output, or the same {name.split('.')[0]}."
                )
            kept = before.header.get(PLACES)
        else:
            cls.require_run_or_nothing(path)
            path.mkdir(parents=True, exist_ok=True)
            kept = None
        run = cls(path, {**header, PLACES: now_at or kept or {}})
        if kept is None or run.header[PLACES] != kept:
            with replacing(path / HEADER) as draft:
                draft.write_text(json.dumps(run.header, indent=1) + "\n", encoding="utf-8")
        return run

    @classmethod
    def require_run_or_nothing(cls, path: Path) -> None:
        """Raise UsageError if something other than a run lies there."""
        if (path / HEADER).exists() or not path.exists():
            return
        if not path.is_dir() or any(file.name != LOCK for file in path.iterdir()):
            raise UsageError(f"'{path}' is no {cls.kind} run, and not empty; choose another --output.")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing to the run; raises UsageError if one does already."""
        with (self.path / LOCK).open("wb") as file:
            if not acquire(file, wait=False):
                raise UsageError(
                    f"'{self.path}' is being written by another process; wait until it has ended."
                )
            yield


class EvalRun(RunFolder):
    """An evaluation's folder."""

    kind = "evaluation"

    def records(self) -> list[Record]:
        """All answers in the order of their ids, the last one of each; a truncated row is left out.

        The order does not depend on which process answered when: resampling depends on the pictures' order.
        """
        found: dict[str, Record] = {}
        for file in sorted(self.path.glob("answers*.jsonl")):
            for record in rows(file, Record):
                if record.id not in found or not record.error:
                    found[record.id] = record
        return [found[key] for key in sorted(found)]

    def verdicts(self) -> list[Verdict]:
        """All verdicts in their order, the last one of each judge about each answer."""
        found: dict[tuple[str, str, str, bool], Verdict] = {}
        for one in rows(self.path / VERDICTS, Verdict):
            key = one.judge, one.question, one.id, one.is_negative
            found.pop(key, None)
            if not one.is_withdrawn:
                found[key] = one
        return list(found.values())

    def last_answered(self) -> datetime | None:
        """When the last answer was written; None if there is none."""
        written = [file.stat().st_mtime for file in self.path.glob("answers*.jsonl")]
        return datetime.fromtimestamp(max(written), UTC) if written else None

    @contextmanager
    def answers_file(self, process: int = 0) -> Iterator[RowFile]:
        """Open the file to which a process appends its answers."""
        with RowFile(self.path / (f"answers-{process}.jsonl" if process else "answers.jsonl")) as file:
            yield file

    @contextmanager
    def verdicts_file(self) -> Iterator[RowFile]:
        """Open the file to which verdicts are appended."""
        with RowFile(self.path / VERDICTS) as file:
            yield file


class RowFile:
    """An append-only JSONL file; a row that was truncated by a kill is removed when it is opened."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab+", buffering=0)
        self._file.seek(0)
        content = self._file.read()
        self._file.truncate(content.rfind(b"\n") + 1)

    def add(self, row: DataclassInstance) -> None:
        """Write a row, safe from a kill when this returns; raises OSError without leaving a partial row."""
        size = os.fstat(self._file.fileno()).st_size
        rest = memoryview(row_line(asdict(row)))
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except BaseException:
            self._file.truncate(size)
            raise

    def __enter__(self) -> RowFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def row_line(row: Mapping[str, Any]) -> bytes:
    """A line of a JSONL file; file names that are not UTF-8 are preserved."""
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def rows(path: Path, kind: type[T]) -> Iterator[T]:
    """The rows of a file; raises DataError for a damaged row, except a truncated last one."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    names = {one.name for one in fields(kind)}
    *lines, _ = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            yield _checked(kind(**{name: value for name, value in row.items() if name in names}))
        except (ValueError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path}, line {number}, is damaged; remove that line, and resume the run."
            ) from error


def places_in(header: Mapping[str, Any], name: str) -> list[str]:
    """Where a run's pictures ("data") or projection lay, according to its header; empty if unknown."""
    places = header.get(PLACES)
    found = places.get(name) if isinstance(places, dict) else None
    return [str(place) for place in found] if isinstance(found, list) else []


def short_places(header: Mapping[str, Any], name: str) -> list[str]:
    """The last two path parts of each of these places, which identify it on any machine."""
    return ["/".join(Path(place).parts[-2:]) for place in places_in(header, name)]


def _lasting(place: str) -> str:
    """The place as an address or absolute path, valid in any working directory."""
    return place if is_remote(place) else str(Path(place).expanduser().absolute())


def _checked(row: T) -> T:
    """The row; raises TypeError if a field has another type than it was written with."""
    for one in fields(row):
        value, kind = getattr(row, one.name), _WRITTEN[str(one.type)]
        if not isinstance(value, kind):
            raise TypeError(f"{one.name} is {value!r}")
    return row


def _differences(was: Any, now: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(was, dict) and isinstance(now, dict):
        for key in {**was, **now}:
            yield from _differences(was.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif was != now:
        yield name, was, now


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
