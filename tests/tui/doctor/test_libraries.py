"""The checks of packages find those that are missing, too old, broken or built for another processor."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minigpt4.tui.doctor import libraries as doctor_libraries
from minigpt4.tui.doctor.finding import Finding
from minigpt4.tui.doctor.libraries import ImportProbe, LibraryProbe, LlamaProbe, TorchProbe

Run = Callable[..., subprocess.CompletedProcess[str]]


def only(findings: Iterator[Finding]) -> Finding:
    (found,) = findings
    return found


def probe_of(script: str, kind: type[LibraryProbe] = TorchProbe) -> list[Finding]:
    class Scripted(kind):  # type: ignore[valid-type, misc]
        pass

    Scripted.script = script
    with Scripted() as probe:
        return list(probe.findings())


def test_a_library_that_ends_its_process_is_a_problem_with_a_way_out() -> None:
    found = only(iter(probe_of("import os, signal; os.kill(os.getpid(), signal.SIGILL)", LlamaProbe)))
    assert found.state == "problem" and "SIGILL; it was built for another processor" in found.detail
    assert "pip install" in found.advice


def test_a_library_that_cannot_be_imported_is_reported_with_its_own_words() -> None:
    found = only(iter(probe_of("raise ImportError('libcudart.so.12: no such file')")))
    assert found.state == "problem" and "libcudart.so.12" in found.detail


def test_a_library_that_never_loads_is_reported_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_libraries, "TIMEOUT_S", 0.2)
    found = only(iter(probe_of("import threading; threading.Event().wait()")))
    assert found.state == "problem" and "did not load" in found.detail


def test_a_library_that_answers_oddly_is_reported() -> None:
    for script in ("print('not JSON')", "print('[]')", "print('{}')"):
        assert only(iter(probe_of(script))).state == "problem"


def test_every_package_can_be_imported() -> None:
    with ImportProbe() as probe:
        assert only(probe.findings()).state == "ok"


BROKEN = {
    "numpy": "raise ImportError('libopenblas.so: no such file')",
    "PIL": "def (",
    "textual": "import sys; sys.exit(3)",
    "torch": "raise RuntimeError('half a build')",
    "llama_cpp": "import os; os.abort()",
    "transformers": "import os; os.abort()",
}


def test_packages_that_are_broken_are_named_and_break_no_other_line(
    run_minigpt4: Run, tmp_path: Path
) -> None:
    for name, content in BROKEN.items():
        (tmp_path / "broken" / name).mkdir(parents=True)
        (tmp_path / "broken" / name / "__init__.py").write_text(content)
    done = run_minigpt4("doctor", "--json", env={"PYTHONPATH": str(tmp_path / "broken")})
    assert done.returncode == 1 and "Traceback" not in done.stderr
    lines = {line["name"]: line for line in json.loads(done.stdout)}
    assert lines["python"]["state"] == lines["sqlite"]["state"] == "ok"
    for name in ("themes", "torch", "llama.cpp", "transformers"):
        assert lines[name]["state"] == "problem" and lines[name]["advice"], name
    assert "bug in minigpt4" not in done.stdout
    assert "half a build" in lines["torch"]["detail"]
    assert "--force-reinstall" in lines["transformers"]["advice"]


def test_what_else_is_broken_is_named_by_package() -> None:
    info = {"numpy": "ImportError: libopenblas.so", "pillow": "SyntaxError: invalid"}
    found = list(ImportProbe().judge(info))
    assert [(one.name, one.state) for one in found] == [("numpy", "problem"), ("pillow", "problem")]
    assert "libopenblas" in found[0].detail and found[0].advice.endswith("numpy`")


def test_llama_cpp_is_an_extra_and_its_absence_a_warning() -> None:
    found = only(iter(probe_of("raise ModuleNotFoundError(\"No module named 'llama_cpp'\")", LlamaProbe)))
    assert found.state == "warning" and "minigpt4[llama]" in found.advice


def info(**changes: Any) -> dict[str, Any]:
    return {"version": "2", "built": None, "threads": 2, "gpus": []} | changes


@pytest.mark.parametrize(
    ("given", "driver", "states", "text"),
    [
        (info(), False, ["ok", "ok"], "everything runs on the CPU"),
        (info(), True, ["ok", "warning"], "built without CUDA"),
        (info(built="12.8"), True, ["ok", "warning"], "cannot use it"),
        (info(built="12.8", gpus=[["H", 2**30, 2**31]]), True, ["ok", "ok"], "H, 1.0 of 2.0 GiB free"),
    ],
)
def test_a_gpu_that_torch_cannot_use_is_reported(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], driver: bool, states: list[str], text: str
) -> None:
    monkeypatch.setattr(doctor_libraries, "has_nvidia_gpu", lambda: driver)
    found = list(TorchProbe().judge(given))
    assert [one.state for one in found] == states
    assert text in found[-1].detail


def test_features_of_the_processor_that_llama_cpp_leaves_unused_are_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = {"version": "0.3", "system": "CPU : AVX = 1 | AVX2 = 1 | FMA = 0 | F16C = 1 | ", "gpu": False}
    monkeypatch.setattr(doctor_libraries, "processor_flags", lambda: frozenset({"avx", "avx2", "f16c"}))
    assert only(LlamaProbe().judge(given)).state == "ok"
    monkeypatch.setattr(doctor_libraries, "processor_flags", lambda: frozenset({"avx", "fma", "avx512f"}))
    found = only(LlamaProbe().judge(given))
    assert found.state == "warning" and "also has FMA, AVX512" in found.detail


def test_a_package_that_is_missing_or_too_old_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["pytest>=8", "pytest<1", "no-such-package-here>=3", "llama-cpp-python; extra == 'llama'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: wanted)
    old, absent, rest = doctor_libraries.packages()
    assert old.state == absent.state == "problem"
    assert "<1 is needed" in old.detail and "no-such-package-here is missing" in absent.detail
    assert "`pip install 'no-such-package-here>=3'`" in absent.advice
    assert rest.detail == "1 of 3 installed and recent enough"
