"""A Hugging Face LLaMA folder, read tensor by tensor.

Safetensors files are read with plain reads and not through a memory map: what a map has touched
counts as the process's memory, and a 13B folder has 26 GB. No torch for them either. Layout:
https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.errors import BundleError
from minigpt4.core.weights.gguf.to_hf import NAMES
from minigpt4.core.weights.gguf.writer import LlamaShape

CONFIG = "config.json"
SAFETENSORS, PICKLED = "model.safetensors", "pytorch_model.bin"
INDEX = ".index.json"

MOST_HEADER_BYTES = 100_000_000
"""What the safetensors format allows."""

DTYPES = {"F16": np.float16, "F32": np.float32, "F64": np.float64, "BF16": np.uint16}
"""NumPy has no bfloat16: its 16 bits are the upper half of a float32."""

IGNORED = ("rotary_emb.inv_freq",)
"""Buffers that old versions of transformers saved; they follow from the shape."""


def hugging_face_name(name: str) -> str:
    """What transformers calls the tensor that GGUF calls `name`."""
    *block, part, kind = name.split(".")
    prefix = f"model.layers.{block[1]}." if block else ""
    return f"{prefix}{NAMES[part]}.{kind}"


@dataclass(frozen=True)
class _Place:
    """Where a tensor lies in a safetensors file; `start` counts from the file's beginning."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    length: int


class LlamaFolder:
    """Shape and weights of a LLaMA as transformers saves it: shards of safetensors or of pickles."""

    def __init__(self, folder: Path) -> None:
        """Raises BundleError for another architecture, and for missing, strange or cut weights."""
        self.folder = folder
        self._places: dict[str, _Place] = {}
        self._pickles: dict[str, Path] = {}
        config = _json(folder / CONFIG)
        self._find_weights()
        self.shape = _shape(config, folder / CONFIG, is_tied="lm_head.weight" not in self._names())
        self._check_names()

    def _names(self) -> set[str]:
        return set(self._places) | set(self._pickles)

    def read(self, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """A tensor by transformers' name, in float16, float32 or float64 (bfloat16 as float32)."""
        tensor = self._read_place(self._places[name]) if name in self._places else self._unpickle(name)
        if tensor.shape != shape:
            raise BundleError(
                f"{self.folder}: {name} has the shape {tensor.shape}, but {CONFIG} asks for {shape}; "
                "weights and configuration belong to different models."
            )
        return tensor

    def _read_place(self, place: _Place) -> NDArray[Any]:
        with place.path.open("rb") as file:
            file.seek(place.start)
            tensor = np.fromfile(file, DTYPES[place.dtype], math.prod(place.shape)).reshape(place.shape)
        if place.dtype != "BF16":
            return tensor
        wide = tensor.astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)

    def _unpickle(self, name: str) -> NDArray[Any]:
        # The file is opened anew for each tensor, so that the map of the one before is gone.
        tensor = _load_pickle(self._pickles[name])[name]
        if str(tensor.dtype) == "torch.bfloat16":
            tensor = tensor.float()
        copy: NDArray[Any] = np.array(tensor.numpy())
        return copy

    def _find_weights(self) -> None:
        for path in _shards(self.folder, SAFETENSORS):
            self._places |= _header(path)
        if self._places:
            return
        for path in _shards(self.folder, PICKLED):
            self._pickles |= dict.fromkeys(_load_pickle(path), path)
        if not self._pickles:
            raise BundleError(
                f"{self.folder} holds neither {SAFETENSORS} nor {PICKLED}, whole or in shards; "
                "give the Hugging Face folder of a LLaMA model."
            )

    def _check_names(self) -> None:
        wanted = {hugging_face_name(name) for name in self.shape.tensors()}
        for problem, names in (
            ("lacks", wanted - self._names()),
            ("has unknown", {name for name in self._names() - wanted if not name.endswith(IGNORED)}),
        ):
            if names:
                shown = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
                raise BundleError(
                    f"{self.folder} {problem} tensors ({len(names)}: {shown}); it is not a whole LLaMA of "
                    f"{self.shape.layers} layers."
                )


def _shards(folder: Path, name: str) -> list[Path]:
    """The files that hold the weights in this format: those of the index, or the single one."""
    index = folder / f"{name}{INDEX}"
    if not index.exists():
        return [folder / name] if (folder / name).exists() else []
    shards = _json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise BundleError(f"{index} has no table 'weight_map'; it is damaged.")
    paths = [folder / shard for shard in sorted({str(shard) for shard in shards.values()})]
    absent = [path.name for path in paths if not path.exists()]
    if absent:
        raise BundleError(f"{folder} lacks {', '.join(absent)} ({len(absent)} of {len(paths)} shards).")
    return paths


def _header(path: Path) -> dict[str, _Place]:
    """The tensors of a safetensors file; raises BundleError where it is cut or no such file."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(MOST_HEADER_BYTES, size - 8):
                raise ValueError("its header has an impossible length")
            header: dict[str, Any] = json.loads(file.read(length))
        header.pop("__metadata__", None)
        places: dict[str, _Place] = {}
        for name, facts in header.items():
            first, last = facts["data_offsets"]
            shape = tuple(int(side) for side in facts["shape"])
            if not name.endswith(IGNORED):
                expected = math.prod(shape) * np.dtype(DTYPES[facts["dtype"]]).itemsize
                if last - first != expected:
                    raise ValueError(f"{name} has {last - first} bytes instead of {expected}")
                places[name] = _Place(path, facts["dtype"], shape, 8 + length + first, last - first)
            if 8 + length + last > size:
                raise ValueError(f"it has {size} bytes, but {name} ends at {8 + length + last}")
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"its dtype {error} is not a float" if isinstance(error, KeyError) else error
        raise BundleError(f"{path} is cut short or no safetensors file of floats: {reason}.") from error
    return places


def _load_pickle(path: Path) -> Mapping[str, Any]:
    from minigpt4.core.weights.read_tensors import read_tensors  # imports torch

    return read_tensors(path, what="language model's file")


def _shape(config: Mapping[str, Any], path: Path, *, is_tied: bool) -> LlamaShape:
    kind = config.get("model_type")
    if kind != "llama":
        raise BundleError(f"{path} says '{kind}'; only models of the kind 'llama' can be converted.")
    for key in ("attention_bias", "mlp_bias"):
        if config.get(key):
            raise BundleError(f"{path}: models with '{key}' cannot be converted.")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        raise BundleError(f"{path}: models with scaled rotary positions cannot be converted.")
    try:
        heads = int(config["num_attention_heads"])
        shape = LlamaShape(
            layers=int(config["num_hidden_layers"]),
            width=int(config["hidden_size"]),
            mlp=int(config["intermediate_size"]),
            heads=heads,
            key_heads=int(config.get("num_key_value_heads") or heads),
            vocabulary=int(config["vocab_size"]),
            context=int(config.get("max_position_embeddings", 2048)),
            norm_eps=float(config.get("rms_norm_eps", 1e-6)),
            rope_base=float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0),
            is_tied=is_tied,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path} lacks a number that a LLaMA needs: {error}.") from error
    head_width = config.get("head_dim") or shape.width // heads
    if shape.width != heads * head_width or heads % shape.key_heads:
        raise BundleError(f"{path}: a width of {shape.width} does not divide into {heads} heads.")
    return shape


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BundleError(f"There is no {path}; give the Hugging Face folder of a LLaMA model.") from error
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read as JSON ({error}); it is damaged.") from error
    if not isinstance(values, dict):
        raise BundleError(f"{path} is not a JSON table; it is damaged.")
    return values
