"""Safetensors written tensor by tensor are what the safetensors package reads."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from hypothesis import given as for_any
from hypothesis import strategies as st
from safetensors.torch import load_file

from minigpt4.core.errors import BundleError
from minigpt4.core.weights.safetensors_writer import DTYPES, file_bytes, write_tensors

shapes = st.lists(st.integers(0, 5), max_size=4)
tensors = st.builds(
    lambda shape, dtype, seed: torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(
        getattr(torch, dtype)
    ),
    shapes,
    st.sampled_from(sorted(DTYPES)),
    st.integers(0, 99),
)


@for_any(st.dictionaries(st.text(min_size=1, max_size=8), tensors, max_size=5))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, given: dict[str, torch.Tensor]
) -> None:
    path = tmp_path_factory.mktemp("written") / "weights.safetensors"
    given.pop("__metadata__", None)
    reported: list[int] = []
    facts = write_tensors(path, given, reported.append)
    read = load_file(path)
    assert read.keys() == given.keys()
    for name, tensor in given.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)
    content = path.read_bytes()
    assert (facts.bytes, facts.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert file_bytes(given) == len(content)
    assert reported == sorted(reported)
    assert not reported or reported[-1] == len(content)


def test_a_transposed_view_is_written_in_its_own_order(tmp_path: Path) -> None:
    view = torch.arange(6.0).reshape(2, 3).T
    write_tensors(tmp_path / "view.safetensors", {"view": view})
    assert torch.equal(load_file(tmp_path / "view.safetensors")["view"], view)


def test_quantised_weights_are_refused_by_name_and_leave_no_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with pytest.raises(BundleError, match=r"The tensor 'b' holds int8, not one of float16, bfloat16"):
        write_tensors(path, {"a": torch.zeros(2), "b": torch.zeros(2, dtype=torch.int8)})
    assert list(tmp_path.iterdir()) == []
