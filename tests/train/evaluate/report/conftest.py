"""Runs as `minigpt4 eval` writes them, made without a model."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from minigpt4.train.evaluate.run_folder import EvalRun
from minigpt4.train.evaluate.suite import Record, Verdict

CAPTIONED: Mapping[str, Any] = {"captions": ["A cat on a sofa."]}


def draw_photo(place: int) -> bytes:
    """A picture of its own color."""
    file = io.BytesIO()
    Image.new("RGB", (640, 400), (place * 40 % 256, 90, 140)).save(file, "PNG")
    return file.getvalue()


def save_photos(folder: Path, names: Sequence[str]) -> Path:
    """A folder of pictures with a caption each."""
    folder.mkdir()
    for place, name in enumerate(names):
        (folder / name).write_bytes(draw_photo(place))
        (folder / name).with_suffix(".txt").write_text("A cat on a sofa.")
    return folder


def write_run(
    folder: Path,
    answers: Mapping[str, str],
    *,
    suite: str = "subjects",
    verdicts: Sequence[Verdict] = (),
    data: Sequence[str] = (),
    questions: int | None = None,
    bundle: str = "mini",
    truth: Mapping[str, Any] = CAPTIONED,
) -> Path:
    """A run whose answers about pictures, by name, are these; an empty one failed."""
    header: dict[str, Any] = {
        "suite": suite,
        "model": {"bundle": bundle},
        "data": {"questions": len(answers) if questions is None else questions},
    }
    run = EvalRun.begin(folder, header, {"data": data} if data else None)
    with run.answers_file() as file, run.verdicts_file() as verdict_file:
        for place, (name, answer) in enumerate(answers.items()):
            digest = hashlib.sha256(draw_photo(place)).hexdigest()
            error = "" if answer else "The picture cannot be read."
            file.add(Record(name, name, "photos", digest, "What?", answer, 5, truth=truth, error=error))
        for verdict in verdicts:
            verdict_file.add(verdict)
    return folder


@pytest.fixture
def a_photo() -> Callable[[int], bytes]:
    """Draws a picture of its own color."""
    return draw_photo


@pytest.fixture
def photos_in() -> Callable[[Path, Sequence[str]], Path]:
    """Fills a folder with pictures that have a caption each."""
    return save_photos


@pytest.fixture
def a_run() -> Callable[..., Path]:
    """Writes a run of answers by the names of their pictures; an empty answer is one that failed."""
    return write_run
