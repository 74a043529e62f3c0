"""`minigpt4 eval report`: what is printed and written, whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from minigpt4.train.evaluate.run_folder import EvalRun
from minigpt4.train.evaluate.suite import Record

Report = Callable[..., tuple[int, str, str]]


@pytest.fixture
def report(run: Report) -> Report:
    return partial(run, "report")


def a_run(folder: Path, *answers: str) -> Path:
    header = {"suite": "subjects", "model": {"bundle": "mini"}, "data": {"questions": 3}}
    run = EvalRun.begin(folder, header, {"data": [str(folder.parent / "gone")]})
    with run.answers_file() as file:
        for name, answer in enumerate(answers):
            truth = {"captions": ["A cat on a sofa."]}
            file.add(Record(str(name), str(name), "photos", str(name), "What?", answer, truth=truth))
    return folder


def test_scores_go_to_stdout_and_notes_to_stderr(report: Report, tmp_path: Path) -> None:
    runs = a_run(tmp_path / "one", "A cat.", "A dog."), a_run(tmp_path / "two", "A cat.", "A cat.", "A cat.")
    code, out, err = report(*runs)
    assert code == 0
    assert [line.split("  ")[0] for line in out.splitlines()] == [
        "score",
        "answers",
        "subject rate",
        "mean length (words)",
    ]
    assert "2 of 3, incomplete" in out and "p = 1.000" in out
    assert "'one' is incomplete: 2 of 3" in err and "compared on the 2 questions" in err
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()
    os.utime(runs[0] / "answers.jsonl", (noon, noon))
    code, out, _ = report(*runs, "--json")
    (suite,) = json.loads(out)["suites"]
    assert [run["answers"] for run in suite["runs"]] == [2, 3]
    first = suite["runs"][0]
    assert (first["pictures"], first["data"]) == (2, [f"{tmp_path.name}/gone"])
    assert first["date"] == "2026-01-31", "of the last answer"


def test_files_are_written_beside_and_missing_pictures_named(report: Report, tmp_path: Path) -> None:
    run = a_run(tmp_path / "one", "A cat.", "A dog.", "<script>alert(1)</script>")
    code, out, err = report(run, "--html", tmp_path / "r.html", "--markdown", tmp_path / "r.md")
    assert code == 0 and out
    assert "3 pictures not found, the first: 0; name with --data where they are." in err
    assert "| subject rate |" in (tmp_path / "r.md").read_text()
    page = (tmp_path / "r.html").read_text()
    assert "&lt;script&gt;alert(1)" in page and "<script>alert" not in page
    assert {file.name for file in tmp_path.iterdir()} == {"one", "r.html", "r.md"}


def test_nothing_is_written_if_the_pictures_place_is_wrong(report: Report, tmp_path: Path) -> None:
    run = a_run(tmp_path / "one", "A cat.")
    (tmp_path / "r.html").write_text("before")
    code, out, err = report(run, "--html", tmp_path / "r.html", "--data", tmp_path / "nowhere")
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert (tmp_path / "r.html").read_text() == "before"
