"""How long OpenMP's threads wait in a loop, as the library itself reports it when it is loaded."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

SETTINGS = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY"}


def output(program: str, own: dict[str, str]) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS} | own
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )


@pytest.mark.parametrize("library", ["torch", "llama_cpp.llama_cpp"])
@pytest.mark.parametrize(
    ("own", "spins"),
    [
        ({}, 1000),
        ({"GOMP_SPINCOUNT": "77"}, 77),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, 0),
        ({"KMP_BLOCKTIME": "5"}, 1000),
    ],
)
def test_threads_soon_sleep_unless_the_user_says_otherwise(
    library: str, own: dict[str, str], spins: int
) -> None:
    if library != "torch":
        pytest.importorskip("llama_cpp")
    shown = output(f"import minigpt4.core.engine, {library}", {**own, "OMP_DISPLAY_ENV": "VERBOSE"}).stderr
    found = re.findall(r"GOMP_SPINCOUNT = '(\d+)'", shown)
    assert found and set(map(int, found)) == {spins}


@pytest.mark.parametrize(
    ("own", "block_time"),
    [
        ({}, "1"),
        ({"GOMP_SPINCOUNT": "77"}, "1"),
        ({"KMP_BLOCKTIME": "0"}, "0"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "unset"),
        ({"KMP_LIBRARY": "turnaround"}, "unset"),
    ],
)
def test_so_do_those_of_llvm_and_intel(own: dict[str, str], block_time: str) -> None:
    program = "import os, minigpt4.core; print(os.environ.get('KMP_BLOCKTIME', 'unset'))"
    assert output(program, own).stdout.strip() == block_time


def test_torch_and_llama_cpp_share_one_library_whichever_is_loaded_first() -> None:
    """So their threads are the same ones while one thread uses both, and never wait beside each other."""
    pytest.importorskip("llama_cpp")
    if not sys.platform.startswith("linux"):
        pytest.skip("what is loaded is read from /proc")
    loaded = "print(*{line.split()[-1] for line in open('/proc/self/maps') if 'libgomp.so' in line})"
    for order in ("torch, llama_cpp.llama_cpp", "llama_cpp.llama_cpp, torch"):
        assert len(output(f"import {order}\n{loaded}", {}).stdout.split()) == 1
