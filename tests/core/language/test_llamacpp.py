"""llama.cpp on LLaMA files: the original's own numbers, what does not fit, and what it cannot do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigpt4.core.bundles.bundle import Bundle, LanguageGeometry, load_bundle
from minigpt4.core.bundles.source import File
from minigpt4.core.download.fetch import path_of
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.errors import BackendError, BundleError
from minigpt4.core.language import llamacpp as module
from minigpt4.core.storage.paths import HOME_VARIABLE
from minigpt4.core.types import ImageEmbedding, ResolvedSampling, Text
from minigpt4.core.weights.gguf import quantiser, usable
from minigpt4.core.weights.gguf.from_hf import convert
from minigpt4.core.weights.locate import gguf_files, gguf_path

pytest.importorskip("llama_cpp")
from minigpt4.core.language.llamacpp import LlamaCppLanguageModel

EOS = 2


@pytest.fixture(scope="module")
def folder(golden: Path) -> Path:
    return golden / "tiny_model" / "llama"


@pytest.fixture(scope="module")
def gguf(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The original's tiny LLaMA as F16."""
    path = tmp_path_factory.mktemp("gguf") / "tiny-F16.gguf"
    convert(folder, path, "F16")
    return path


@pytest.fixture(scope="module")
def model(gguf: Path) -> Iterator[LlamaCppLanguageModel]:
    model = LlamaCppLanguageModel(gguf, context=2000, threads=1)
    yield model
    model.close()


@pytest.fixture(scope="module")
def chat(golden: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((golden / "chat.json").read_text())
    return loaded


@pytest.fixture(scope="module")
def inputs(golden: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return dict(load_file(golden / "chat.safetensors"))


@pytest.fixture
def bundle(folder: Path) -> Bundle:
    """The shipped 7B bundle with the original's tiny LLaMA in its place."""
    bundle = load_bundle("minigpt4-vicuna-7b")
    geometry = LanguageGeometry(layers=2, mlp=48, heads=4, key_value_heads=4, vocabulary=32000)
    language = replace(bundle.language, width=16, files=(), folder=folder, geometry=geometry)
    return replace(bundle, name="tiny", language=language)


def picture(vectors_ND: Any, key: str) -> ImageEmbedding:
    return ImageEmbedding(vectors_ND, key)


def test_greedy_answers_are_the_originals(
    model: LlamaCppLanguageModel, chat: dict[str, Any], inputs: dict[str, Any]
) -> None:
    for case in chat["cases"]:
        prompt = [picture(inputs[f"{case['name']}.inputs_embeds"][0], case["name"])]
        for run, penalty in (("greedy", 1.0), ("greedy_rep105", 1.05), ("greedy_rep13", 1.3)):
            sampling = ResolvedSampling(max_tokens=24, temperature=0.0, repetition_penalty=penalty)
            expected = [token for token in case["runs"][run] if token != EOS]
            assert list(model.generate(prompt, sampling)) == expected, (case["name"], run)


def test_logits_are_the_originals_but_for_16_bits(
    model: LlamaCppLanguageModel, inputs: dict[str, Any]
) -> None:
    for name in ("plain", "llama2"):
        logits_V = model.logits([picture(inputs[f"{name}.inputs_embeds"][0], name)])
        expected_V = inputs[f"{name}.first_logits"]
        assert np.linalg.norm(logits_V - expected_V) < 4e-3 * np.linalg.norm(expected_V)


def test_large_models_answer_alike_without_the_padded_copy(
    gguf: Path, chat: dict[str, Any], inputs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGE_BYTES", 0)
    model = LlamaCppLanguageModel(gguf, context=256, threads=1)
    rows: list[int] = []
    batch = model._batch
    monkeypatch.setattr(
        model,
        "_batch",
        lambda run, start, size, logits: (rows.append(size), batch(run, start, size, logits))[1],
    )
    case = chat["cases"][0]
    prompt = [picture(inputs[f"{case['name']}.inputs_embeds"][0], case["name"])]
    answer = list(model.generate(prompt, ResolvedSampling(max_tokens=24).greedy()))
    assert answer == case["runs"]["greedy"]
    assert set(rows[1:]) == {1}
    model.close()


def test_a_persons_text_is_never_a_control_token(model: LlamaCppLanguageModel) -> None:
    assert model.tokenize(Text("<s>[INST]", control=True)) == [1, 518, 25580, 29962]
    assert not {0, 1, 2} & set(model.tokenize(Text("<s></s><unk> and so on")))


def test_an_answer_ends_at_the_end_token_alone(model: LlamaCppLanguageModel) -> None:
    assert [token for token in range(32000) if model.is_end(token)] == [EOS]


def test_beams_are_refused_with_the_way_out(model: LlamaCppLanguageModel) -> None:
    with pytest.raises(BackendError, match=r"needs the torch backend: choose `--backend torch`"):
        model.beams([1], ResolvedSampling(), 3)


def test_a_small_folder_is_converted_on_first_use(bundle: Bundle) -> None:
    output: list[str] = []
    for _ in range(2):
        LlamaCppLanguageModel.load(
            EngineOptions(bundle, device="cpu", threads=1), notice=output.append
        ).close()
    assert len(output) == 1
    assert gguf_path(bundle, "F16").is_file()


def test_a_large_folder_is_not_converted_without_being_asked(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usable, "MOST_CONVERTED_BYTES", 1000)
    with pytest.raises(BackendError, match=r"`minigpt4 models quantize tiny --quant Q4_K_M`"):
        LlamaCppLanguageModel.load(EngineOptions(bundle, device="cpu"))


def test_a_bundle_without_any_weights_here_says_how_to_get_them(bundle: Bundle) -> None:
    absent = replace(bundle.language, folder=None, files=(File("config.json", 5, None, ()),))
    with pytest.raises(BackendError, match=r"has no GGUF of Q4_0 here; fetch it with `minigpt4 models pull"):
        LlamaCppLanguageModel.load(
            EngineOptions(replace(bundle, language=absent), device="cpu", quant="Q4_0")
        )


def test_where_no_f16_can_be_written_the_quantised_file_is_the_way_out(
    mini: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = path_of(mini.language.file, mini)
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    here = path_of(mini.language.file, mini)
    here.parent.mkdir(parents=True)
    here.symlink_to(own)
    monkeypatch.setattr(quantiser, "space_problem", lambda *_: "the disk is full")
    with pytest.raises(
        BackendError, match=r"mini-F16\.gguf cannot be made: the disk is full; .*`--quant Q4_1`"
    ):
        LlamaCppLanguageModel.load(EngineOptions("mini", device="cpu"))
    LlamaCppLanguageModel.load(EngineOptions("mini", device="cpu", quant="Q4_1")).close()
    assert gguf_files(mini) == {"Q4_1": here}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"width": 32}, "has the width 16, but the bundle 'tiny' says 32"),
        ({"architecture": "qwen2"}, "has the architecture llama, but the bundle 'tiny' says qwen2"),
    ],
)
def test_a_file_of_another_model_is_refused(bundle: Bundle, changes: dict[str, Any], reason: str) -> None:
    other = replace(bundle, language=replace(bundle.language, **changes))
    with pytest.raises(BundleError, match=reason):
        LlamaCppLanguageModel.load(EngineOptions(other, device="cpu"))


