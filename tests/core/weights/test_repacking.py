"""The trial of repacked weights: what its process finds, and what is remembered of one that ends badly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minigpt4.core.bundle_making.random_weights import ggml_tensor
from minigpt4.core.storage.paths import cache_home
from minigpt4.core.weights import repacking as module
from minigpt4.core.weights.gguf.header import read_header
from minigpt4.core.weights.gguf.writer import LlamaShape, write_gguf
from minigpt4.core.weights.repacking import Repacking, known_repacking, repacking
from minigpt4.core.weights.sentencepiece_vocab import made_up_vocabulary

pytest.importorskip("llama_cpp")

GOOD = Repacking(types=("Q4_0",), copied=7, keeps_bits=True)
DAY_AND_MORE = module.RETRY_S + 60


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama in Q4_0."""
    path = tmp_path_factory.mktemp("gguf") / "tiny-Q4_0.gguf"
    shape = LlamaShape(layers=1, width=64, mlp=128, heads=4, key_heads=4, vocabulary=300, context=64)
    write_gguf(
        path,
        shape,
        made_up_vocabulary(300),
        name="tiny",
        quant="Q4_0",
        kind=lambda _, size: "F32" if len(size) == 1 else "Q4_0",
        content=lambda name, size, kind: ggml_tensor(0, name, size, kind),
    )
    return path


def runs(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Let the trial be this program."""
    monkeypatch.setattr(module, "COMMAND", (sys.executable, "-c", program))


def records() -> list[Path]:
    return sorted((cache_home() / "repacking").glob("*"))


def age(record: Path) -> None:
    status = record.stat()
    os.utime(record, (status.st_atime, status.st_mtime - DAY_AND_MORE))


def test_the_trial_computes_and_is_made_once(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMIT_S", 300)
    assert known_repacking(gguf) is None
    found = repacking(gguf)
    assert found.problem == "" and found.is_settled
    # Every processor that has kernels for Q4_0 gets them for each matrix but the table of embeddings.
    matrices = [one for name, one in read_header(gguf).tensors.items() if len(one.shape) > 1]
    copied = sum(one.length for one in matrices) - read_header(gguf).tensors["token_embd.weight"].length
    assert (found.types, found.copied) in ((("Q4_0",), copied), ((), 0))
    runs(monkeypatch, "raise SystemExit('tried again')")
    assert repacking(gguf) == known_repacking(gguf) == found
    assert len(records()) == 1


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGILL", "SIGABRT"])
def test_a_crash_is_remembered_for_good(gguf: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    runs(monkeypatch, f"import os; os.kill(os.getpid(), {getattr(signal, name).value})")
    crashed = Repacking(f"ended with {name}")
    assert repacking(gguf) == crashed
    (record,) = records()
    age(record)
    assert known_repacking(gguf) == crashed


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("import os; os.kill(os.getpid(), 9)", "ended with SIGKILL"),
        ("import time; time.sleep(60)", "did not end within 1 s"),
        ("raise SystemExit('no memory')", "failed (no memory)"),
        ("print('hello')", "failed (no message)"),
        ("print('{}')", "failed (no message)"),
        ("print('[1]')", "failed (no message)"),
    ],
)
def test_a_trial_without_a_result_counts_as_no_and_is_repeated_after_a_day(
    gguf: Path, monkeypatch: pytest.MonkeyPatch, program: str, problem: str
) -> None:
    if "sleep" in program:
        monkeypatch.setattr(module, "LIMIT_S", 1)
    runs(monkeypatch, program)
    assert repacking(gguf) == Repacking(problem, is_settled=False)
    says_good(monkeypatch)
    assert repacking(gguf).problem == problem
    age(records()[0])
    assert repacking(gguf) == GOOD


def says_good(monkeypatch: pytest.MonkeyPatch) -> None:
    line = '{"problem": "", "types": ["Q4_0"], "copied": 7, "keeps_bits": true, "is_settled": true}'
    runs(monkeypatch, f"print({line!r})")


def test_another_process_trial_is_not_waited_for(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says_good(monkeypatch)
    program = (
        "import sys; from pathlib import Path; from minigpt4.core.weights import repacking as module\n"
        "module.COMMAND = (sys.executable, '-c', 'import os; os.kill(os.getppid(), 9)')\n"
        f"module.repacking(Path({str(gguf)!r}))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    assert repacking(gguf) == Repacking("has not ended", is_settled=False)


def test_ctrl_c_is_no_verdict(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs(monkeypatch, f"import os, time; os.kill(os.getppid(), {signal.SIGINT.value}); time.sleep(60)")
    with pytest.raises(KeyboardInterrupt):
        repacking(gguf)
    assert records() == []


def test_a_folder_that_cannot_be_written_means_no_trial(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs(monkeypatch, "raise SystemExit('tried')")
    cache_home().mkdir(parents=True)
    (cache_home() / "repacking").write_text("a file")
    for _ in range(2):
        found = repacking(gguf)
        assert found.problem.startswith(f"was not made, as {cache_home() / 'repacking'} cannot be written (")
        assert not found.is_settled


def test_a_full_disk_means_no_trial(gguf: Path) -> None:
    program = (
        "import resource, signal; from pathlib import Path\n"
        "from minigpt4.core.weights import repacking as module\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        f"print(module.repacking(Path({str(gguf)!r})).problem)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "was not made, as" in done.stdout and "File too large" in done.stdout
    assert [path for path in records() if path.suffix == ".json"] == []


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=40)
    | st.sampled_from(
        [b"[]", b"{}", b'{"types": 3}', b'{"types": [], "other": 1}', b"null", b'{"types": null}']
    )
)
def test_a_damaged_record_is_found_out_again(
    gguf: Path, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    says_good(monkeypatch)
    monkeypatch.setattr(module, "probe", lambda _: GOOD)
    repacking(gguf)
    (record,) = records()
    record.write_bytes(data)
    assert known_repacking(gguf) is None
    assert repacking(gguf) == known_repacking(gguf) == GOOD


def test_another_processor_library_or_kind_of_file_is_tried_anew(
    gguf: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    says_good(monkeypatch)
    repacking(gguf)
    with monkeypatch.context() as patch:
        (tmp_path / "cpuinfo").write_text(
            "processor : 0\nmodel name : Another\nflags : amx_int8\n\nprocessor : 1"
        )
        patch.setattr(module, "CPUINFO", tmp_path / "cpuinfo")
        assert known_repacking(gguf) is None
    with monkeypatch.context() as patch:
        (tmp_path / "libllama.so").write_bytes(b"")
        patch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path))
        assert known_repacking(gguf) is None
    other = tmp_path / "tiny-Q4_1.gguf"
    other.write_bytes(gguf.read_bytes())
    assert known_repacking(other) is None
    longer = tmp_path / "tiny-Q4_0.gguf"
    longer.write_bytes(gguf.read_bytes() + b"\0")
    assert known_repacking(longer) is None
    longer.write_bytes(gguf.read_bytes())
    assert known_repacking(longer) == GOOD
