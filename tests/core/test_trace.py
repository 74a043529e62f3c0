"""A trace holds what the original code computes, on both backends, and says what it was made of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file

from minigpt4.core.bundles.bundle import Bundle, load_bundle
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.errors import ContextError, DataError, UsageError
from minigpt4.core.pixels import open_picture
from minigpt4.core.trace import Trace, pixels_of, read_pixels, trace

ONE_QUESTION = ["plain", "eos", "stop_one_token", "stop_two_tokens", "two_images", "llama2"]
"""Those of the reference's cases that have no earlier turn."""

HIDDEN, LOGITS, TOKENS = 1e-5, 1e-4, 24
F16_RELATIVE = 2e-2

Arrays = dict[str, NDArray[np.float32]]
ImportTiny = Callable[..., Bundle]


@pytest.fixture(scope="module")
def cases(golden: Path) -> dict[str, dict[str, Any]]:
    chat = json.loads((golden / "chat.json").read_text(encoding="utf-8"))
    return {case["name"]: case for case in chat["cases"]}


@pytest.fixture(scope="module")
def expected(golden: Path) -> Arrays:
    return load_file(golden / "chat.safetensors") | load_file(golden / "vision.safetensors")


def traced(
    case: dict[str, Any], import_tiny: ImportTiny, expected: Arrays, backend: str, greedy: int = TOKENS
) -> Trace:
    bundle = import_tiny(has_qformer=case["template"] != "llama2")
    pixels_BCHW = expected["pixel_values"][case["images"]]
    options = EngineOptions(bundle, backend, "cpu", dtype="float32")
    return trace(options, pixels_BCHW, case["questions"][0], greedy=greedy)


@pytest.mark.parametrize("backend", ["torch", "llamacpp"])
@pytest.mark.parametrize("name", ONE_QUESTION)
def test_every_step_is_that_of_the_original(
    name: str, backend: str, cases: dict[str, dict[str, Any]], expected: Arrays, import_tiny: ImportTiny
) -> None:
    if backend == "llamacpp":
        pytest.importorskip("llama_cpp")
    case = cases[name]
    found = traced(case, import_tiny, expected, backend)
    arrays, images = found.arrays, case["images"]
    prefix = "noqformer_" if case["template"] == "llama2" else ""
    np.testing.assert_array_equal(arrays["pixels_BCHW"], expected["pixel_values"][images])
    for array, theirs in (
        ("vision_BND", expected[f"{prefix}vit_ln_out"][images]),
        ("image_BND", expected[f"{prefix}image_embeds"][images]),
        ("inputs_SD", expected[f"{name}.inputs_embeds"][0]),
    ):
        np.testing.assert_allclose(arrays[array], theirs, rtol=0, atol=HIDDEN, err_msg=array)
    if prefix:
        assert "qformer_BND" not in arrays
    else:
        np.testing.assert_allclose(
            arrays["qformer_BND"], expected["qformer_out"][images], rtol=0, atol=HIDDEN
        )
    assert found.metadata["prompt"] == case["prompt"]
    traced_texts, texts = (
        [(segment["text"], segment["ids"]) for segment in segments]
        for segments in (found.metadata["segments"], case["segments"])
    )
    assert traced_texts == texts
    assert found.metadata["greedy_ids"] == case["runs"]["greedy"]


@pytest.mark.parametrize("name", ["plain", "llama2"])
def test_the_logits_are_those_of_the_original(
    name: str, cases: dict[str, dict[str, Any]], expected: Arrays, import_tiny: ImportTiny
) -> None:
    found = traced(cases[name], import_tiny, expected, "torch", greedy=0)
    np.testing.assert_allclose(
        found.arrays["logits_V"], expected[f"{name}.first_logits"], rtol=0, atol=LOGITS
    )
    assert "greedy_ids" not in found.metadata


def test_llama_cpp_in_16_bits_differs_by_less_than_a_fiftieth(
    cases: dict[str, dict[str, Any]], expected: Arrays, import_tiny: ImportTiny
) -> None:
    pytest.importorskip("llama_cpp")
    logits_V = traced(cases["plain"], import_tiny, expected, "llamacpp", greedy=0).arrays["logits_V"]
    theirs = expected["plain.first_logits"]
    assert np.abs(logits_V - theirs).max() < F16_RELATIVE * np.abs(theirs).max()


