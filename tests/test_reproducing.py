"""The pages of measurements are what docs/runs makes them, and nothing in them is typed by hand."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from minigpt4.train.evaluate.paper import paper_figures

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
CARD = ROOT / "core" / "bundles" / "MINI.md"


@pytest.fixture(scope="module")
def docs() -> Iterator[tuple[ModuleType, ModuleType]]:
    """The modules `measured` and `reproducing`, which lie beside the pages."""
    sys.path.insert(0, str(DOCS))
    yield importlib.import_module("measured"), importlib.import_module("reproducing")
    sys.path.remove(str(DOCS))


def a_run(suite: str, *scores: dict[str, Any]) -> str:
    run = {
        "model": {"bundle": "mini", "backend": "llamacpp", "device": "cpu", "quant": "Q4_1"},
        "data": ["some/photos"],
        "projection": ["runs/other.safetensors"],
        "options": {"stage": 2, "seed": 0, "limit": 7, "max_tokens": 5},
        "versions": {"minigpt4": "9.9"},
        "date": "2030-01-31",
        "pictures": 7,
        "answers": 14,
        "scores": list(scores),
    }
    return json.dumps({"suites": [{"suite": suite, "runs": [run]}]})


def test_the_pages_are_current(docs: tuple[ModuleType, ModuleType]) -> None:
    measured, reproducing = docs
    advice = "run `python docs/make.py`"
    assert (DOCS / "reproducing.md").read_text("utf-8") == reproducing.reproducing_page(), advice
    if measured.record_of("ablations") is not None:
        assert (DOCS / "ablations.md").read_text("utf-8") == reproducing.ablations_page(), advice
    form, objects = measured.form_table(), measured.objects_tables()
    for path, parts in ((CARD, {"form": form, "objects": objects}), (DOCS / "evaluation.md", {"form": form})):
        page = path.read_text("utf-8")
        for name, content in parts.items():
            assert measured.filled(page, name, content) == page, advice


def test_the_runs_hold_neither_answers_nor_places_of_one_machine() -> None:
    for path in (DOCS / "runs").glob("*.json"):
        text = path.read_text("utf-8")
        assert '"/' not in text, f"{path} names a place"
        assert '"answer"' not in text and '"text"' not in text, f"{path} holds answers"
        assert len(text) < 20_000


def test_every_figure_of_the_paper_is_on_the_page(docs: tuple[ModuleType, ModuleType]) -> None:
    measured, reproducing = docs
    page = reproducing.reproducing_page()
    for one in paper_figures():
        (row,) = {line for line in page.splitlines() if line.startswith(f"| {one.score} |")}
        papers = [one.blip2, one.before_stage_2, one.minigpt4]
        cells = [cell.strip() for cell in row.split("|")[2:]]
        shown = [measured.number(value) for value in papers if value is not None]
        assert [cell for cell in cells if cell in shown][: len(shown)] == shown
        assert f"minigpt4 eval {one.suite} " in page


def test_a_new_measurement_changes_the_page(docs: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    _, reproducing = docs
    before = reproducing.reproducing_page(tmp_path)
    assert "| [Made-up objects](#made-up-objects) | `eval chair` | not measured |" in before
    score = {"name": "long: CHAIRi", "value": 0.12345, "interval_95": [0.1, 0.2]}
    (tmp_path / "chair.json").write_text(a_run("chair", score))
    page = reproducing.reproducing_page(tmp_path)
    assert "| [Made-up objects](#made-up-objects) | `eval chair` | measured |" in page
    assert "| long: CHAIRi | - | 0.096 | 0.123 (0.1 to 0.2) |" in page
    assert (
        "- mini: `minigpt4 eval chair --bundle mini --projection runs/other.safetensors --data some/photos "
        "--limit 7 --max-tokens 5 --output RUN`; 14 answers about 7 pictures, 2030-01-31, Q4_1 on cpu, "
        "minigpt4 9.9."
    ) in page


def test_the_ablations_have_a_page_of_their_own(docs: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    _, reproducing = docs
    with pytest.raises(FileNotFoundError):
        reproducing.ablations_page(tmp_path)
    scores = [{"name": "CIDEr-D", "value": 0.25, "interval_95": [0.2, 0.3], "digits": 3}]
    rows = [
        {"row": "single layer", "left_out": "", "scores": scores, "paper": {"GQA": 32.2}},
        {"row": "no Q-Former", "left_out": "it has none", "scores": [], "paper": {}},
    ]
    record = {
        "bundle": "mini",
        "steps": 100,
        "recipe_steps": 1600,
        "batch_size": 16,
        "settings": ["batch_size=16"],
        "limit": 50,
        "data": ["photos/train"],
        "eval_data": ["photos/val"],
        "versions": {"minigpt4": "9.9"},
        "columns": ["CIDEr-D"],
        "tables": [{"table": "Architecture", "rows": rows}],
    }
    (tmp_path / "ablations.json").write_text(json.dumps(record))
    page = reproducing.ablations_page(tmp_path)
    assert page.startswith("# Ablations of mini\n")
    assert "Stage 1 has 100 steps of 16 pictures of photos/train (its recipe: 1600 steps)" in page
    assert "Both recipes were changed: `batch_size=16`. Evaluated on 50 pictures at most" in page
    assert " of photos/val, from which no row learnt" in page
    assert "| single layer | 0.250 (0.200 to 0.300) | GQA 32.2 |" in page
    assert "- no Q-Former: left out, it has none." in page
    assert "Mini's are in [ablations.md](ablations.md)." in reproducing.reproducing_page(tmp_path)


def test_a_page_without_marks_is_refused(docs: tuple[ModuleType, ModuleType]) -> None:
    with pytest.raises(ValueError, match="no marks of 'form'"):
        docs[0].filled("text", "form", "table")
