"""`minigpt4 models import|verify|export`, as a person calls them, with the reference's own tiny weights."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from minigpt4.core.bundles.bundle import load_bundle
from minigpt4.core.download.fetch import bundles_folder, projection_path
from minigpt4.core.storage.paths import config_home

VECTORS = Path(__file__).parents[3] / "golden"
Call = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def llama(tmp_path: Path, write_llama: Callable[..., Path]) -> Path:
    return write_llama(tmp_path / "vicuna")


def options(llama: Path, *, has_qformer: bool = True, template: str = "vicuna-v0") -> list[str | Path]:
    form: list[str | Path] = (
        ["--qformer", VECTORS / "blip2_pretrained.pth"] if has_qformer else ["--no-qformer"]
    )
    projection = VECTORS / ("minigpt4.pth" if has_qformer else "minigpt4_noqformer.pth")
    return [
        "--vit", VECTORS / "eva_vit.pth", *form, "--projection", projection, "--llm", llama,
        "--template", template, "--geometry", VECTORS / "tiny_config.json",
    ]  # fmt: skip


def test_import_prints_the_manifest_and_says_on_stderr_what_it_writes(
    call_minigpt4: Call, llama: Path
) -> None:
    done = call_minigpt4("models", "import", "mine", *options(llama))
    assert (done.returncode, done.stdout) == (0, f"{config_home() / 'bundles' / 'mine.toml'}\n")
    assert [line.split()[:2] for line in done.stderr.splitlines()] == [
        ["Writing", "vision.safetensors"],
        ["Writing", "qformer.safetensors"],
        ["Writing", "projection.safetensors"],
        ["`minigpt4", "models"],
    ]
    listed = call_minigpt4("models", "list").stdout
    assert next(line for line in listed.splitlines() if line.startswith("mine ")).split()[3] == "here"


@pytest.mark.parametrize(("has_qformer", "template"), [(True, "vicuna-v0"), (False, "llama2")])
def test_what_was_imported_is_verified_exported_and_imported_again(
    call_minigpt4: Call, llama: Path, tmp_path: Path, has_qformer: bool, template: str
) -> None:
    given = options(llama, has_qformer=has_qformer, template=template)
    assert call_minigpt4("models", "import", "mine", *given).returncode == 0
    verified = call_minigpt4("models", "verify", "mine")
    assert verified.returncode == 0, verified.stdout
    assert {line.split()[0] for line in verified.stdout.splitlines()} == {"ok"}
    exported = tmp_path / "out.pth"
    done = call_minigpt4("models", "export", "mine", "-o", exported)
    assert (done.returncode, done.stdout) == (0, f"{exported}\n")
    original = given[given.index("--projection") + 1]
    model, theirs = (torch.load(path, weights_only=True)["model"] for path in (exported, original))
    assert sorted(model) == ["llama_proj.bias", "llama_proj.weight"]
    assert all(torch.equal(model[name], theirs[name]) for name in model)
    given[given.index("--projection") + 1] = exported
    assert call_minigpt4("models", "import", "again", *given).returncode == 0
    first, second = (load_file(projection_path(load_bundle(name))) for name in ("mine", "again"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_damaged_bundle_is_a_problem_line_and_exit_code_1(call_minigpt4: Call, llama: Path) -> None:
    call_minigpt4("models", "import", "mine", *options(llama))
    os.truncate(bundles_folder() / "mine" / "vision.safetensors", 5000)
    done = call_minigpt4("models", "verify", "mine")
    assert done.returncode == 1
    assert [line.split(":")[0] for line in done.stdout.splitlines() if line.startswith("problem")] == [
        "problem  vision.safetensors"
    ]
    report = json.loads(call_minigpt4("models", "verify", "mine", "--json").stdout)
    assert (report["bundle"], report["state"]) == ("mine", "problem")
    broken = [check["subject"] for check in report["checks"] if check["state"] == "problem"]
    assert broken == ["vision.safetensors"]


def test_a_refused_import_is_one_line_and_leaves_no_bundle(call_minigpt4: Call, llama: Path) -> None:
    given = options(llama)
    given[given.index("--vit") + 1] = VECTORS / "minigpt4.pth"
    done = call_minigpt4("models", "import", "mine", *given)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        f"minigpt4: The vision tower's file {VECTORS / 'minigpt4.pth'} is a MiniGPT-4 checkpoint"
    )
    assert not bundles_folder().exists() or list(bundles_folder().iterdir()) == []
    assert call_minigpt4("models", "verify", "mine").returncode == 2


@pytest.mark.parametrize("form", [["--no-qformer", "--qformer", "x"], []])
def test_whether_there_is_a_qformer_must_be_given(call_minigpt4: Call, llama: Path, form: list[str]) -> None:
    given = [word for word in options(llama, has_qformer=False) if word != "--no-qformer"]
    done = call_minigpt4("models", "import", "mine", *given, *form)
    assert (done.returncode, done.stderr.splitlines()) == (
        2,
        ["minigpt4: Give either --qformer FILE or --no-qformer, as the projection was trained."],
    )


def test_export_takes_a_projection_file_and_writes_over_nothing(call_minigpt4: Call, tmp_path: Path) -> None:
    exported = tmp_path / "out.pth"
    given = VECTORS / "minigpt4.pth"
    assert call_minigpt4("models", "export", "--projection", given, "-o", exported).returncode == 0
    before = exported.read_bytes()
    done = call_minigpt4("models", "export", "--projection", given, "-o", exported)
    assert done.returncode == 2
    assert "exists already; choose another name, or give --force" in done.stderr
    assert exported.read_bytes() == before
    forced = call_minigpt4("models", "export", "--projection", given, "-o", exported, "--force")
    assert forced.returncode == 0
    neither = call_minigpt4("models", "export", "-o", tmp_path / "other.pth")
    assert (neither.returncode, list(tmp_path.iterdir())) == (2, [exported])


def test_the_references_own_model_is_imported_and_looked_at_deeply(
    call_minigpt4: Call, golden: Path, tmp_path: Path
) -> None:
    """Its weights are noise, and a deep look must say so; everything else about it is whole."""
    llama = golden / "tiny_model" / "llama"
    assert call_minigpt4("models", "import", "tiny", *options(llama)).returncode == 0
    assert call_minigpt4("models", "verify", "tiny").returncode == 0
    done = call_minigpt4("models", "verify", "tiny", "--deep", "--json")
    assert done.returncode == 1
    checks = {check["subject"]: check for check in json.loads(done.stdout)["checks"]}
    problems = {subject for subject, check in checks.items() if check["state"] != "ok"}
    assert problems == {"perplexity", "loss"}
    assert "no better than a guess among 32000 tokens (ln 32000 = 10.4)" in checks["loss"]["text"]
