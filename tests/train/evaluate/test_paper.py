"""The paper's figures stand beside the scores that they are of, and in one place."""

from __future__ import annotations

import pytest

from minigpt4.train.ablations.plan import paper_tables
from minigpt4.train.evaluate.paper import paper_figure, paper_figures
from minigpt4.train.evaluate.suites import suite_named


def test_no_figure_is_listed_twice_and_each_is_of_a_suite() -> None:
    places = [(one.suite, one.score) for one in paper_figures()]
    assert len(set(places)) == len(places)
    assert {suite_named(suite).name for suite, _ in places} == {suite for suite, _ in places}


def test_the_four_tasks_make_up_the_whole() -> None:
    of_task = [one for one in paper_figures() if one.suite == "tasks" and one.score != "successful"]
    (whole,) = (one for one in paper_figures() if (one.suite, one.score) == ("tasks", "successful"))
    assert sum(one.minigpt4 for one in of_task) / len(of_task) == pytest.approx(whole.minigpt4)
    assert sum(one.blip2 or 0 for one in of_task) / len(of_task) == pytest.approx(whole.blip2)


def test_a_score_that_the_paper_lacks_has_no_figure() -> None:
    assert paper_figure("chair", "own: CHAIRi") is None


def test_the_ablations_name_the_same_figures_of_the_whole_model() -> None:
    rows = {row.name: row.paper for row in paper_tables().row}
    whole, before = rows["with stage 2"], rows["without stage 2"]
    failures = {one.score: one for one in paper_figures() if one.suite == "failures"}
    for score, name in (("detail: failed", "failed details of 100"), ("poem: failed", "failed poems of 100")):
        assert whole[name] == 100 * failures[score].minigpt4
        assert before[name] == 100 * (failures[score].before_stage_2 or 0)
    questions = {name: paper_figure("vqa", name) or 0 for name in ("A-OKVQA, multiple choice", "GQA")}
    assert [100 * value for value in questions.values()] == pytest.approx(list(rows["single layer"].values()))
    covered = paper_figure("coverage", "captions covered, of 5")
    assert list(rows["100 % of stage 1"].values()) == [covered]
