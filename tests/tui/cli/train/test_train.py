"""`minigpt4 train`: refused in one line before anything is fetched, stopped and resumed without loss."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from minigpt4.core.bundles.bundle import load_bundle, write_manifest
from minigpt4.core.download.fetch import bundles_folder
from minigpt4.core.projection import Projection, save_projection
from minigpt4.core.storage.paths import config_home
from minigpt4.train.recipe_file import read_recipe

Call = Callable[..., "subprocess.CompletedProcess[str]"]

SHRUNK = [
    f"--set={setting}"
    for setting in (
        "precision=fp32",  # in bf16 a CPU without 16-bit instructions takes minutes a step
        "steps=12",
        "batch_size=2",
        "captions_per_photo=1",
        "checkpoint_every=100",
        "validate_every=100",
        "validation.photos=2",
        "source.flickr8k/train.views=1",
        "source.flickr8k/train.cropped=0",
        *(f"source.{name}.weight=0" for name in ("imagenet1000", "caltech101", "cats", "scenes")),
    )
]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def only_line(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line on stderr of a command that failed with that code and wrote nothing."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("minigpt4: ")
    assert not Path("runs").exists()
    assert not bundles_folder().exists()
    return lines[0].removeprefix("minigpt4: ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Which stage do you want to train? Give --stage 1 or --stage 2."),
        (["--stage", "3"], "Invalid value for '--stage'"),
        (["--stage", "1", "--threads", "0"], "Invalid value for '--threads'"),
        (
            ["--stage", "1", "--set", "stpes=3"],
            "--set stpes=3: 'stpes' is not a known key; did you mean 'steps'?",
        ),
        (["--stage", "1", "--set", "steps"], "'--set steps' is not of the form key=value."),
        (["--stage", "1", "--set", "bundle=mimi"], "There is no bundle 'mimi'; did you mean 'mini'?"),
        (
            ["--stage", "2", "--set", "start="],
            "Stage 2 continues stage 1: give its run or its result with --",
        ),
        (["--recipe", "no.toml"], "The recipe no.toml cannot be read: No such file or directory."),
        (["--resume"], "--resume needs --output: the folder of the run to continue."),
        (
            ["--resume", "--output", "none"],
            "There is no run to resume in none; omit --resume to begin one.",
        ),
        (["--resume", "-o", "x", "--set", "steps=3"], "--set cannot be given with --resume"),
        (["--resume", "-o", "x", "--recipe", "mine.toml"], "--recipe cannot be given with --resume"),
        (["--resume", "-o", "x", "--init", "mine"], "--init cannot be given with --resume"),
    ],
)
def test_wrong_usage_is_one_line_before_anything_is_fetched(
    call_minigpt4: Call, arguments: list[str], sentence: str
) -> None:
    assert only_line(call_minigpt4("train", *arguments), 2).startswith(sentence)


def test_stage_2_is_estimated_before_there_is_a_stage_1(call_minigpt4: Call) -> None:
    options = ["train", "--stage", "2", "--bundle", "minigpt4-vicuna-7b", "--on", "A100", "--json"]
    one, four = (
        json.loads(call_minigpt4(*options, "--estimate", "--devices", count).stdout) for count in ("1", "4")
    )
    assert one["memory_total_bytes"] > 2**33
    assert four["memory_total_bytes"] < one["memory_total_bytes"]


def test_a_folder_that_holds_something_is_left_alone(call_minigpt4: Call, data: Path) -> None:
    thesis = data / "thesis.txt"
    thesis.write_text("irreplaceable")
    for output, reason in (
        (data, "is not empty; continue the run in it with --resume"),
        (thesis, "is a file"),
    ):
        done = call_minigpt4("train", "--stage", "1", "--data", data, "--output", output)
        assert reason in only_line(done, 2)
    assert sorted(place.name for place in data.iterdir()) == ["flickr8k", "thesis.txt"]


def test_missing_data_is_reported_before_anything_is_fetched(call_minigpt4: Call, data: Path) -> None:
    done = call_minigpt4("train", "--stage", "1", "--data", "nowhere")
    assert only_line(done, 1).startswith("There is no data folder nowhere; give one with --data.")
    line = only_line(call_minigpt4("train", "--stage", "1", "--data", data), 1)
    assert "has no folder 'imagenet1000' (it holds flickr8k)" in line
    assert "--set 'source.imagenet1000.weight=0'" in line


def test_a_projection_to_start_from_is_read_before_anything_is_fetched(
    call_minigpt4: Call, data: Path, tmp_path: Path
) -> None:
    done = call_minigpt4("train", "--stage", "2", "--data", data, "--init", "none.safetensors")
    assert only_line(done, 1).startswith("There is no projection file none.safetensors;")
    save_projection(tmp_path / "small.safetensors", Projection(3, 2))
    line = only_line(call_minigpt4("train", "--stage", "2", "--init", "small.safetensors"), 1)
    assert "has the shape (2, 3) and (576, 2280) is wanted" in line


def test_a_projection_of_three_layers_starts_a_bundle_of_three_layers(
    call_minigpt4: Call, data: Path, tmp_path: Path
) -> None:
    mini = load_bundle("mini-without-detector")
    shape = replace(mini.projection, layers=3)
    (config_home() / "bundles").mkdir(parents=True)
    write_manifest(replace(mini, projection=shape), config_home() / "bundles" / "deep.toml")
    save_projection(tmp_path / "deep.safetensors", Projection(shape.inputs, shape.outputs, 3))
    arguments = ("--stage", "2", "--set", "bundle=deep", "--init", "deep.safetensors", "--data", "nowhere")
    assert only_line(call_minigpt4("train", *arguments), 1).startswith("There is no data folder nowhere")


def test_a_recipe_may_name_where_it_starts_beside_the_bundles_projection(
    call_minigpt4: Call, data: Path
) -> None:
    for name in ("none.safetensors", "no/where.safetensors"):
        done = call_minigpt4("train", "--stage", "2", "--data", data, "--set", f"start={name}")
        place = load_bundle("mini").projection.path.parent / name
        assert only_line(done, 1).startswith(f"There is no projection file {place};")


def home_without_features(mini_home: Path, home: Path) -> Path:
    """A home with mini's files, and no features or embeddings of an earlier test run."""
    converted = mini_home / "cache" / "converted"
    converted.mkdir(parents=True, exist_ok=True)
    (home / "cache").mkdir(parents=True)
    (home / "data").symlink_to(mini_home / "data")
    (home / "cache" / "converted").symlink_to(converted)
    return home


