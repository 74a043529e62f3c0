"""Tensors of untrusted files: PyTorch checkpoints, safetensors, folders of shards.

A checkpoint is a pickle, and a pickle can hold code. PyTorch's restricted unpickler runs none of it;
the error names the code that it rejects. Tensors are mapped, not copied: a file is read as its tensors
are used, and of a folder of shards only those that hold a requested tensor.
"""

from __future__ import annotations

import contextlib
import json
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import IO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from minigpt4.core.errors import BundleError

INDEX_SUFFIX = ".index.json"
INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
WHOLE = ("model.safetensors", "pytorch_model.bin")
WRAPPERS = ("model", "state_dict", "module")
"""Keys under which checkpoints keep their weights, beside an optimizer's state and settings."""

REFUSED = re.compile(r"(?:GLOBAL|class|function) ([\w.]*\w)")
"""The message of PyTorch's restricted unpickler about a name that it rejects."""


def read_tensors(path: Path, *, what: str = "file") -> Mapping[str, Tensor]:
    """The tensors of a checkpoint or safetensors file, or of a folder of either, by name, on the CPU.

    The kind is detected from the content. `what` is the name of the file in errors ("projection file").
    Raises BundleError if it is missing, damaged, cut off, or holds code.
    """
    if path.is_dir():
        return _folder(path, what)
    if not path.is_file():
        raise BundleError(f"There is no {what} {path}; check the path.")
    if path.name.endswith(INDEX_SUFFIX):
        return _Shards(path, what)
    if path.suffix == ".safetensors" or _begins_like_safetensors(path):
        return _SafetensorsFile(path, what)
    return _checkpoint(path, what)


def _folder(folder: Path, what: str) -> Mapping[str, Tensor]:
    for index in (folder / name for name in INDICES):
        if index.is_file():
            return _Shards(index, what)
    for file in (folder / name for name in WHOLE):
        if file.is_file():
            return read_tensors(file, what=what)
    raise BundleError(
        f"The folder {folder} holds no weights (looked for {', '.join((*INDICES, *WHOLE))}); "
        "give the folder that a model's config.json lies in."
    )


class _SafetensorsFile(Mapping[str, Tensor]):
    """A file reopened for each tensor: its pages leave memory when that tensor is freed.

    One map for all would keep 2 GB of a ViT-G resident while it is converted piece by piece.
    """

    def __init__(self, path: Path, what: str) -> None:
        self._path = path
        self._what = what
        try:
            with safe_open(path, framework="pt") as file:
                self._names = dict.fromkeys(file.keys())
        except (SafetensorError, OSError) as error:
            raise self._damage(error) from error

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        try:
            with safe_open(self._path, framework="pt") as file:
                tensor: Tensor = file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise self._damage(error) from error
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def _damage(self, error: Exception) -> BundleError:
        return BundleError(
            f"The {self._what} {self._path} is damaged or not a safetensors file ({error}); "
            "fetch or make it again."
        )


class _Shards(Mapping[str, Tensor]):
    """The tensors that an index names, each read from its own file when accessed."""

    def __init__(self, index: Path, what: str) -> None:
        self._folder = index.parent
        self._what = what
        self._opened: dict[str, Mapping[str, Tensor]] = {}
        try:
            weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            self._files = {str(name): str(file) for name, file in weight_map.items()}
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise BundleError(
                f"The {what} {index} is not an index of shards ({type(error).__name__}); fetch it again."
            ) from error
        strays = [file for file in self._files.values() if Path(file).name != file]
        if strays:
            raise BundleError(
                f"The {what} {index} names '{strays[0]}', a file outside its own folder; fetch it again."
            )

    def __getitem__(self, name: str) -> Tensor:
        file = self._files[name]
        if file not in self._opened:
            self._opened[file] = read_tensors(self._folder / file, what="shard")
        if name not in self._opened[file]:
            raise BundleError(
                f"The shard {self._folder / file} has no '{name}', though its index says so; "
                "fetch both again."
            )
        return self._opened[file][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _begins_like_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(9)
    # Eight bytes of length, then a JSON object.
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size


def _checkpoint(path: Path, what: str) -> dict[str, Tensor]:
    try:
        # Checkpoints from before PyTorch 1.6 are not zip archives and cannot be mapped.
        is_mappable = zipfile.is_zipfile(path)
        with warnings.catch_warnings():
            # torch warns of pickles that are not its own, for which an error is raised below.
            warnings.simplefilter("ignore")
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=is_mappable)
    except Exception as error:  # torch.load raises a dozen kinds for a damaged file
        refused = REFUSED.search(str(error))
        code = refused[1] if refused else code_in(path)
        if code is not None:
            raise BundleError(
                f"The {what} {path} holds code beside its tensors ('{code}'), so it was not opened; "
                "use a file that holds tensors alone, or one from its authors."
            ) from error
        raise BundleError(
            f"The {what} {path} is damaged, cut off or no PyTorch checkpoint ({type(error).__name__}); "
            "fetch or make it again."
        ) from error
    return _state(loaded, path, what)


def code_in(path: Path) -> str | None:
    """The first function or class that a pickle would call, other than torch's own; nothing is run.

    For pickles that PyTorch's unpickler rejects before it reaches the call.
    """
    with contextlib.suppress(OSError, ValueError, zipfile.BadZipFile), _pickle(path) as file:
        texts: list[str] = []
        for operation, argument, _ in pickletools.genops(file):
            if isinstance(argument, str):
                texts.append(argument)
            match operation.name:
                case "GLOBAL" | "INST":
                    name = texts[-1].replace(" ", ".")
                case "STACK_GLOBAL":
                    name = ".".join(texts[-2:])
                case _:
                    continue
            if not name.startswith(("torch.", "collections.")):
                return name
    return None


def _pickle(path: Path) -> IO[bytes]:
    """The pickle of a checkpoint: a member of its zip archive, or the file itself."""
    if not zipfile.is_zipfile(path):
        return path.open("rb")
    archive = zipfile.ZipFile(path)
    member = next((name for name in archive.namelist() if name.endswith("data.pkl")), None)
    return archive.open(member) if member else BytesIO()


def _state(loaded: object, path: Path, what: str) -> dict[str, Tensor]:
    """The tensors by name, whether at the checkpoint's top level or under a wrapper's key."""
    if isinstance(loaded, dict):
        wrapped = (loaded[key] for key in WRAPPERS if isinstance(loaded.get(key), dict))
        loaded = next(wrapped, loaded)
    values = loaded if isinstance(loaded, dict) else {}
    tensors = {str(name): value for name, value in values.items() if isinstance(value, Tensor)}
    if not tensors:
        raise BundleError(
            f"The {what} {path} holds no named tensors (but a {type(loaded).__name__}); choose another file."
        )
    return tensors
