"""Two GGUF files become a bundle where they lie, if they belong together; else a sentence says why not."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
from tests.conftest import RunMinigpt4
from tests.core.mtmd.conftest import Family

from minigpt4.core.bundle_making.import_pair import import_pair
from minigpt4.core.bundles.bundle import load_bundle
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.errors import BackendError, BundleError, UsageError
from minigpt4.core.memory import memory_needed, require_memory
from minigpt4.core.mtmd import try_pair as trial
from minigpt4.core.verify.verify import verify
from minigpt4.core.weights.gguf.pair import find_mmproj, find_pair


@pytest.fixture
def folder(families: dict[str, Family], tmp_path: Path) -> Path:
    """The two files of Gemma's family, and another family's mmproj."""
    made = tmp_path / "models"
    made.mkdir()
    shutil.copy(families["gemma3"].language, made / "gemma-3-tiny-it-F32.gguf")
    shutil.copy(families["gemma3"].mmproj, made / "mmproj-model-f16.gguf")
    shutil.copy(families["qwen25vl"].mmproj, made / "mmproj-qwen.gguf")
    return made


def test_an_imported_bundle_is_whole(families: dict[str, Family], folder: Path) -> None:
    made = import_pair("tiny", folder, template="gemma3")
    assert made.language.path == folder / "gemma-3-tiny-it-F32.gguf"
    assert made.mmproj is not None and made.mmproj.path == folder / "mmproj-model-f16.gguf"
    assert (made.language.width, made.language.context, made.template) == (64, 1024, "gemma3")
    assert made.image_tokens == 11  # nine vectors between two marks
    assert load_bundle("tiny") == made
    assert [check.state for check in verify("tiny")] == ["ok"] * 6
    with pytest.raises(UsageError, match="There is a bundle 'tiny' already"):
        import_pair("tiny", folder, template="gemma3")
    import_pair("tiny", folder, template="gemma3", force=True)
    (folder / "mmproj-model-f16.gguf").unlink()
    assert [check.state for check in verify("tiny")][-1] == "problem"


def test_files_that_do_not_belong_together_are_refused(families: dict[str, Family], folder: Path) -> None:
    gemma, qwen = families["gemma3"], families["qwen25vl"]
    with pytest.raises(BundleError, match="different families"):
        import_pair("bad", gemma.language, qwen.mmproj, template="gemma3")
    with pytest.raises(BundleError, match="give it as --mmproj and the language model as --gguf"):
        import_pair("bad", gemma.mmproj, gemma.language, template="gemma3")
    with pytest.raises(UsageError, match="There is no chat template 'gema3'"):
        import_pair("bad", gemma.language, gemma.mmproj, template="gema3")
    cut = folder / "cut.gguf"
    cut.write_bytes(gemma.mmproj.read_bytes()[:-1000])
    with pytest.raises(BundleError, match="cut short"):
        import_pair("bad", gemma.language, cut, template="gemma3")
    with pytest.raises(UsageError):
        load_bundle("bad")


def test_a_file_without_a_chat_template_gets_that_of_its_family(families: dict[str, Family]) -> None:
    told: list[str] = []
    for name, template in (("gemma3", "gemma3"), ("smolvlm", "smolvlm"), ("qwen25vl", "qwen2-vl")):
        made = import_pair(name, families[name].language, families[name].mmproj, notice=told.append)
        assert made.template == template
    assert [f"its family's, '{one}', is used" in told[n] for n, one in enumerate(("gemma3", "smolvlm"))] == [
        True,
        True,
    ]


def test_the_pair_is_chosen_by_what_the_files_say(families: dict[str, Family], folder: Path) -> None:
    assert find_pair(folder) == (folder / "gemma-3-tiny-it-F32.gguf", folder / "mmproj-model-f16.gguf")
    assert find_mmproj(folder / "gemma-3-tiny-it-F32.gguf") == folder / "mmproj-model-f16.gguf"
    (folder / "mmproj-model-f16.gguf").unlink()
    (folder / "mmproj-qwen.gguf").unlink()
    with pytest.raises(BundleError, match=r"holds no mmproj for pictures.*It holds: gemma-3-tiny"):
        find_pair(folder)
    with pytest.raises(BundleError, match="the file with its vision side is missing"):
        find_mmproj(folder / "gemma-3-tiny-it-F32.gguf")
    shutil.copy(families["smolvlm"].language, folder / "smolvlm.gguf")
    for name in ("gemma3", "smolvlm"):
        shutil.copy(families[name].mmproj, folder / f"mmproj-{name}.gguf")
    with pytest.raises(BundleError, match="several models"):
        find_pair(folder)


def test_a_crash_of_the_library_is_a_sentence(
    families: dict[str, Family], monkeypatch: pytest.MonkeyPatch
) -> None:
    family = families["gemma3"]

    def crash(*_: object, **__: object) -> object:
        import subprocess

        return subprocess.CompletedProcess([], -signal.SIGABRT, b"", b"")

    monkeypatch.setattr(trial.subprocess, "run", crash)
    with pytest.raises(BundleError, match="ended with signal SIGABRT"):
        import_pair("bad", family.language, family.mmproj, template="gemma3")


def test_too_little_memory_names_a_quantisation_that_fits(families: dict[str, Family]) -> None:
    bundle = families["qwen25vl"].bundle()
    parts = memory_needed(bundle, "GGUF")
    assert parts["language model"] == families["qwen25vl"].language.stat().st_size
    assert parts["key/value cache"] == 2 * 2 * 2 * 16 * 1024 * 2
    options = EngineOptions(bundle, device="cpu", quant="GGUF")
    with pytest.raises(BackendError, match="Q8_0 would fit with"):
        require_memory(options, free=sum(parts.values()) - 1000)
    with pytest.raises(BackendError, match="free memory"):
        require_memory(options, free=1000)
    require_memory(options, free=sum(parts.values()))


def test_ask_ends_with_a_sentence_if_the_library_crashes(
    families: dict[str, Family], run_minigpt4: RunMinigpt4, tmp_path: Path
) -> None:
    family, home = families["gemma3"], {"MINIGPT4_HOME": str(tmp_path / "home")}
    files = ("--gguf", family.language, "--mmproj", family.mmproj, "--template", "gemma3")
    assert run_minigpt4("models", "import", "tiny", *files, env=home).returncode == 0
    picture = family.folder / "exact.png"
    good = run_minigpt4("ask", "--bundle", "tiny", "-i", picture, "--max-tokens", "3", "What?", env=home)
    assert good.returncode == 0, good.stderr
    # A library that aborts when it is loaded, in place of libmtmd.
    fake = tmp_path / "lib"
    fake.mkdir()
    (fake / "sitecustomize.py").write_text(
        "import sys, os\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'llama_cpp.mtmd_cpp': os.abort()\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    env = home | {"PYTHONPATH": os.pathsep.join([str(fake), os.environ.get("PYTHONPATH", "")])}
    other = family.folder / "second.png"
    crashed = run_minigpt4("ask", "--bundle", "tiny", "-i", other, "--max-tokens", "3", "What?", env=env)
    assert crashed.returncode == 1, crashed.stderr
    assert "aborted in native code" in crashed.stderr
    assert "minigpt4 models verify tiny" in crashed.stderr
