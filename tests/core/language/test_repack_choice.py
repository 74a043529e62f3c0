"""Repacked weights: when they are used, what they take, and that small models keep their bits."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.conftest import WriteLlama

from minigpt4.core import memory
from minigpt4.core.bundle_making.random_weights import ggml_tensor
from minigpt4.core.bundles.bundle import Bundle, LanguageGeometry, load_bundle
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.language import repack_choice as module
from minigpt4.core.language.repack_choice import RepackChoice, choose_repacking
from minigpt4.core.memory import GIB, lack_of_room_for_copy
from minigpt4.core.weights import repacking
from minigpt4.core.weights.gguf.from_hf import convert
from minigpt4.core.weights.gguf.writer import LlamaShape, write_gguf
from minigpt4.core.weights.locate import gguf_path
from minigpt4.core.weights.repacking import Repacking
from minigpt4.core.weights.sentencepiece_vocab import made_up_vocabulary

pytest.importorskip("llama_cpp")
from minigpt4.core.language.llamacpp import LlamaCppLanguageModel

GOOD = Repacking(types=("Q4_0",), copied=7, keeps_bits=True)
ON = RepackChoice(is_on=True)
TOKENS = 300


def small(path: Path, quant: str, write_llama: WriteLlama) -> Path:
    """A Llama of random weights, in the packing that `models quantize` gives it."""
    if quant == "Q4_0":
        shape = LlamaShape(
            layers=2, width=576, mlp=1536, heads=9, key_heads=3, vocabulary=TOKENS, context=512
        )
        write_gguf(
            path,
            shape,
            made_up_vocabulary(TOKENS),
            name="small",
            quant=quant,
            kind=lambda _, size: "F32" if len(size) == 1 else quant,
            content=lambda name, size, kind: ggml_tensor(0, name, size, kind),
        )
    else:
        convert(write_llama(path.parent / quant, width=768, rows=TOKENS, tokens=TOKENS), path, quant)
    return path


@pytest.mark.parametrize("quant", ["Q4_0", "Q4_K_M", "Q8_0"])
def test_a_small_models_logits_do_not_depend_on_how_a_prompt_is_cut(
    quant: str, tmp_path: Path, write_llama: WriteLlama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repacking, "LIMIT_S", 300)
    gguf = small(tmp_path / f"small-{quant}.gguf", quant, write_llama)
    options = EngineOptions(load_bundle("minigpt4-vicuna-7b"), device="cpu")
    choice = choose_repacking(options, gguf, is_on_gpu=False, is_large=False, notice=print)
    assert "trial" not in choice.reason
    model = LlamaCppLanguageModel(gguf, context=256, threads=1, repack=choice)
    prompt = np.random.default_rng(0).integers(3, TOKENS, 90).tolist()
    whole_V = model.logits(prompt)

    @settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.integers(1, len(prompt)), max_size=8, unique=True).map(sorted))
    def cut(places: list[int]) -> None:
        model.reset()
        for place in places:
            model.logits(prompt[:place])
        assert np.array_equal(model.logits(prompt), whole_V)

    cut()
    model.close()


def test_a_bundles_weights_are_repacked_unless_it_is_forbidden(
    tmp_path: Path, write_llama: WriteLlama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repacking, "LIMIT_S", 300)
    bundle = load_bundle("minigpt4-vicuna-7b")
    geometry = LanguageGeometry(layers=2, mlp=1536, heads=9, key_value_heads=3, vocabulary=TOKENS)
    bundle = replace(bundle, language=replace(bundle.language, width=576, context=64, geometry=geometry))
    gguf = gguf_path(bundle, "Q4_0")
    gguf.parent.mkdir(parents=True)
    small(gguf, "Q4_0", write_llama)
    told = {}
    for repack in (True, False):
        options = EngineOptions(bundle, device="cpu", threads=1, repack=repack)
        model = LlamaCppLanguageModel.load(options)
        told[repack] = model.choices["repack"]
        model.close()
    copies = repacking.repacking(gguf).types == ("Q4_0",)
    assert told[True] == ("on" if copies else "off: llama.cpp has no repacked form of these weights here")
    assert told[False] == "off: as asked"


def test_repacked_and_plain_weights_agree(tmp_path: Path, write_llama: WriteLlama) -> None:
    gguf = small(tmp_path / "small-Q4_0.gguf", "Q4_0", write_llama)
    prompt = list(range(100, 140))
    logits = []
    for choice in (ON, RepackChoice(is_on=False)):
        model = LlamaCppLanguageModel(gguf, context=64, threads=1, repack=choice)
        logits.append(model.logits(prompt))
        model.close()
    assert np.linalg.norm(logits[0] - logits[1]) < 0.05 * np.linalg.norm(logits[1])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the pages of a file")
def test_the_files_pages_do_not_count_beside_the_copy(tmp_path: Path, write_llama: WriteLlama) -> None:
    gguf = small(tmp_path / "small-Q4_0.gguf", "Q4_0", write_llama)
    resident = {}
    for choice in (RepackChoice(is_on=False), ON):
        model = LlamaCppLanguageModel(gguf, context=64, threads=1, repack=choice)
        resident[choice.is_on] = _resident(gguf)
        model.close()
    assert resident[False] > 0.9 * gguf.stat().st_size
    assert resident[True] < 0.1 * gguf.stat().st_size


def _resident(path: Path) -> int:
    lines = iter(Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines())
    total = 0
    for line in lines:
        if line.endswith(f" {path}"):
            total += next(int(one.split()[1]) for one in lines if one.startswith("Rss:")) * 1024
    return total


# -- the choice ---------------------------------------------------------------------------------------


@pytest.fixture
def bundle() -> Bundle:
    """The shipped 7B with a file in the place of its GGUF."""
    bundle = load_bundle("minigpt4-vicuna-7b")
    path = gguf_path(bundle, "Q4_0")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"GGUF")
    return bundle


def chosen(
    monkeypatch: pytest.MonkeyPatch,
    bundle: Bundle,
    verdict: Repacking = GOOD,
    *,
    free: int | None = 64 * GIB,
    repack: bool = True,
    is_on_gpu: bool = False,
    is_large: bool = True,
) -> tuple[str, list[str]]:
    """The choice as it is told, and the notices."""
    monkeypatch.setattr(module, "repacking", lambda _: verdict)
    monkeypatch.setattr(memory, "free_memory", lambda: free)
    notices: list[str] = []
    choice = choose_repacking(
        EngineOptions(bundle, repack=repack),
        gguf_path(bundle, "Q4_0"),
        is_on_gpu=is_on_gpu,
        is_large=is_large,
        notice=notices.append,
    )
    return str(choice), notices


def test_weights_are_repacked_unless_something_speaks_against_it(
    monkeypatch: pytest.MonkeyPatch, bundle: Bundle
) -> None:
    assert chosen(monkeypatch, bundle) == ("on", [])
    assert chosen(monkeypatch, bundle, free=None) == ("on", [])
    assert chosen(monkeypatch, bundle, repack=False) == ("off: as asked", [])
    assert chosen(monkeypatch, bundle, is_on_gpu=True) == ("off: layers are on a GPU", [])
    crashed = Repacking("ended with SIGSEGV")
    assert chosen(monkeypatch, bundle, crashed) == ("off: a trial in another process ended with SIGSEGV", [])
    assert chosen(monkeypatch, bundle, Repacking())[0].startswith("off: llama.cpp has no repacked form")


def test_kernels_that_would_change_bits_are_for_large_models_alone(
    monkeypatch: pytest.MonkeyPatch, bundle: Bundle
) -> None:
    uneven = replace(GOOD, keeps_bits=False)
    assert chosen(monkeypatch, bundle, uneven, is_large=True)[0] == "on"
    assert chosen(monkeypatch, bundle, uneven, is_large=False)[0] == f"off: {module.DIFFERENT_BITS}"
    assert chosen(monkeypatch, bundle, is_large=False)[0] == "on"


def test_too_little_memory_is_said(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> None:
    needed = sum(memory.memory_needed(bundle, "Q4_0").values())
    told, notices = chosen(monkeypatch, bundle, free=needed)
    lack = f"{memory.gib(needed + 1)} would have to be free, and {memory.gib(needed)} are"
    assert told == f"off: too little memory: {lack}"
    assert notices == [f"The weights are not repacked for this processor, which would be faster: {lack}."]


def test_a_quarter_of_the_weights_has_to_stay_free(bundle: Bundle) -> None:
    path = gguf_path(bundle, "Q4_0")
    parts = memory.memory_needed(bundle, "Q4_0", tower_dtype="auto")
    needed = sum(parts.values()) + parts["language model"] // 4
    options = EngineOptions(bundle)
    assert lack_of_room_for_copy(options, path, free=needed) == ""
    assert lack_of_room_for_copy(options, path, free=needed - 1) != ""
    shorter = replace(options, context=100)
    assert lack_of_room_for_copy(shorter, path, free=needed - 1) == ""


def test_a_copy_that_cannot_be_made_is_done_without(
    tmp_path: Path, write_llama: WriteLlama, monkeypatch: pytest.MonkeyPatch
) -> None:
    from minigpt4.core.weights.llama_library import load_library

    library = load_library()
    load = library.llama_model_load_from_file
    monkeypatch.setattr(
        library,
        "llama_model_load_from_file",
        lambda path, asked: None if asked.use_extra_bufts else load(path, asked),
    )
    gguf = small(tmp_path / "small-Q4_0.gguf", "Q4_0", write_llama)
    model = LlamaCppLanguageModel(gguf, context=64, threads=1, repack=ON)
    assert str(model.repack).startswith("off: the copy was not made")
    assert np.isfinite(model.logits([5, 6, 7])).all()
    model.close()
