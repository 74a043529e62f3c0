"""How long OpenMP's threads wait in a loop, as the library itself reports it when it is loaded."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

SETTINGS = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}


@pytest.mark.parametrize("library", ["torch", "llama_cpp.llama_cpp"])
@pytest.mark.parametrize(
    ("own", "spins"),
    [({}, 1000), ({"GOMP_SPINCOUNT": "77"}, 77), ({"OMP_WAIT_POLICY": "PASSIVE"}, 0)],
)
def test_threads_soon_sleep_unless_the_user_says_otherwise(
    library: str, own: dict[str, str], spins: int
) -> None:
    if library != "torch":
        pytest.importorskip("llama_cpp")
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS} | own
    program = [sys.executable, "-c", f"import minigpt4.core.engine, {library}"]
    shown = subprocess.run(
        program,
        env={**environment, "OMP_DISPLAY_ENV": "VERBOSE"},
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    found = re.findall(r"GOMP_SPINCOUNT = '(\d+)'", shown)
    assert found and set(map(int, found)) == {spins}
