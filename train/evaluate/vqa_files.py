"""Pictures with questions, in the files of A-OKVQA and GQA; the pictures' folder is beside the file.

A-OKVQA (aokvqa_v1p0_val.json, Schwenk et al. 2022, arXiv 2206.01718), pictures named as COCO's:
    [{"image_id": 299207, "question_id", "question", "choices": [4], "correct_choice_idx",
      "direct_answers": [10], "difficult_direct_answer"}]
GQA (val_balanced_questions.json, Hudson and Manning 2019, arXiv 1902.09506):
    {"QUESTION_ID": {"imageId": "2405722", "question", "answer", "isBalanced", "types": {"structural"}}}
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from minigpt4.core.errors import DataError
from minigpt4.core.storage.regular_file import read_regular_file
from minigpt4.train.data.coco import photo_folder
from minigpt4.train.evaluate.photos import EvalPhoto, Question, file_reader
from minigpt4.train.events import PhotoSkipped, Report

FILES = ("aokvqa*.json", "*questions*.json")
NO_PICTURE = "it has questions, but there is no such picture"

Read = tuple[str, Question]
"""The picture's file and a question about it."""


def photos_with_questions(place: str, report: Report) -> Iterator[EvalPhoto]:
    """The pictures with questions in a file, or in the only such file of a folder.

    Unreadable questions and missing pictures go to `report`. Raises DataError if there are no questions.
    """
    path = _file(Path(place).expanduser())
    questions: dict[str, list[Question]] = {}
    ids = set()
    for name, row in _rows(path):
        if isinstance(row, dict) and row.get("isBalanced") is False:
            report(
                PhotoSkipped(
                    path.name, str(name), "not balanced, and GQA's accuracy is of balanced questions"
                )
            )
            continue
        try:
            file, question = (_aokvqa if isinstance(name, int) else _gqa)(str(name), row)
        except (KeyError, TypeError, ValueError, IndexError):
            report(PhotoSkipped(path.name, f"entry {name}", "a question that cannot be read"))
            continue
        if question.id in ids:
            report(PhotoSkipped(path.name, question.id, "a second question of this id"))
            continue
        ids.add(question.id)
        questions.setdefault(file, []).append(question)
    if not questions:
        raise DataError(f"{path} holds no question of A-OKVQA or GQA.")
    folder = photo_folder(path, list(questions))
    for file, asked in questions.items():
        if (folder / file).is_file():
            reader: Callable[[], bytes] = file_reader(folder / file, folder.name, file)
            yield EvalPhoto(file, folder.name, reader, questions=tuple(asked))
        else:
            report(PhotoSkipped(path.name, file, NO_PICTURE))


def _file(path: Path) -> Path:
    if path.suffix.lower() == ".json":
        return path
    found = sorted({one for pattern in FILES for one in path.glob(pattern)}) if path.is_dir() else []
    if not found:
        raise DataError(
            f"{path} holds no questions; give A-OKVQA's or GQA's JSON file, with its pictures' folder beside."
        )
    if len(found) > 1:
        raise DataError(f"{path} holds several files of questions; name the one to use, such as {found[0]}.")
    return found[0]


def _rows(path: Path) -> Iterator[tuple[int | str, Any]]:
    """A-OKVQA's questions by number, or GQA's by id."""
    try:
        content = json.loads(read_regular_file(path))
    except OSError as error:
        raise DataError(f"The questions {path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"The questions {path} are not valid JSON ({error}); fetch the file again."
        ) from error
    if isinstance(content, list):
        yield from enumerate(content, start=1)
    elif isinstance(content, dict):
        yield from content.items()


def _aokvqa(_name: str, row: Mapping[str, Any]) -> Read:
    """Direct answers that the data set calls difficult do not count, as in its own evaluation."""
    choices = _texts(row["choices"])
    right = choices[row["correct_choice_idx"]]
    answers = () if row.get("difficult_direct_answer") else _texts(row["direct_answers"])
    question = Question(_text(row["question_id"]), _text(row["question"]), answers, choices, right)
    return f"{int(row['image_id']):012}.jpg", question


def _gqa(name: str, row: Mapping[str, Any]) -> Read:
    is_open = row.get("types", {}).get("structural", "query") == "query"
    kind = "open" if is_open else "binary"
    return f"{row['imageId']}.jpg", Question(name, _text(row["question"]), (_text(row["answer"]),), kind=kind)


def _texts(rows: Sequence[object]) -> tuple[str, ...]:
    if not isinstance(rows, list) or not rows:
        raise ValueError
    return tuple(map(_text, rows))


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value
