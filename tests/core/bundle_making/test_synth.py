"""Synthetic bundles have the true names, shapes and sizes, and both backends run them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from minigpt4.core.bundle_making.random_weights import BLOCKS, blocks, generator_for, normals
from minigpt4.core.bundle_making.synth import synth
from minigpt4.core.bundles.bundle import Bundle, LanguageGeometry, load_bundle
from minigpt4.core.bundles.geometry import QFormerGeometry
from minigpt4.core.download.fetch import (
    FetchProgress,
    bundles_folder,
    is_whole,
    missing,
    path_of,
    projection_path,
)
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.errors import BackendError, UsageError
from minigpt4.core.types import ImageEmbedding, ResolvedSampling, Text
from minigpt4.core.weights.gguf.header import read_header
from minigpt4.core.weights.hf_folder import LlamaFolder
from minigpt4.core.weights.locate import choose_gguf, hf_folder
from minigpt4.core.weights.sentencepiece_vocab import made_up_vocabulary, sentencepiece_bytes

if TYPE_CHECKING:
    from minigpt4.core.projection import Projection

VOCABULARY = 900


@pytest.fixture
def tiny() -> Bundle:
    """The shipped 7B bundle with every size made small."""
    bundle = load_bundle("minigpt4-vicuna-7b")
    assert bundle.qformer is not None
    vision = {"width": 32, "depth": 2, "heads": 4, "mlp": 48, "patch": 14}
    qformer = QFormerGeometry(queries=4, width=24, layers=2, heads=4, mlp=48, cross_attention_every=2)
    return replace(
        bundle,
        name="tiny",
        vision=replace(bundle.vision, options=vision, image_size=56),
        qformer=replace(bundle.qformer, options=qformer),
        projection=replace(bundle.projection, inputs=24, outputs=64, image_tokens=4),
        language=replace(
            bundle.language,
            width=64,
            context=256,
            geometry=LanguageGeometry(layers=2, mlp=96, heads=4, key_value_heads=2, vocabulary=VOCABULARY),
        ),
    )


def projection_of(bundle: Bundle) -> Projection:
    from minigpt4.core.projection import load_projection

    spec = bundle.projection
    return load_projection(
        projection_path(bundle), inputs=spec.inputs, outputs=spec.outputs, layers=spec.layers
    )


def contents(name: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (bundles_folder() / name).iterdir()}


def test_the_bundle_is_whole_and_describes_its_files(tiny: Bundle) -> None:
    name = synth(tiny, gguf="Q4_0")
    made = load_bundle(name)
    assert name == "tiny-synth"
    assert not missing(made) and all(is_whole(file, made) for file in made.files)
    assert (made.vision.options, made.language.geometry) == (tiny.vision.options, tiny.language.geometry)
    assert "random weights" in made.summary and not any(file.sources for file in made.files)


def test_tower_q_former_and_projection_load_and_give_finite_vectors(tiny: Bundle) -> None:
    import torch

    from minigpt4.core.vision.tower import load_tower

    made = load_bundle(synth(tiny, gguf="Q4_0"))
    features_BND = load_tower(made, dtype="fp32").encode(torch.zeros(1, 3, 56, 56))
    image_BND = projection_of(made)(features_BND)
    assert image_BND.shape == (1, 4, 64) and bool(torch.isfinite(image_BND).all())
    assert 0.005 < float(image_BND.std()) < 0.08, "as spread as the language model's embeddings"


@pytest.mark.parametrize("gguf", ["Q4_0", "Q8_0", "F16"])
def test_a_synthetic_gguf_answers_in_llama_cpp(tiny: Bundle, gguf: str) -> None:
    pytest.importorskip("llama_cpp")
    from minigpt4.core.language.llamacpp import LlamaCppLanguageModel

    made = load_bundle(synth(tiny, gguf=gguf))
    path = choose_gguf(made)
    assert path is not None and read_header(path).tensors["blk.1.ffn_up.weight"].kind == gguf
    model = LlamaCppLanguageModel.load(EngineOptions(made, device="cpu", threads=1))
    picture = ImageEmbedding(np.zeros((4, 64), dtype=np.float32), "grey")
    prompt = [1, picture, *model.tokenize(Text("What is it?###", control=True))]
    assert np.isfinite(model.logits(prompt)).all()
    assert len(list(model.generate(prompt, ResolvedSampling(max_tokens=4).greedy()))) <= 4
    model.close()


def test_a_synthetic_folder_is_a_whole_llama_in_shards(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minigpt4.core.bundle_making.synth.SHARD_BYTES", 150_000)
    made = load_bundle(synth(tiny))
    folder = hf_folder(made)
    assert folder is not None
    shape = LlamaFolder(folder).shape
    assert (shape.layers, shape.width, shape.key_heads, shape.vocabulary) == (2, 64, 2, VOCABULARY)
    assert len(list(folder.glob("model-*-of-*.safetensors"))) > 1
    config = json.loads((folder / "config.json").read_text())
    assert config["torch_dtype"] == "bfloat16" and config["eos_token_id"] == 2


def test_llama_cpp_converts_a_small_folder_once(tiny: Bundle) -> None:
    pytest.importorskip("llama_cpp")
    from minigpt4.core.language.llamacpp import LlamaCppLanguageModel

    made = load_bundle(synth(tiny))
    output: list[str] = []
    for _ in range(2):
        LlamaCppLanguageModel.load(EngineOptions(made, device="cpu", threads=1), notice=output.append).close()
    assert len(output) == 1 and "is converted for llama.cpp, once" in output[0]
    with pytest.raises(BackendError, match="models quantize tiny-synth --quant Q8_0"):
        LlamaCppLanguageModel.load(EngineOptions(made, device="cpu", quant="Q8_0"))


def test_a_seed_gives_the_same_bytes_again_and_another_one_others(tiny: Bundle) -> None:
    first = contents(synth(tiny, seed=1, gguf="Q4_0"))
    assert contents(synth(tiny, seed=1, gguf="Q4_0")) == first
    second = contents(synth(tiny, seed=2, gguf="Q4_0"))
    assert second.keys() == first.keys()
    assert all(second[name] != first[name] and len(second[name]) == len(first[name]) for name in first)


def test_an_earlier_one_is_replaced(tiny: Bundle) -> None:
    synth(tiny)
    (bundles_folder() / "tiny-synth" / "gguf").mkdir()
    (bundles_folder() / "tiny-synth" / "gguf" / "tiny-synth-Q4_0.gguf").write_bytes(b"of the earlier one")
    made = load_bundle(synth(tiny, gguf="F16"))
    assert sorted(contents(made.name)) == sorted(file.name for file in made.files)


def test_a_given_vocabulary_is_used(tiny: Bundle, tmp_path: Path) -> None:
    given = tmp_path / "tokenizer.model"
    given.write_bytes(sentencepiece_bytes(made_up_vocabulary(800)))
    made = load_bundle(synth(tiny, tokenizer=given))
    assert contents(made.name)["tokenizer.model"] == given.read_bytes()
    given.write_bytes(sentencepiece_bytes(made_up_vocabulary(1000)))
    with pytest.raises(UsageError, match="has 1000 tokens, but 'tiny' has only 900"):
        synth(tiny, tokenizer=given)


def test_three_layers_and_no_q_former_are_made_too(tiny: Bundle) -> None:
    vision = replace(tiny.vision, options={**tiny.vision.options, "patches_joined": 4})
    projection = replace(tiny.projection, inputs=128, layers=3)
    bare = replace(tiny, vision=vision, qformer=None, projection=projection)
    made = load_bundle(synth(bare, gguf="Q4_0"))
    assert made.qformer is None
    assert projection_of(made).layers == 3


def test_progress_names_every_file(tiny: Bundle) -> None:
    seen: list[FetchProgress] = []
    made = load_bundle(synth(tiny, gguf="Q4_0", progress=seen.append))
    assert {step.file for step in seen} == {file.name for file in made.files}
    assert path_of(made.files[0], made).is_file()


def test_what_cannot_be_made_is_refused(tiny: Bundle) -> None:
    with pytest.raises(UsageError, match=r"cannot be Q4_K_M; there is Q4_0, Q8_0, F16"):
        synth(tiny, gguf="Q4_K_M")
    with pytest.raises(UsageError, match=r"cannot be fp64; there is bf16, fp16"):
        synth(tiny, dtype="fp64")
    with pytest.raises(UsageError, match=r"'mini' cannot be made up: .*eva-vit-g"):
        synth(load_bundle("mini"))


def test_too_small_a_disk_leaves_the_earlier_one(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    made = synth(tiny, gguf="Q4_0")
    before = contents(made)
    monkeypatch.setattr(
        "minigpt4.core.download.sources.shutil.disk_usage", lambda _: type("Disk", (), {"free": -(10**9)})
    )
    with pytest.raises(BackendError, match=r"'tiny-synth' cannot be made: the disk"):
        synth(tiny, gguf="Q4_0")
    assert contents(made) == before


@pytest.mark.parametrize("kind", sorted(BLOCKS))
def test_random_blocks_have_the_spread_of_a_fresh_model(kind: str) -> None:
    from gguf import GGMLQuantizationType, dequantize

    packed = blocks(generator_for(0, "x"), 256 * 400, kind)
    numbers = dequantize(packed, GGMLQuantizationType[kind])
    assert math.isclose(float(numbers.std()), 0.02, rel_tol=0.05) and abs(float(numbers.mean())) < 0.001


def test_random_halves_have_the_spread_of_a_fresh_model() -> None:
    import torch

    for dtype in ("fp16", "bf16"):
        drawn = normals(generator_for(0, "x"), 100_001, dtype)
        numbers = torch.from_numpy(drawn.view(np.int16)).view(
            {"fp16": torch.float16, "bf16": torch.bfloat16}[dtype]
        )
        assert len(numbers) == 100_001 and math.isclose(float(numbers.float().std()), 0.02, rel_tol=0.02)