def check_complete_run(run: Path) -> list[dict[str, Any]]:
    """The log's rows of a run of 12 steps, after checks that none is missing or repeated."""
    recipe = read_recipe(run / "recipe.toml")
    assert (recipe.stage, recipe.steps, recipe.validation.photos) == (1, 12, 2)
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 13))
    assert [row["step"] for row in rows if "val_loss" in row] == [0, 12]
    losses = [row[name] for row in rows for name in ("loss", "val_loss") if name in row]
    assert np.isfinite(losses).all()
    assert (run / "checkpoints" / "12" / "state.safetensors").is_file()
    return rows


def begin_and_stop(run: Path, data: Path) -> list[str]:
    """Train until the first step is logged, then stop with SIGTERM; the lines on stderr."""
    command = [sys.executable, "-P", "-m", "minigpt4.tui", "train", "--stage", "1", "--data", str(data)]
    with subprocess.Popen(
        [*command, "--output", str(run), "--threads", "1", *SHRUNK],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        until = time.monotonic() + 300
        while not (run / "log.jsonl").is_file() or '"loss"' not in (run / "log.jsonl").read_text():
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            assert time.monotonic() < until
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert out == ""
    return errors.splitlines()


@pytest.fixture
def stopped_run(mini_home: Path, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was stopped after one of its steps, before the last."""
    monkeypatch.setenv("MINIGPT4_HOME", str(home_without_features(mini_home, tmp_path / "home")))
    run = tmp_path / "run"
    lines = begin_and_stop(run, data)
    assert "Encoding 12 photos (12 crops) once;" in lines[0]
    assert "Finishing the step and saving; press again to stop immediately." in lines
    assert (
        lines[-1] == f"Stopped and saved; continue with: minigpt4 train --resume --output {run} --threads 1"
    )
    assert not (run / "projection.safetensors").exists()
    return run


def test_a_stopped_run_resumes_wherever_its_data_are_now_and_its_result_answers(
    stopped_run: Path, data: Path, tmp_path: Path, run_minigpt4: Call, call_minigpt4: Call
) -> None:
    run = stopped_run
    checkpoints = run / "checkpoints"
    stopped_after = int(max(checkpoints.iterdir(), key=lambda place: int(place.name)).name)
    assert 1 <= stopped_after < 12

    moved = data.rename(tmp_path / "moved")
    resume = ("train", "--resume", "--output", run, "--threads", "1")
    gone = call_minigpt4(*resume)
    assert (gone.returncode, gone.stdout) == (1, "")
    assert gone.stderr == (
        f"minigpt4: The data of the run {run} were in {data}, which is gone; give their new place with "
        "--data.\n"
    )
    done = run_minigpt4(*resume, "--data", moved)
    assert done.returncode == 0, done.stderr
    result = run / "projection.safetensors"
    assert done.stdout == f"{result}\n"
    assert f"Training on 6 photos, steps {stopped_after + 1} to 12." in done.stderr.splitlines()
    assert "Encoding" not in done.stderr  # the features are cached
    rows = check_complete_run(run)
    assert "has ended; its result is" in call_minigpt4(*resume).stderr

    # The run knows its data wherever the command runs, and ends as before.
    ended = result.read_bytes()
    result.unlink()
    shutil.rmtree(checkpoints / "12")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    again = run_minigpt4(*resume, cwd=elsewhere)
    assert again.returncode == 0, again.stderr
    assert result.read_bytes() == ended
    assert check_complete_run(run)

    reported = call_minigpt4(
        "train", "--stage", "1", "--data", moved, *SHRUNK, "--estimate", "--json", "--on", "cpu"
    )
    estimated = json.loads(reported.stdout)["memory_total_bytes"]
    assert 0.6 < max(row["memory"] for row in rows if "loss" in row) / estimated < 1.6

    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    asked = run_minigpt4("ask", "--projection", result, "--max-tokens", "4", "-i", "red.png", "What is this?")
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.strip()
