"""A quantised GGUF is written as F16 once, with the same weights, or a sentence tells the way out."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from minigpt4.core.bundle_making.random_weights import ggml_tensor
from minigpt4.core.errors import BackendError, BundleError
from minigpt4.core.weights.gguf import quantiser
from minigpt4.core.weights.gguf.header import read_header
from minigpt4.core.weights.gguf.quantiser import dequantise
from minigpt4.core.weights.gguf.writer import LlamaShape, write_gguf
from minigpt4.core.weights.sentencepiece_vocab import made_up_vocabulary

pytest.importorskip("llama_cpp")

SHAPE = LlamaShape(layers=2, width=256, mlp=512, heads=4, key_heads=2, vocabulary=900, context=128)
ADVICE = "eat less"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A Llama of two layers in Q4_0."""
    path = tmp_path / "small-Q4_0.gguf"
    write_gguf(
        path,
        SHAPE,
        made_up_vocabulary(SHAPE.vocabulary),
        name="small",
        quant="Q4_0",
        kind=lambda name, shape: "F32" if len(shape) == 1 else "Q4_0",
        content=lambda name, shape, kind: ggml_tensor(0, name, shape, kind),
    )
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "made" / "small-F16.gguf"


def weights(path: Path) -> dict[str, np.ndarray]:
    from gguf import GGUFReader
    from gguf.quants import dequantize

    return {one.name: dequantize(one.data, one.tensor_type) for one in GGUFReader(path).tensors}


def made(source: Path, target: Path) -> list[str]:
    notices: list[str] = []
    dequantise(source, target, advice=ADVICE, notice=notices.append)
    return notices


def test_the_weights_are_those_of_the_source_to_16_bits(source: Path, target: Path) -> None:
    (notice,) = made(source, target)
    assert notice == f"small-Q4_0.gguf is written as F16 for llama.cpp, once: {target}."
    before, after = weights(source), weights(target)
    assert before.keys() == after.keys()
    for name, weight in before.items():
        np.testing.assert_array_equal(after[name], weight.astype(np.float16).astype(np.float32))
    assert {one.kind for one in read_header(target).tensors.values()} == {"F16", "F32"}
    assert made(source, target) == []


def test_what_is_damaged_or_older_than_its_source_is_written_again(source: Path, target: Path) -> None:
    made(source, target)
    whole = target.read_bytes()
    os.truncate(target, len(whole) - 1000)
    assert len(made(source, target)) == 1
    assert target.read_bytes() == whole
    later = target.stat().st_mtime + 10
    os.utime(source, (later, later))
    assert len(made(source, target)) == 1


def test_a_disk_without_room_is_said_before_the_work(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def full(folder: Path, needed: int) -> str:
        asked.append(needed)
        return "the disk is full"

    monkeypatch.setattr(quantiser, "space_problem", full)
    with pytest.raises(BackendError, match=r"small-F16.gguf cannot be made: the disk is full; eat less\."):
        made(source, target)
    monkeypatch.undo()
    made(source, target)
    assert asked[0] == pytest.approx(target.stat().st_size, rel=0.05)


def test_a_failure_leaves_nothing(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantiser.load_library(), "llama_model_quantize", lambda *_: 1)
    with pytest.raises(BackendError, match=r"llama\.cpp failed to write .*Q4_0.gguf as F16"):
        made(source, target)
    assert [one for one in target.parent.iterdir() if one.suffix != ".lock"] == []


def test_a_folder_that_cannot_be_written_is_said(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BackendError, match=r"small-F16.gguf cannot be written: .*; eat less\."):
        made(source, tmp_path / "file" / "small-F16.gguf")


def test_a_damaged_source_is_said(source: Path, target: Path) -> None:
    os.truncate(source, 5000)
    with pytest.raises(BundleError, match=r"small-Q4_0.gguf is cut short or damaged"):
        made(source, target)
    assert not target.exists()
