"""`minigpt4 eval ablations`: every row trained, evaluated and reported; a killed run goes on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from minigpt4.train.ablations.plan import AblationRun, Model, Plan, paper_tables
from minigpt4.train.evaluate.suites import SUITES
from minigpt4.train.recipe_file import changed_keys, read_recipe, recipe_path, with_settings

Call = Callable[..., "subprocess.CompletedProcess[str]"]
FEW_ABLATIONS = Path(__file__).parent / "few_ablations.py"
SMALL = (
    "precision=fp32",
    "batch_size=2",
    "captions_per_photo=1",
    "validation.photos=2",
    "source.flickr8k/train.views=1",
    "source.flickr8k/train.cropped=0",
    *(f"source.{name}.weight=0" for name in ("imagenet1000", "caltech101", "cats", "scenes")),
)


def arguments(data: Path, output: Path) -> list[str]:
    settings = [part for setting in SMALL for part in ("--set", setting)]
    given = ["eval", "ablations", "--data", str(data), "--output", str(output)]
    return [*given, "--steps", "2", "--limit", "2", *settings]


FEW = """
[[model]]
name = "single-layer"
[[model]]
name = "three-layers"
settings = ["layers=3", "class_name_scale=0"]
[[model]]
name = "no-qformer"
settings = ["qformer=none"]
needs_qformer = true

[[row]]
table = "Architecture"
name = "without stage 2"
model = "single-layer"
stage = 1
[[row]]
table = "Architecture"
name = "single layer"
model = "single-layer"
[[row]]
table = "Architecture"
name = "three layers"
model = "three-layers"
paper = { "AOK-VQA" = 49.7 }
[[row]]
table = "Architecture"
name = "no Q-Former"
model = "no-qformer"

[[column]]
suite = "subjects"
score = "subject rate"
[[column]]
suite = "subjects"
score = "mean length (words)"
"""
"""Few rows: each is two trainings and an evaluation of the real mini."""


def test_a_run_killed_while_it_trains_resumes_and_reports_every_row(
    data: Path, tmp_path: Path, mini_home: Path
) -> None:
    (tmp_path / "few.toml").write_text(FEW)
    output = tmp_path / "run"
    run = AblationRun(output, {})
    command = [sys.executable, str(FEW_ABLATIONS), str(tmp_path / "few.toml"), *arguments(data, output)]

    def again(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *more], capture_output=True, text=True, timeout=400, check=False)

    with subprocess.Popen(command) as process:
        end = time.monotonic() + 300
        while not list(run.training("three-layers", 1).glob("checkpoints/*")):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        process.kill()
    result = run.training("single-layer", 2) / "projection.safetensors"
    before = result.stat().st_mtime_ns
    done = again()
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(run.report)
    assert "Training single-layer" not in done.stderr
    assert result.stat().st_mtime_ns == before
    report = run.report.read_text().splitlines()
    (header,) = (line for line in report if "the paper" in line and line.startswith("|"))
    assert header == "|  | subject rate | mean length (words) | the paper |"
    rows = {line.split("|")[1].strip(): line for line in report if line.startswith("| ")}
    for name in ("without stage 2", "single layer", "three layers"):
        assert " to " in rows[name]
    assert rows["three layers"].endswith("| AOK-VQA 49.7 |")
    assert rows["no Q-Former"] == "| no Q-Former | - | - |  |"
    assert "- no Q-Former: left out, the bundle mini-without-detector has no Q-Former." in report
    record = json.loads(run.record.read_text())
    assert record["columns"] == ["subject rate", "mean length (words)"]
    (table,) = record["tables"]
    assert [len(row["scores"]) for row in table["rows"]] == [2, 2, 2, 0]
    assert record["eval_data"] == ["flickr8k/val"]
    refused = again("--limit", "3")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert "another limit: 2, and now it would be 3" in refused.stderr
    with run.locked():
        assert "is being written by another process" in again().stderr


@pytest.mark.parametrize("name", ["three-layers", "no-qformer", "qformer-trained"])
def test_the_rows_train_the_recipes_of_the_ablations(name: str) -> None:
    shipped = read_recipe(recipe_path(f"ablation-{name}"))
    wanted = {"qformer-trained": "trained-qformer"}.get(name, name)
    (model,) = (one for one in paper_tables().model if one.name == wanted)
    plan = Plan("minigpt4-vicuna-13b", [])
    changed = changed_keys(with_settings(plan.recipe(1), plan.settings_of(model, 1)), shipped)
    assert {text.split()[0] for text in changed} == {"sample_every", "sample_photos"}


def test_a_share_of_stage_1_is_the_shipped_recipe_but_for_what_it_keeps() -> None:
    plan = Plan("minigpt4-vicuna-13b", [])
    model = Model("30-percent", share=0.3)
    changed = changed_keys(
        with_settings(plan.recipe(1), plan.settings_of(model, 1)), read_recipe(recipe_path("stage1-30pct"))
    )
    assert {text.split()[0] for text in changed} == {
        *("checkpoint_every", "validate_every", "sample_every", "sample_photos")
    }
    assert not any(text.startswith("steps") for text in plan.settings_of(model, 2)), "stage 2 stays whole"


def test_the_tables_name_models_and_suites_that_there_are() -> None:
    tables = paper_tables()
    assert {row.model for row in tables.row} == {model.name for model in tables.model}
    assert {column.suite for column in tables.column} <= set(SUITES)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--set", "stpes=3"], "'stpes' is not a known key; did you mean 'steps'?"),
        (["--bundle", "mimi"], "There is no bundle 'mimi'"),
        (["--steps", "0"], "Invalid value for '--steps'"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    more: list[str], sentence: str, data: Path, tmp_path: Path, call_minigpt4: Call
) -> None:
    refused = call_minigpt4(*arguments(data, tmp_path / "run"), *more)
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert sentence in refused.stderr
    assert not (tmp_path / "run").exists()


def test_own_pictures_need_others_to_evaluate_on(tmp_path: Path, call_minigpt4: Call) -> None:
    own = tmp_path / "own"
    own.mkdir()
    Image.new("RGB", (32, 32), "red").save(own / "a.jpg")
    (own / "a.txt").write_text("A red square.")
    refused = call_minigpt4("eval", "ablations", "--data", own, "--output", tmp_path / "run")
    assert refused.returncode == 2
    assert "give them with --eval-data" in refused.stderr
