"""Reports of runs: tables, notes, what is compared with what, and pictures found again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minigpt4.core.errors import DataError, UsageError
from minigpt4.train.evaluate.report.pictures import find_pictures
from minigpt4.train.evaluate.report.report import Report, as_record
from minigpt4.train.evaluate.report.reported_run import open_runs
from minigpt4.train.evaluate.report.tables import as_markdown, as_text, score_table
from minigpt4.train.evaluate.run_folder import EvalRun
from minigpt4.train.evaluate.suite import Record, Verdict

GOOD = "A cat sleeps on a sofa."
BAD = "A dog runs in the grass."
NAMES = [f"{place}.png" for place in range(6)]


MakeRun = Callable[..., Path]


def answers(good: int, names: list[str] = NAMES) -> dict[str, str]:
    return {name: GOOD if place < good else BAD for place, name in enumerate(names)}


def test_two_runs_stand_beside_each_other_with_their_difference(tmp_path: Path, a_run: MakeRun) -> None:
    report = Report(open_runs([a_run(tmp_path / "a", answers(1)), a_run(tmp_path / "b", answers(6))]))
    (suite,) = report.suites
    table = score_table(suite)
    assert table.head == ["score", "a", "b", "b minus a"], "named by folder: the bundle is the same"
    rate = next(row for row in table.rows if row[0] == "subject rate")
    assert rate[1].startswith("0.167 (") and rate[2].startswith("1.000 (")
    assert rate[3].startswith("+0.833 (") and rate[3].endswith("p = 0.062")
    assert as_text(table).splitlines()[0].split() == ["score", "a", "b", "b", "minus", "a"]
    (record,) = as_record(report)["suites"]
    (pair,) = record["differences"]
    by_name = {score["name"]: score for score in pair["scores"]}
    assert by_name["subject rate"]["mcnemar_p"] == pytest.approx(2 / 32)
    assert (pair["questions"], pair["pictures"]) == (6, 6)
    json.dumps(record, allow_nan=False)


def test_runs_are_named_by_their_bundles_where_these_differ(tmp_path: Path, a_run: MakeRun) -> None:
    runs = [a_run(tmp_path / name, answers(2), bundle=name + "-bundle") for name in "ab"]
    assert [run.name for run in open_runs(runs)] == ["a-bundle", "b-bundle"]


def test_a_run_against_itself_has_no_difference(tmp_path: Path, a_run: MakeRun) -> None:
    folder = a_run(tmp_path / "a", answers(3))
    (suite,) = Report(open_runs([folder, folder])).suites
    for one in suite.comparisons[0].differences.values():
        assert one.value == 0
        assert one.p_value in (None, 1)


def test_only_the_same_pictures_are_compared_and_their_number_is_said(tmp_path: Path, a_run: MakeRun) -> None:
    others = [*NAMES[:2], "x.png", "y.png"]
    runs = [a_run(tmp_path / "a", answers(2)), a_run(tmp_path / "b", answers(2, others))]
    (suite,) = Report(open_runs(runs)).suites
    (note,) = suite.notes
    assert "compared on the 2 questions about 2 pictures that both answered" in note
    renamed = dict(zip(reversed(NAMES), answers(2).values(), strict=True))
    (suite,) = Report(open_runs([runs[0], a_run(tmp_path / "c", renamed)])).suites
    (note,) = suite.notes
    assert "no question about the same picture in common" in note, "names alone are not pictures"
    assert len(score_table(suite).head) == 3


def test_suites_have_tables_of_their_own_which_is_said(tmp_path: Path, a_run: MakeRun) -> None:
    runs = [a_run(tmp_path / name, answers(2), suite=name) for name in ("subjects", "captions", "fluency")]
    report = Report(open_runs(runs))
    assert [suite.name for suite in report.suites] == ["subjects", "captions", "fluency"]
    (note,) = report.notes
    assert "different suites (subjects, captions, fluency)" in note


def test_an_incomplete_run_is_marked(tmp_path: Path, a_run: MakeRun) -> None:
    run = a_run(tmp_path / "a", {**answers(2), "last.png": ""}, questions=10)
    (suite,) = Report(open_runs([run])).suites
    assert score_table(suite).rows[0][1] == "6 of 10, incomplete"
    (note,) = suite.notes
    assert "6 of 10" in note and "3 not asked yet" in note and "The picture cannot be read)." in note


def test_a_judge_who_accepts_anything_is_exposed(tmp_path: Path, a_run: MakeRun) -> None:
    said = [
        *(Verdict(name, "a judge", "q", 1, "yes", is_negative=True) for name in NAMES[:3]),
        Verdict(NAMES[0], "a judge", "q", None, "perhaps"),
    ]
    (suite,) = Report(open_runs([a_run(tmp_path / "a", answers(2), verdicts=said)])).suites
    unclear, accepted = suite.notes
    assert unclear.startswith("1 of 4 verdicts of 'a judge'")
    assert "accepted 3 of 3 answers about other pictures" in accepted and "say little" in accepted


def test_judges_of_a_run_are_compared_by_kappa(tmp_path: Path, a_run: MakeRun) -> None:
    # both yes 7, both no 2, only the first yes 1: agreed 0.9, by chance 0.8 * 0.7 + 0.2 * 0.3 = 0.62
    ten = [f"{place}.png" for place in range(10)]
    said = [
        *(Verdict(name, "ann", "q", float(n < 8), "") for n, name in enumerate(ten)),
        *(Verdict(name, "gpt", "q", float(n < 7), "") for n, name in enumerate(ten)),
        *(Verdict(name, "gpt", "q", 0.0, "", is_negative=True) for name in ten[:2]),
    ]
    report = Report(open_runs([a_run(tmp_path / "a", answers(2, ten), verdicts=said)]))
    assert report.suites[0].notes == [
        f"Judges of '{report.runs[0].name}': ann and gpt: Cohen's kappa 0.737 over 10 answers (q)."
    ]
    (pair,) = as_record(report)["suites"][0]["runs"][0]["agreements"]
    assert pair["judges"] == ("ann", "gpt") and pair["kappa"] == pytest.approx((0.9 - 0.62) / (1 - 0.62))


def test_shares_of_several_questions_a_picture_are_compared_question_by_question(tmp_path: Path) -> None:
    right = {"first": "yyyyyyyynn", "second": "yynnnnnnny"}
    for name, hits in right.items():
        header = {"suite": "presence", "model": {"bundle": name}, "data": {"questions": 10}}
        with EvalRun.begin(tmp_path / name, header).answers_file() as file:
            for n, hit in enumerate(hits):
                truth = {"is_there": True, "negatives": ["random"]}
                words = "Yes." if hit == "y" else "No."
                file.add(Record(f"{n}", f"{n // 5}.jpg", "s", f"{n // 5}", "Is it?", words, truth=truth))
    (suite,) = Report(open_runs([tmp_path / name for name in right])).suites
    accuracy = suite.comparisons[0].differences["all: accuracy"]
    assert accuracy.value == pytest.approx(-0.5)
    # only the first is right 6 times, only the second once: 2 * (1 + 7) / 2 ** 7
    assert accuracy.p_value == pytest.approx(0.125)
    assert suite.comparisons[0].differences["all: F1"].p_value is None


def test_markdown_keeps_hostile_names_in_their_cells(tmp_path: Path, a_run: MakeRun) -> None:
    names = ["a|b <script>", "c\x1b[31m[x](http://y)\nd"]
    runs = [a_run(tmp_path / str(n), answers(2), bundle=name) for n, name in enumerate(names)]
    text = as_markdown(Report(open_runs(runs)))
    assert "a\\|b \\<script\\>" in text
    assert "c?\\[31m\\[x\\](http://y) d" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in tables} == {4, 5}


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ('{"format": 99}', "of another version"),
        ("{", "cannot be read"),
        ('{"format": 1, "kind": "evaluation", "suite": "captions"}', "is damaged"),
        (
            '{"format": 1, "kind": "evaluation", "suite": "songs", "model": {}, "data": {"questions": 1}}',
            "suite 'songs'",
        ),
        (
            '{"format": 1, "kind": "evaluation", "suite": "captions", "model": {}, "data": {"questions": 1}}',
            "no answer yet",
        ),
    ],
)
def test_a_run_that_cannot_be_reported_is_one_sentence(tmp_path: Path, header: str, sentence: str) -> None:
    (tmp_path / "run.json").write_text(header)
    with pytest.raises(DataError, match=sentence):
        open_runs([tmp_path])


def test_no_run_and_answers_of_another_suite_are_one_sentence(tmp_path: Path, a_run: MakeRun) -> None:
    with pytest.raises(UsageError, match="is no evaluation run"):
        open_runs([tmp_path])
    folder = a_run(tmp_path / "a", answers(1))
    rows = (folder / "answers.jsonl").read_text().replace('"captions"', '"other"')
    (folder / "answers.jsonl").write_text(rows)
    with pytest.raises(DataError, match="lack what the suite subjects scores"):
        score_table(Report(open_runs([folder])).suites[0])


def test_pictures_are_found_where_the_run_remembers_them_or_where_they_are_now(
    tmp_path: Path, a_run: MakeRun, photos_in: Callable[..., Path], a_photo: Callable[[int], bytes]
) -> None:
    photos = photos_in(tmp_path / "photos", NAMES)
    runs = open_runs([a_run(tmp_path / "a", answers(2), data=[str(photos)])])
    found = find_pictures(runs, [])
    assert len(found.jpegs) == 6 and found.missing == [] and found.unreadable == []
    assert max(map(len, found.jpegs.values())) < 30_000
    (photos / NAMES[0]).write_bytes(a_photo(5))
    found = find_pictures(runs, [])
    assert found.missing == [NAMES[0]], "another picture under that name is not the one"
    assert hashlib.sha256(a_photo(1)).hexdigest() in found.jpegs
    photos.rename(tmp_path / "moved")
    found = find_pictures(runs, [])
    assert len(found.missing) == 6 and len(found.unreadable) == 1
    assert len(find_pictures(runs, [str(tmp_path / "moved")]).jpegs) == 5
    with pytest.raises(DataError):
        find_pictures(runs, [str(tmp_path / "nowhere")])


@pytest.mark.parametrize(
    ("suite", "truth", "said", "marks"),
    [
        (
            "presence",
            {"object": "cat", "is_there": True, "negatives": ["random", "popular", "adversarial"]},
            {"a.png": "Yes, there is.", "b.png": "No, there is not."},
            [("all: accuracy", False), ("all: accuracy", True)],
        ),
        (
            "counting",
            {"object": "cat", "number": 2},
            {"a.png": "There are two cats.", "b.png": "There are three cats."},
            [("exact", False), ("within one", False), ("exact", True), ("within one", False)],
        ),
    ],
)
def test_an_answer_among_several_about_a_picture_is_marked_alone(
    tmp_path: Path,
    a_run: MakeRun,
    suite: str,
    truth: dict[str, Any],
    said: dict[str, str],
    marks: list[tuple[str, bool]],
) -> None:
    (run,) = open_runs([a_run(tmp_path / "a", said, suite=suite, truth=truth)])
    assert [(mark.name, mark.is_wrong) for some in run.marks.values() for mark in some] == marks