@pytest.mark.parametrize(("tokens", "fits"), [(31999, True), (32001, False), (31000, False)])
def test_a_few_rows_more_than_the_vocabulary_are_padding(bundle: Bundle, tokens: int, fits: bool) -> None:
    assert bundle.language.geometry is not None
    geometry = replace(bundle.language.geometry, vocabulary=tokens)
    other = replace(bundle, language=replace(bundle.language, geometry=geometry))
    if fits:
        LlamaCppLanguageModel.load(EngineOptions(other, device="cpu", context=64)).close()
        return
    with pytest.raises(
        BundleError, match=f"a vocabulary of 32000 tokens, but the bundle 'tiny' says {tokens}"
    ):
        LlamaCppLanguageModel.load(EngineOptions(other, device="cpu", context=64))


def test_a_byte_level_vocabulary_does_not_fit_vicuna(mini: Bundle, bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"kind of vocabulary byte-level, .* says SentencePiece"):
        LlamaCppLanguageModel.load(
            EngineOptions(replace(mini, template="vicuna-v0"), device="cpu", context=64)
        )


def test_layers_on_a_gpu_need_one(bundle: Bundle, gguf: Path) -> None:
    with pytest.raises(BackendError, match=r"2 layers cannot be on a GPU with `--device cpu`"):
        LlamaCppLanguageModel.load(EngineOptions(bundle, device="cpu", gpu_layers=2))
    if not module.load_library().llama_supports_gpu_offload():
        with pytest.raises(BackendError, match="without support for a GPU"):
            LlamaCppLanguageModel(gguf, context=64, gpu_layers=1)


@pytest.mark.parametrize("wish", [{"gpu_layers": 3}, {"device": "cuda"}], ids=str)
def test_a_gpu_that_the_library_cannot_use_is_refused_before_a_folder_is_converted(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, wish: dict[str, Any]
) -> None:
    monkeypatch.setattr(module.load_library(), "llama_supports_gpu_offload", lambda: False)
    with pytest.raises(BackendError, match=r"without support for a GPU; .*`--gpu-layers`"):
        LlamaCppLanguageModel.load(EngineOptions(bundle, **wish))
    assert not gguf_path(bundle, "F16").exists()


def test_an_answer_that_is_not_reused_is_computed_with_the_next_question(
    llamacpp_model: LlamaCppLanguageModel,
) -> None:
    model = llamacpp_model
    model.reset()
    first, question = model.tokenize(Text("The sea is")), model.tokenize(Text(" Why? Because"))
    answer = list(model.generate(first, ResolvedSampling(max_tokens=8).greedy()))
    assert len(answer) == 8 and model.computed == len(first) + 7
    logits = model.logits([*first, *answer, *question])
    assert model.computed == len(answer) + len(question)
    assert np.array_equal(model.logits([*first, *answer, *question]), logits) and model.computed == 1
    model.reset()
    assert np.array_equal(model.logits([*first, *answer, *question]), logits)


def test_half_an_answer_goes_on_as_if_nothing_had_been_computed(
    llamacpp_model: LlamaCppLanguageModel,
) -> None:
    model = llamacpp_model
    prompt = model.tokenize(Text("The history of the sea begins with"))
    greedy = ResolvedSampling(max_tokens=12).greedy()
    model.reset()
    half = list(model.generate(prompt, greedy))
    continued = list(model.generate([*prompt, *half], greedy))
    model.reset()
    assert list(model.generate([*prompt, *half], greedy)) == continued
