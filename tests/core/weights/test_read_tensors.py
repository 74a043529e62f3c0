"""Strangers' weight files: what is in them, and what must not happen when they are opened."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from minigpt4.core.errors import BundleError
from minigpt4.core.weights.read_tensors import read_tensors

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.float16)}


class Trap:
    """Unpickled, it would leave a folder behind."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, (str(self._mark),)


def assert_holds_tensors(path: Path) -> None:
    found = read_tensors(path)
    assert set(found) == set(TENSORS)
    assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)


@pytest.mark.parametrize("wrapper", [None, "model", "state_dict", "module"])
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "before torch 1.6"])
def test_a_checkpoint_gives_its_tensors_however_it_wraps_them(
    tmp_path: Path, wrapper: str | None, is_zip: bool
) -> None:
    held = {**TENSORS, "step": 3} if wrapper is None else {wrapper: TENSORS, "epoch": 3, "config": {"a": 1}}
    torch.save(held, tmp_path / "weights.pth", _use_new_zipfile_serialization=is_zip)
    assert_holds_tensors(tmp_path / "weights.pth")


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_safetensors_are_known_by_their_content(tmp_path: Path, name: str) -> None:
    save_file(TENSORS, tmp_path / name)
    assert_holds_tensors(tmp_path / name)


def test_a_folder_of_shards_opens_only_the_shards_that_are_asked_for(tmp_path: Path) -> None:
    save_file({"a": TENSORS["a"]}, tmp_path / "1.safetensors")
    index = {"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    for place in (tmp_path, tmp_path / "model.safetensors.index.json"):
        found = read_tensors(place)
        assert set(found) == {"a", "b"}
        assert torch.equal(found["a"], TENSORS["a"])
        with pytest.raises(BundleError, match=r"There is no shard .*2\.safetensors"):
            found["b"]


def test_a_folder_with_one_checkpoint_is_read(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "pytorch_model.bin")
    assert_holds_tensors(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": []}', "nonsense"])
def test_a_damaged_index_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(BundleError, match="not an index of shards"):
        read_tensors(tmp_path)


def test_an_index_cannot_reach_out_of_its_folder(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "../../secret.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BundleError, match="outside its own folder"):
        read_tensors(tmp_path)


def test_an_index_that_is_wrong_about_a_shard_is_named(tmp_path: Path) -> None:
    save_file({"a": TENSORS["a"]}, tmp_path / "1.safetensors")
    index = {"weight_map": {"b": "1.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BundleError, match="has no 'b', though its index says so"):
        read_tensors(tmp_path)["b"]


@pytest.mark.parametrize("form", ["zip", "before torch 1.6", 0, 2, 4, 5])
def test_code_in_a_pickle_is_named_and_does_not_run(tmp_path: Path, form: str | int) -> None:
    mark, path = tmp_path / "it ran", tmp_path / "weights.pth"
    held = {"model": TENSORS, "extra": Trap(mark)}
    if isinstance(form, int):
        path.write_bytes(pickle.dumps({"extra": Trap(mark)}, protocol=form))
    else:
        torch.save(held, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(BundleError, match=r"holds code .*\('(posix|nt)\.mkdir'\)"):
        read_tensors(path)
    assert not mark.exists()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("form", ["zip", "before torch 1.6", "safetensors"])
def test_a_file_cut_off_is_a_sentence(tmp_path: Path, form: str, share: float) -> None:
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth")
    tensors = {"a": torch.randn(200, 10)}
    if form == "safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=form == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(BundleError, match=r"The projection file .* is damaged"):
        read_tensors(path, what="projection file")


def test_what_is_no_checkpoint_is_a_sentence(tmp_path: Path) -> None:
    page = tmp_path / "page.pth"
    page.write_text("<html>404 Not Found</html>")
    with pytest.raises(BundleError, match="no PyTorch checkpoint"):
        read_tensors(page)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(BundleError, match=r"no named tensors \(but a list\)"):
        read_tensors(tmp_path / "list.pth")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match="holds no weights"):
        read_tensors(tmp_path / "empty")
    with pytest.raises(BundleError, match=r"There is no file .*none\.pth"):
        read_tensors(tmp_path / "none.pth")
