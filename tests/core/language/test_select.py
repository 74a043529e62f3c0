"""Which backend is chosen, and what is said where one cannot be."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from minigpt4.core.bundle import Bundle, load_bundle
from minigpt4.core.errors import BackendError, BundleError, UsageError
from minigpt4.core.language.llamacpp import LlamaCppLanguageModel, load_library
from minigpt4.core.language.select import load_language_model
from minigpt4.core.language.torch import TorchLanguageModel


@pytest.fixture
def without_llama_cpp(monkeypatch: pytest.MonkeyPatch) -> None:
    load_library.cache_clear()
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    monkeypatch.setitem(sys.modules, "llama_cpp.llama_cpp", None)


def test_auto_takes_llama_cpp_where_it_is_installed(mini: Bundle) -> None:
    pytest.importorskip("llama_cpp")
    model = load_language_model(mini)
    assert isinstance(model, LlamaCppLanguageModel)
    model.close()


def test_auto_takes_torch_where_llama_cpp_is_missing(mini: Bundle, without_llama_cpp: None) -> None:
    model = load_language_model(mini, device="cpu")
    assert isinstance(model, TorchLanguageModel)
    model.close()


def test_asking_for_llama_cpp_without_it_says_how_to_get_it(without_llama_cpp: None) -> None:
    with pytest.raises(BackendError, match=r"pip install 'minigpt4\[llama\]'.*--backend torch"):
        load_language_model(load_bundle("mini"), backend="llamacpp")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backend": "lama-cpp"}, "no backend 'lama-cpp'; did you mean 'llamacpp'"),
        ({"backend": "pytorch"}, "did you mean 'torch'"),
        ({"device": "gpu"}, "no device 'gpu'; did you mean 'cpu'"),
        ({"threads": 0}, "0 threads"),
        ({"context": 0}, "context of 0 positions"),
        ({"context": 1_000_000}, "'mini' was made for 1 to 2048"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(options: dict[str, str | int], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_language_model(load_bundle("mini"), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", ["torch", "llamacpp"])
def test_a_gpu_that_is_not_there_is_told(mini: Bundle, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if backend == "llamacpp":
        pytest.importorskip("llama_cpp")
        monkeypatch.setattr(load_library(), "llama_supports_gpu_offload", lambda: False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(BackendError, match="--device cpu"):
        load_language_model(mini, backend=backend, device="cuda")


@pytest.mark.parametrize("backend", ["torch", "llamacpp"])
def test_a_bundle_that_was_not_fetched_is_told(backend: str) -> None:
    if backend == "llamacpp":
        pytest.importorskip("llama_cpp")
    with pytest.raises(BundleError, match=r"cannot be read: No such file or directory.*models pull"):
        load_language_model(load_bundle("mini"), backend=backend, device="cpu")


@pytest.mark.parametrize("backend", ["torch", "llamacpp"])
def test_a_bundle_whose_width_is_wrong_is_told(mini: Bundle, backend: str) -> None:
    if backend == "llamacpp":
        pytest.importorskip("llama_cpp")
    wrong = replace(mini, language=replace(mini.language, width=512))
    with pytest.raises(BundleError, match="width 576, but the bundle 'mini' says 512"):
        load_language_model(wrong, backend=backend, device="cpu")


def test_choosing_a_backend_does_not_import_torch(mini: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    import subprocess

    program = (
        "import sys\n"
        "from minigpt4.core.bundle import load_bundle\n"
        "from minigpt4.core.language.select import load_language_model\n"
        "load_language_model(load_bundle('mini')).logits([100, 200])\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
