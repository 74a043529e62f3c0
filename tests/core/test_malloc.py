"""Memory that training frees is not given back, so that the next step does not fault it in again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from minigpt4.core.torch_memory import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = bytearray(64 * 2**20)
    for at in range(0, len(block), 4096):
        block[at] = 1
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def faults_of_a_second_block(state: str) -> int:
    done = subprocess.run([sys.executable, "-P", "-c", FAULTS, state], capture_output=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library is not glibc")
def test_a_block_as_large_as_one_just_freed_costs_no_new_pages() -> None:
    assert faults_of_a_second_block("kept") < faults_of_a_second_block("given back") / 10
