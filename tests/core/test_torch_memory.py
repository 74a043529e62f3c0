"""Products of ever new shapes do not fill the memory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from minigpt4.core import torch_memory as shape_caches

MOST_MB = 400
"""600 shapes held 660 MB without a bound and 180 with it, on a processor that has AMX."""

PRODUCTS = """
from minigpt4.core.memory import most_held
from minigpt4.core.torch_memory import bound_shape_caches
bound_shape_caches()
import torch
torch.set_num_threads(1)
weight = torch.zeros(1536, 576, dtype=torch.bfloat16)
torch.nn.functional.linear(torch.zeros(1500, 576, dtype=torch.bfloat16), weight)
before = most_held()
for rows in range(1, 601):
    torch.nn.functional.linear(torch.zeros(rows, 576, dtype=torch.bfloat16), weight)
print((most_held() - before) // 2**20)
"""


def test_products_of_many_shapes_take_a_bounded_memory() -> None:
    done = subprocess.run([sys.executable, "-P", "-c", PRODUCTS], capture_output=True, text=True, check=True)
    assert int(done.stdout) < MOST_MB


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = shape_caches.CAPACITIES
    monkeypatch.setenv(first, "7")
    monkeypatch.delenv(second, raising=False)
    shape_caches.bound_shape_caches()
    assert [os.environ[name] for name in (first, second)] == ["7", str(shape_caches.KEPT)]
