"""`minigpt4 models quantize|synth|trace`, and the options that say how a large model is run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from minigpt4.core.bundles.bundle import Bundle, load_bundle
from minigpt4.core.weights.locate import gguf_files, gguf_path

Call = Callable[..., CompletedProcess[str]]
ImportTiny = Callable[..., Bundle]
QUESTION = "What is in this picture?"


@pytest.fixture
def pixels(tmp_path: Path) -> Path:
    path = tmp_path / "pixels.npy"
    np.save(path, np.zeros((2, 3, 56, 56), np.float32))
    return path


def test_a_bundles_gguf_is_made_where_llama_cpp_looks_for_it(
    call_minigpt4: Call, import_tiny: ImportTiny
) -> None:
    pytest.importorskip("llama_cpp")
    bundle = import_tiny()
    done = call_minigpt4("models", "quantize", "tiny", "--type", "Q8_0")
    assert done.returncode == 0, done.stderr
    assert gguf_files(bundle) == {"Q8_0": Path(done.stdout.strip())}
    assert "Writing tiny-Q8_0.gguf" in done.stderr
    again = call_minigpt4("models", "quantize", "tiny", "--type", "Q8_0")
    assert again.returncode == 2
    assert "exists already; give --force" in again.stderr
    assert call_minigpt4("models", "quantize", "tiny", "--type", "Q8_0", "--force").returncode == 0


def test_a_folder_is_quantised_to_the_file_that_was_named(
    call_minigpt4: Call, golden: Path, tmp_path: Path
) -> None:
    target = tmp_path / "mine.gguf"
    folder = golden / "tiny_model" / "llama"
    done = call_minigpt4("models", "quantize", folder, "--type", "F16", "-o", target)
    assert (done.returncode, done.stdout.strip()) == (0, str(target)), done.stderr
    assert target.read_bytes()[:4] == b"GGUF"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("mini",), "comes as SmolLM2-135M-Instruct.Q4_1.gguf, which is quantised already"),
        (("minigpt4-vicuna-7b",), "is not here; fetch it with `minigpt4 models pull minigpt4-vicuna-7b`"),
        (("minigpt4-vicuna-8b",), "did you mean 'minigpt4-vicuna-7b'"),
        (("./no/such/folder",), "There is no folder './no/such/folder'"),
        (("mini", "--type", "nf4"), "llama.cpp has no quantisation 'nf4'"),
        (("mini", "--type", "q4_0"), "did you mean 'Q4_0'"),
    ],
)
def test_what_cannot_be_quantised_is_reported(
    call_minigpt4: Call, arguments: tuple[str, ...], words: str
) -> None:
    done = call_minigpt4("models", "quantize", *arguments)
    assert done.returncode in (1, 2)
    assert words in done.stderr


def test_a_second_gguf_after_the_folder_was_deleted_says_how_to_have_it_again(call_minigpt4: Call) -> None:
    gguf = gguf_path(load_bundle("minigpt4-vicuna-7b"), "Q4_0")
    gguf.parent.mkdir(parents=True)
    gguf.write_bytes(b"GGUF")
    done = call_minigpt4("models", "quantize", "minigpt4-vicuna-7b", "--type", "Q8_0")
    assert "`minigpt4 models pull minigpt4-vicuna-7b --all`" in done.stderr


def test_a_bundle_is_made_up_and_can_be_shown(call_minigpt4: Call, import_tiny: ImportTiny) -> None:
    import_tiny()
    done = call_minigpt4("models", "synth", "tiny", "--seed", "3", "--gguf", "Q4_0")
    assert (done.returncode, done.stdout) == (0, "tiny-synth\n"), done.stderr
    bundle = load_bundle("tiny-synth")
    assert bundle.vision.options == load_bundle("tiny").vision.options
    assert list(gguf_files(bundle)) == ["Q4_0"]


def test_a_trace_is_written_from_pixels(
    call_minigpt4: Call, import_tiny: ImportTiny, pixels: Path, tmp_path: Path
) -> None:
    import_tiny()
    path = tmp_path / "trace.safetensors"
    arguments = ("tiny", QUESTION, "--pixels", pixels, "-o", path, "--dtype", "float32", "--greedy", "2")
    done = call_minigpt4("models", "trace", *arguments)
    assert (done.returncode, done.stdout.strip()) == (0, str(path)), done.stderr
    with safe_open(path, "numpy") as file:
        assert file.get_tensor("image_BND").shape == (2, 4, 16)
        metadata = {key: json.loads(text) for key, text in file.metadata().items()}
    assert len(metadata["greedy_ids"]) == 2
    assert metadata["made_with"]["backend"] == "torch"


@pytest.mark.parametrize("given", [[], ["-i", "photo.jpg", "--pixels", "pixels.npy"]], ids=["none", "both"])
def test_a_trace_needs_pictures_or_pixels(call_minigpt4: Call, given: list[str], tmp_path: Path) -> None:
    done = call_minigpt4("models", "trace", "mini", QUESTION, *given, "-o", tmp_path / "trace.safetensors")
    assert done.returncode == 2
    assert "either pictures with -i or pixels with --pixels" in done.stderr


def test_a_search_over_beams_is_deterministic(
    call_minigpt4: Call, import_tiny: ImportTiny, examples: Path
) -> None:
    import_tiny()
    answers = set()
    for _ in range(2):
        question = ("-i", examples / "coffee.jpg", QUESTION)
        done = call_minigpt4("ask", "-b", "tiny", "--beams", "3", "--max-tokens", "6", *question)
        assert done.returncode == 0, done.stderr
        answers.add(done.stdout)
    assert len(answers) == 1
    assert len(answers.pop()) > 1


@pytest.mark.parametrize("command", ["ask", "chat"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--quant", "int4"), "'--quant' is 'int4'; it must be one of auto, fp32"),
        (("--quant", "nf4", "--backend", "llamacpp"), "'nf4' is not one of llama.cpp's"),
        (("--context", "9000"), "context of 9000 positions"),
        (("--gpu-layers", "-2"), "'--gpu-layers' is -2; it must be a whole number of 0 or more"),
    ],
)
def test_how_a_model_cannot_be_run_is_reported_before_anything_loads(
    call_minigpt4: Call, command: str, options: tuple[str, ...], words: str
) -> None:
    done = call_minigpt4(command, *options, *([QUESTION] if command == "ask" else []))
    assert done.returncode == 2
    assert words in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--beams", "3", "--backend", "llamacpp"), "--beams 3 needs the torch backend"),
        (("--beams", "3", "--temperature", "0.5"), "--beams 3 and --temperature 0.5 contradict"),
        (("--beams", "0"), "--beams is 0"),
        (("--beams", "3", "--quant", "Q4_0"), "'Q4_0' is not one of torch's"),
    ],
)
def test_a_search_that_cannot_be_done_is_reported(
    call_minigpt4: Call, options: tuple[Any, ...], words: str
) -> None:
    done = call_minigpt4("ask", *options, QUESTION)
    assert done.returncode == 2
    assert words in done.stderr
