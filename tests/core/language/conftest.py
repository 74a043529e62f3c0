"""Both backends with mini's real language model, and with its first layers alone; each loaded once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from gguf import GGUFReader, GGUFValueType, GGUFWriter

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.language.base import LanguageModel
from minigpt4.core.weights.gguf.usable import usable_gguf

BACKENDS = ("torch", "llamacpp")
FEW_LAYERS = 5


@pytest.fixture(scope="session")
def torch_model(mini: Bundle) -> Iterator[LanguageModel]:
    from minigpt4.core.language.torch import TorchLanguageModel

    model = TorchLanguageModel.load(EngineOptions(mini))
    yield model
    model.close()


@pytest.fixture(scope="session")
def llamacpp_model(mini: Bundle) -> Iterator[LanguageModel]:
    pytest.importorskip("llama_cpp")
    from minigpt4.core.language.llamacpp import LlamaCppLanguageModel

    model = LlamaCppLanguageModel.load(EngineOptions(mini, device="cpu"))
    yield model
    model.close()


@pytest.fixture(params=BACKENDS)
def model(request: pytest.FixtureRequest, mini_home: Path) -> LanguageModel:
    """Each backend in turn, its cache empty."""
    model: LanguageModel = request.getfixturevalue(f"{request.param}_model")
    model.reset()
    return model


@pytest.fixture(scope="session")
def few_torch_model(mini: Bundle) -> Iterator[LanguageModel]:
    from minigpt4.core.language.hf_load import load_causal_lm, load_tokens
    from minigpt4.core.language.torch import TorchLanguageModel

    llama = load_causal_lm(mini, device="cpu")
    llama.model.layers = llama.model.layers[:FEW_LAYERS]
    llama.config.num_hidden_layers = FEW_LAYERS
    context = mini.language.context
    model = TorchLanguageModel(llama, load_tokens(mini), context=context, device="cpu")
    yield model
    model.close()


@pytest.fixture(scope="session")
def few_llamacpp_model(mini: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanguageModel]:
    pytest.importorskip("llama_cpp")
    from minigpt4.core.language.llamacpp import LlamaCppLanguageModel

    path = tmp_path_factory.mktemp("few-layers") / "few.gguf"
    write_first_layers(usable_gguf(mini, "auto", lambda _: None), path, FEW_LAYERS)
    language = replace(mini.language, files=(), path=path, dequantised=False)
    model = LlamaCppLanguageModel.load(EngineOptions(replace(mini, language=language), device="cpu"))
    yield model
    model.close()


@pytest.fixture(params=BACKENDS)
def few_model(request: pytest.FixtureRequest, mini_home: Path) -> LanguageModel:
    """Each backend with the first layers, its cache empty: for what is the same in every layer."""
    model: LanguageModel = request.getfixturevalue(f"few_{request.param}_model")
    model.reset()
    return model


def write_first_layers(source: Path, target: Path, layers: int) -> None:
    """A GGUF of a LLaMA with so many of its layers."""
    reader, writer = GGUFReader(source), GGUFWriter(target, "llama")
    for name, value in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            of = value.types[-1] if value.types[0] == GGUFValueType.ARRAY else None
            content = layers if name == "llama.block_count" else value.contents()
            writer.add_key_value(name, content, value.types[0], of)
    for tensor in reader.tensors:
        if not tensor.name.startswith("blk.") or int(tensor.name.split(".")[1]) < layers:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