def test_the_file_holds_float32_and_its_metadata_are_json(
    tmp_path: Path, cases: dict[str, dict[str, Any]], expected: Arrays, import_tiny: ImportTiny
) -> None:
    path = tmp_path / "made" / "trace.safetensors"
    traced(cases["two_images"], import_tiny, expected, "torch", greedy=2).write(path)
    with safe_open(path, "numpy") as file:
        shapes = {name: file.get_tensor(name).shape for name in file.keys()}  # noqa: SIM118
        assert {file.get_tensor(name).dtype for name in shapes} == {np.dtype(np.float32)}
        metadata = {key: json.loads(text) for key, text in file.metadata().items()}
    assert shapes == {
        "pixels_BCHW": (2, 3, 56, 56),
        "vision_BND": (2, 17, 32),
        "qformer_BND": (2, 4, 24),
        "image_BND": (2, 4, 16),
        "inputs_SD": (73, 16),
        "logits_V": (32000,),
    }
    assert metadata["prompt"] == cases["two_images"]["prompt"]
    assert [segment["ids"] for segment in metadata["segments"]] == [
        segment["ids"] for segment in cases["two_images"]["segments"]
    ]
    assert metadata["greedy_ids"] == cases["two_images"]["runs"]["greedy"][:2]
    assert {"minigpt4", "python", "torch", "transformers"} <= metadata["versions"].keys()
    assert metadata["made_with"]["backend"] == "torch"


@pytest.mark.parametrize("backend", ["torch", "llamacpp"])
def test_mini_can_be_traced_too(mini_home: Path, examples: Path, backend: str) -> None:
    if backend == "llamacpp":
        pytest.importorskip("llama_cpp")
    bundle = load_bundle("mini")
    pixels_BCHW = pixels_of([open_picture(examples / "chelsea.png")], bundle)
    options = EngineOptions(bundle, backend, "cpu")
    found = trace(options, pixels_BCHW, "What is this?", greedy=3)
    assert "qformer_BND" not in found.arrays
    prompt = found.metadata["prompt"]
    assert "<ImageHere>\nWhat is this?" in prompt
    before, after = found.metadata["segments"]
    assert before["text"] + "<ImageHere>" + after["text"] == prompt
    positions = len(before["ids"]) + bundle.projection.image_tokens + len(after["ids"])
    assert found.arrays["inputs_SD"].shape == (positions, bundle.language.width)
    place = slice(len(before["ids"]), len(before["ids"]) + bundle.projection.image_tokens)
    np.testing.assert_array_equal(found.arrays["inputs_SD"][place], found.arrays["image_BND"][0])


def test_both_backends_read_the_same_embeddings(mini_home: Path) -> None:
    pytest.importorskip("llama_cpp")
    bundle = load_bundle("mini")
    pixels_BCHW = np.zeros((1, 3, bundle.vision.image_size, bundle.vision.image_size), np.float32)
    one, other = (
        trace(EngineOptions(bundle, name, "cpu"), pixels_BCHW, "Why?") for name in ("torch", "llamacpp")
    )
    # llama.cpp has them in F16, with 11 significant bits.
    np.testing.assert_allclose(other.arrays["inputs_SD"], one.arrays["inputs_SD"], rtol=2**-11, atol=1e-7)


def test_pixels_of_another_size_are_refused(import_tiny: ImportTiny) -> None:
    with pytest.raises(UsageError, match=r"reads \(pictures, 3, 56, 56\)"):
        trace(EngineOptions(import_tiny()), np.zeros((1, 3, 28, 28), np.float32), "What?")


def test_more_tokens_than_the_context_holds_are_refused(import_tiny: ImportTiny) -> None:
    options = EngineOptions(import_tiny(), device="cpu", dtype="float32")
    with pytest.raises(ContextError, match=r"2000 are asked for, but the language model has 2000"):
        trace(options, np.zeros((1, 3, 56, 56), np.float32), "What?", greedy=2000)


def test_one_picture_and_several_can_be_read(tmp_path: Path) -> None:
    for shape, read in (((3, 4, 4), (1, 3, 4, 4)), ((2, 3, 4, 4), (2, 3, 4, 4))):
        np.save(tmp_path / "pixels.npy", np.ones(shape, np.float32))
        assert read_pixels(tmp_path / "pixels.npy").shape == read


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((3, 4, 4)), "float64 of the shape"),
        (np.ones((3, 4, 4), np.uint8), "uint8"),
        (np.ones((4, 4, 3), np.float32), r"\(4, 4, 3\)"),
        (np.ones((0, 3, 4, 4), np.float32), "wanted"),
        (np.full((3, 4, 4), np.nan, np.float32), "not finite"),
        (np.array([{"a": 1}], dtype=object), "no NumPy file of pixels"),
    ],
    ids=["float64", "uint8", "channels last", "no picture", "nan", "objects"],
)
def test_an_array_that_is_not_pixels_is_refused(tmp_path: Path, array: NDArray[Any], message: str) -> None:
    np.save(tmp_path / "pixels.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=message):
        read_pixels(tmp_path / "pixels.npy")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00"], ids=["empty", "zip", "cut"])
def test_a_file_that_is_not_numpys_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pixels.npy").write_bytes(content)
    with pytest.raises(DataError, match="no NumPy file of pixels"):
        read_pixels(tmp_path / "pixels.npy")


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        Trace({"a": np.ones(1, np.float32)}, {}).write(tmp_path / "file" / "trace")
