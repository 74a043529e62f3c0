"""Every command with a bundle of two GGUF files: the tiny Qwen2.5-VL of the golden vectors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sysconfig
from pathlib import Path

import pytest
from tests.conftest import RunMinigpt4, clean_environment


@pytest.fixture
def tiny(run_minigpt4: RunMinigpt4, golden: Path, own_home: Path) -> Path:
    """The folder of its files and pictures; imported as 'tiny' in a home that has mini, too."""
    pytest.importorskip("llama_cpp")
    folder = golden / "vlm" / "qwen25vl"
    if not folder.is_dir():
        pytest.skip(f"the tiny models of several families are not here ({folder})")
    files = ("--gguf", folder / "lang.gguf", "--mmproj", folder / "mmproj.gguf")
    done = run_minigpt4("models", "import", "tiny", *files, "--template", "qwen2-vl")
    assert done.returncode == 0, done.stderr
    return folder


def test_an_evaluation_resumes_and_knows_what_encodes(
    run_minigpt4: RunMinigpt4, tiny: Path, data: Path, tmp_path: Path
) -> None:
    def evaluate(*more: str) -> list[str]:
        options = ("--bundle", "tiny", "--data", data / "flickr8k" / "val", "--limit", "2", "--output", "run")
        done = run_minigpt4("eval", "captions", *options, *more)
        return [str(done.returncode), *done.stderr.splitlines()]

    first = evaluate("--image-tokens", "16")
    assert first[0] == "0", first
    answers = (tmp_path / "run" / "answers.jsonl").read_bytes()
    assert evaluate("--image-tokens", "16")[0] == "0"
    assert (tmp_path / "run" / "answers.jsonl").read_bytes() == answers
    other = evaluate("--image-tokens", "64")
    assert other[0] == "2" and "run" in other[-1]


def test_it_is_measured(run_minigpt4: RunMinigpt4, tiny: Path) -> None:
    refused = run_minigpt4("bench", "tiny")
    assert refused.returncode == 1
    assert (
        "takes 2453 tokens; the context has 1024. Give a larger `--context`, `--image-tokens"
        in refused.stderr
    )
    done = run_minigpt4("bench", "tiny", "--image-tokens", "64", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)["figures"]
    assert all(figures[name]["median"] > 0 for name in ("look", "prefill", "decode", "second_turn"))


def test_more_threads_than_cores_are_told(run_minigpt4: RunMinigpt4, tiny: Path) -> None:
    asked = ("ask", "--bundle", "tiny", "-i", tiny / "exact.png", "--max-tokens", "2", "What is this?")
    done = run_minigpt4(*asked, "--threads", "1000")
    assert done.returncode == 0, done.stderr
    assert "1000" in done.stderr and "threads" in done.stderr
    assert "threads" not in run_minigpt4(*asked).stderr


def test_photos_are_captioned(run_minigpt4: RunMinigpt4, tiny: Path, tmp_path: Path) -> None:
    done = run_minigpt4(
        "caption",
        tiny / "exact.png",
        tiny / "second.png",
        "--bundle",
        "tiny",
        "--max-tokens",
        "4",
        "--output",
        "c.jsonl",
    )
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "c.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("first", ["mini", "tiny"])
def test_a_conversation_keeps_its_pictures_over_bundles(
    run_minigpt4: RunMinigpt4, tiny: Path, first: str
) -> None:
    second = {"mini": "tiny", "tiny": "mini"}[first]

    def answers(picture: str, *lines: str) -> list[str]:
        done = run_minigpt4(
            *("chat", "--plain", "--bundle", first, "--max-tokens", "12", "--greedy", tiny / picture),
            stdin="\n".join([*lines, "/quit"]).encode(),
        )
        assert done.returncode == 0, done.stderr
        assert f"{second} answers from now on." in done.stderr
        return done.stdout.splitlines()

    # Nothing but the picture can tell these apart, and it was added for another bundle.
    asked = (f"/models {second}", "What is this?")
    assert answers("exact.png", *asked) != answers("second.png", *asked)
    back = answers("exact.png", "What is this?", *asked, f"/models {first}", "And again?")
    assert len(back) >= 3


def test_a_crash_of_native_code_ends_with_a_sentence(tiny: Path, tmp_path: Path) -> None:
    program = Path(sysconfig.get_path("scripts")) / "minigpt4"
    asked = (
        "ask",
        "--bundle",
        "tiny",
        "-i",
        tiny / "exact.png",
        "--max-tokens",
        "900",
        "Tell me everything.",
    )
    with subprocess.Popen(
        [program, *asked],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(1)
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGABRT)
        process.stdout.read()
        said = process.stderr.read().decode()
    assert process.returncode == 1
    assert "aborted in native code" in said and "`minigpt4 models verify tiny`" in said
