"""What an evaluation asks about: pictures, with what is known about each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from minigpt4.core.pixels import MAX_FILE_BYTES
from minigpt4.core.storage.regular_file import read_regular_file
from minigpt4.train.data.dataset import PhotoError
from minigpt4.train.data.files import reason_of

Need = Literal["captions", "objects", "questions"]
"""What a suite needs to know of a picture: its captions, its objects, or questions with their answers."""


@dataclass(frozen=True)
class Object:
    """One object in a picture: its label, and its box as fractions (left, top, right, bottom), if known."""

    label: str
    box: tuple[float, float, float, float] | None = None
    is_crowd: bool = False
    """Whether it stands for a group of uncounted objects (COCO's `iscrowd`)."""


@dataclass(frozen=True)
class Question:
    """A question about a picture, human answers to it, and its choices, if any."""

    id: str
    text: str
    answers: tuple[str, ...]
    choices: tuple[str, ...] = ()
    right_choice: str = ""
    """The correct choice."""

    kind: str = ""
    """GQA's kind: "binary" for yes/no and for a choice of two that the question names, else "open"."""


@dataclass(frozen=True, eq=False)
class EvalPhoto:
    """A picture and what is known about it. `set` is its folder, list or shard."""

    key: str
    set: str
    read: Callable[[], bytes]
    """The encoded image; raises PhotoError."""

    captions: tuple[str, ...] = ()
    objects: tuple[Object, ...] = ()
    questions: tuple[Question, ...] = ()


def file_reader(path: Path, name: str, key: str) -> Callable[[], bytes]:
    """A function that reads the file of the picture `key` of the set `name`."""

    def read() -> bytes:
        try:
            return read_regular_file(path)[: MAX_FILE_BYTES + 1]
        except OSError as error:
            raise PhotoError(name, key, f"the file cannot be read ({reason_of(error)})") from error

    return read
