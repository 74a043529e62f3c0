"""A run's folder: where its pictures lay, and rows that are not what was written."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from minigpt4.core.errors import DataError, UsageError
from minigpt4.train.evaluate.run_folder import EvalRun
from minigpt4.train.evaluate.suite import Record

HEADER = {"suite": "captions", "model": {"bundle": "mini"}}
RECORD = Record(
    "cat", "cat", "photos", "0" * 64, "What is this?", "A cat.", 3, truth={"captions": ["A cat."]}
)


def places_in(run: Path) -> Any:
    return json.loads((run / "run.json").read_text())["places"]


def test_a_run_remembers_where_its_pictures_lay_and_resumes_when_they_have_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    EvalRun.begin(tmp_path / "run", HEADER, {"data": ["s.tar", "https://example.org/a.tar"]})
    was = {"data": [str(tmp_path / "s.tar"), "https://example.org/a.tar"]}
    assert places_in(tmp_path / "run") == was
    EvalRun.begin(tmp_path / "run", HEADER)
    assert places_in(tmp_path / "run") == was, "kept by those who do not know them"
    EvalRun.begin(tmp_path / "run", HEADER, {"data": ["moved/s.tar"]})
    assert places_in(tmp_path / "run")["data"] == [str(tmp_path / "moved" / "s.tar")]
    with pytest.raises(UsageError, match="another suite"):
        EvalRun.begin(tmp_path / "run", HEADER | {"suite": "fluency"})


def test_a_folder_that_was_emptied_but_for_its_hidden_lock_begins_anew(tmp_path: Path) -> None:
    run = EvalRun.begin(tmp_path / "run", HEADER)
    with run.locked():
        pass
    (tmp_path / "run" / "run.json").unlink()
    EvalRun.begin(tmp_path / "run", HEADER | {"suite": "fluency"})
    (tmp_path / "run" / "run.json").rename(tmp_path / "run" / "notes.json")
    with pytest.raises(UsageError, match="not empty"):
        EvalRun.begin(tmp_path / "run", HEADER)


@pytest.mark.parametrize("field", ["id", "answer", "truth", "tokens"])
def test_a_field_of_another_type_is_damage(tmp_path: Path, field: str) -> None:
    run = EvalRun.begin(tmp_path / "run", HEADER)
    with run.answers_file() as file:
        file.add(RECORD)
    with (run.path / "answers.jsonl").open("a") as rows:
        rows.write(json.dumps({**asdict(RECORD), field: None}) + "\n")
    with pytest.raises(DataError, match=r"answers\.jsonl, line 2, is damaged"):
        run.records()
