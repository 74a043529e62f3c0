"""Which backend is chosen, and what is said where one cannot be."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from minigpt4.core.bundles.bundle import Bundle, load_bundle
from minigpt4.core.cores import threads_for
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.errors import BackendError, BundleError, UsageError
from minigpt4.core.language.llamacpp import LlamaCppLanguageModel
from minigpt4.core.language.load import (
    check_memory,
    choices_made,
    choose_backend,
    load_language_model,
    needed_files,
)
from minigpt4.core.language.torch import TorchLanguageModel
from minigpt4.core.weights.llama_library import load_library
from minigpt4.core.weights.locate import gguf_path


@pytest.fixture
def without_llama_cpp(monkeypatch: pytest.MonkeyPatch) -> None:
    load_library.cache_clear()
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    monkeypatch.setitem(sys.modules, "llama_cpp.llama_cpp", None)


def test_auto_takes_llama_cpp_where_it_is_installed(mini: Bundle) -> None:
    pytest.importorskip("llama_cpp")
    model = load_language_model(EngineOptions(mini))
    assert isinstance(model, LlamaCppLanguageModel)
    model.close()


def test_auto_takes_torch_where_llama_cpp_is_missing(mini: Bundle, without_llama_cpp: None) -> None:
    model = load_language_model(EngineOptions(mini, device="cpu"))
    assert isinstance(model, TorchLanguageModel)
    model.close()


def test_what_auto_means_with_llama_cpp_is_told() -> None:
    pytest.importorskip("llama_cpp")
    made = choices_made(EngineOptions("mini", device="cpu"))
    assert made == {
        "backend": "llamacpp",
        "device": "cpu",
        "quant": "F16",
        "threads": str(threads_for(None)),
        "gpu_layers": "none",
    }
    assert choices_made(EngineOptions("mini", device="cpu", threads=1))["threads"] == "1"


def test_what_auto_means_without_llama_cpp_is_told(
    without_llama_cpp: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    made = choices_made(EngineOptions("mini"))
    assert (made["backend"], made["device"], made["quant"]) == ("torch", "cpu", "fp32")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    made = choices_made(EngineOptions("mini"))
    assert (made["device"], made["gpu_layers"]) == ("cuda", "all")


def test_asking_for_llama_cpp_without_it_says_how_to_get_it(without_llama_cpp: None) -> None:
    with pytest.raises(BackendError, match=r"pip install 'minigpt4\[llama\]'.*--backend torch"):
        load_language_model(EngineOptions(load_bundle("mini"), backend="llamacpp"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backend": "lama-cpp"}, "no backend 'lama-cpp'; did you mean 'llamacpp'"),
        ({"backend": "pytorch"}, "did you mean 'torch'"),
        ({"device": "gpu"}, "no device 'gpu'; choose auto, cpu, cuda or cuda:N"),
        ({"threads": 0}, "--threads is 0"),
        ({"context": 0}, "context of 0 positions"),
        ({"context": 1_000_000}, "'mini' was made for 1 to 2048"),
        ({"quant": "q4_0"}, "no quantisation 'q4_0'; did you mean 'Q4_0'"),
        ({"quant": "nf5"}, "did you mean 'nf4'"),
        ({"quant": "nf4", "backend": "llamacpp"}, "'nf4' is not one of llama.cpp's.*`--backend torch`"),
        ({"quant": "Q4_0", "backend": "torch"}, "'Q4_0' is not one of torch's.*`--backend llamacpp`"),
        ({"dtype": "float8"}, "no float type 'float8'"),
        ({"gpu_layers": -1}, "-1 layers cannot be on a GPU"),
        ({"gpu_layers": 3, "backend": "torch"}, "--gpu-layers 3 is for llama.cpp"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(options: dict[str, str | int], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_language_model(EngineOptions(load_bundle("mini"), **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("quant", "backend"), [("int8", "torch"), ("bf16", "torch"), ("Q4_K_M", "llamacpp"), ("F16", "llamacpp")]
)
def test_a_quantisation_chooses_its_backend(quant: str, backend: str) -> None:
    assert choose_backend(EngineOptions(load_bundle("mini"), quant=quant)) == backend
    assert choose_backend(EngineOptions(load_bundle("minigpt4-vicuna-7b"), quant=quant)) == backend


def test_auto_takes_torch_until_a_gguf_is_made(import_tiny: Callable[..., Bundle]) -> None:
    pytest.importorskip("llama_cpp")
    bundle = import_tiny()
    assert choose_backend(EngineOptions(bundle)) == "torch"
    gguf = gguf_path(bundle, "Q8_0")
    gguf.parent.mkdir()
    gguf.write_bytes(b"GGUF")
    assert choose_backend(EngineOptions(bundle)) == "llamacpp"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"backend": "torch", "device": "cpu", "quant": "bf16"},
            r"in bf16 needs 28\.\d GiB .* Q4_K_M would fit",
        ),
        ({"backend": "llamacpp", "device": "cpu", "quant": "F16"}, "in F16 needs 28.* Q4_K_M would fit"),
    ],
    ids=["torch", "llamacpp"],
)
def test_what_memory_cannot_hold_is_refused_with_what_would_fit(
    options: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if options["backend"] == "llamacpp":
        pytest.importorskip("llama_cpp")
    monkeypatch.setattr("minigpt4.core.memory.free_memory", lambda _device: 12 << 30)
    monkeypatch.setattr("minigpt4.core.dtypes.has_bf16", lambda: True)
    bundle = load_bundle("minigpt4-vicuna-13b")
    for refuse in (check_memory, load_language_model):
        with pytest.raises(BackendError, match=words):
            refuse(EngineOptions(bundle, **options))  # type: ignore[arg-type, operator]


@pytest.mark.parametrize("backend", ["torch", "llamacpp"])
def test_a_gpu_that_is_not_there_is_reported(
    mini: Bundle, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backend == "llamacpp":
        pytest.importorskip("llama_cpp")
        monkeypatch.setattr(load_library(), "llama_supports_gpu_offload", lambda: False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(BackendError, match="--device cpu"):
        load_language_model(EngineOptions(mini, backend=backend, device="cuda"))


@pytest.mark.parametrize("backend", ["torch", "llamacpp"])
def test_a_bundle_that_was_not_fetched_is_reported(backend: str) -> None:
    if backend == "llamacpp":
        pytest.importorskip("llama_cpp")
    with pytest.raises(BundleError, match=r"cannot be read: No such file or directory.*models pull"):
        load_language_model(EngineOptions(load_bundle("mini"), backend=backend, device="cpu"))


@pytest.mark.parametrize("backend", ["torch", "llamacpp"])
def test_a_bundle_whose_width_is_wrong_is_reported(mini: Bundle, backend: str) -> None:
    if backend == "llamacpp":
        pytest.importorskip("llama_cpp")
    wrong = replace(mini, language=replace(mini.language, width=512))
    with pytest.raises(BundleError, match=r"width 576, but .* says 512"):
        load_language_model(EngineOptions(wrong, backend=backend, device="cpu"))


def test_choosing_a_backend_does_not_import_torch(mini: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    import subprocess

    program = (
        "import sys\n"
        "from minigpt4.core.engine_options import EngineOptions\n"
        "from minigpt4.core.language.load import load_language_model\n"
        "load_language_model(EngineOptions('mini')).logits([100, 200])\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_gguf_made_here_takes_the_place_of_the_files_it_was_made_from() -> None:
    pytest.importorskip("llama_cpp")
    bundle = load_bundle("minigpt4-vicuna-7b")
    assert needed_files(EngineOptions(bundle)) == bundle.files
    gguf = gguf_path(bundle, "Q4_0")
    gguf.parent.mkdir(parents=True)
    gguf.write_bytes(b"GGUF")
    for choice in ({}, {"quant": "Q4_0"}, {"backend": "llamacpp"}):
        assert needed_files(EngineOptions(bundle, **choice)) == bundle.picture_files
    for choice in ({"backend": "torch"}, {"quant": "nf4"}, {"quant": "Q8_0"}):
        assert needed_files(EngineOptions(bundle, **choice)) == bundle.files


def test_without_llama_cpp_a_gguf_takes_no_files_place(without_llama_cpp: None) -> None:
    bundle = load_bundle("minigpt4-vicuna-7b")
    gguf = gguf_path(bundle, "Q4_0")
    gguf.parent.mkdir(parents=True)
    gguf.write_bytes(b"GGUF")
    assert needed_files(EngineOptions(bundle)) == bundle.files


def test_a_gguf_of_the_bundles_own_is_needed() -> None:
    mini = load_bundle("mini")
    assert mini.language.gguf in needed_files(EngineOptions(mini, "llamacpp"))
