"""Writes the files of two-file models at true size, with random weights and a small pattern's vocabulary.

The pattern is a small model of the same family; its metadata is copied, apart from the sizes. The vocabulary
stays the pattern's, so the output layer is smaller than the real one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from minigpt4.core.bundle_making.random_weights import ggml_tensor


@dataclass(frozen=True)
class Tower:
    """The sizes of a vision tower."""

    width: int
    mlp: int
    layers: int
    heads: int
    patch: int
    image: int


@dataclass(frozen=True)
class Language:
    """The sizes of a language model with LLaMA's layers."""

    width: int
    mlp: int
    layers: int
    heads: int
    key_heads: int


TOWERS = {
    "siglip-base": Tower(width=768, mlp=3072, layers=12, heads=12, patch=16, image=512),
    "siglip-so400m": Tower(width=1152, mlp=4304, layers=27, heads=16, patch=14, image=896),
}
"""The towers of SmolVLM-500M and of Gemma 3."""

SMOLVLM_500M = Language(width=960, mlp=2560, layers=32, heads=15, key_heads=5)


def enlarged_mmproj(tower: Tower, pattern: Path, path: Path, *, language_width: int | None = None) -> None:
    """Write an mmproj with this tower in F16; `language_width` of None: the pattern's width."""
    found = gguf.GGUFReader(pattern)
    old = {
        name: _number(found, f"clip.vision.{name}") for name in ("embedding_length", "feed_forward_length")
    }
    patches = (_number(found, "clip.vision.image_size") // _number(found, "clip.vision.patch_size")) ** 2
    outputs = _number(found, "clip.vision.projection_dim")
    writer = gguf.GGUFWriter(path, "clip")
    _copy_metadata(
        found,
        writer,
        {
            "clip.vision.embedding_length": tower.width,
            "clip.vision.feed_forward_length": tower.mlp,
            "clip.vision.block_count": tower.layers,
            "clip.vision.attention.head_count": tower.heads,
            "clip.vision.patch_size": tower.patch,
            "clip.vision.image_size": tower.image,
            "clip.vision.preproc_image_size": 2 * tower.image,
            "clip.vision.projection_dim": language_width or outputs,
        },
    )
    width = old["embedding_length"]
    grown = {
        width: tower.width,
        old["feed_forward_length"]: tower.mlp,
        patches: (tower.image // tower.patch) ** 2,
    }
    random = np.random.default_rng(0)
    for name, shape in _tensors(found, "v.blk.", tower.layers):
        if name == "v.patch_embd.weight":
            shape = [tower.width, 3, tower.patch, tower.patch]
        elif name.startswith("mm."):
            inputs = shape[-1] // width * tower.width if len(shape) > 1 else shape[-1]
            shape = [language_width or shape[0], inputs] if len(shape) > 1 else [language_width or inputs]
        else:
            shape = [grown.get(side, side) for side in shape]
        values = random.standard_normal(shape, np.float32) * 0.02
        if "ln" in name and name.endswith("weight"):
            values[:] = 1
        is_half = len(shape) > 1 and not name.startswith("v.position")
        writer.add_tensor(name, values.astype(np.float16) if is_half else values)
    _finish(writer)


def enlarged_language(language: Language, pattern: Path, path: Path, *, quant: str = "Q8_0") -> None:
    """Write a language model of these sizes, its matrices in `quant`."""
    found = gguf.GGUFReader(pattern)
    head = language.width // language.heads
    vocabulary = _number(found, "llama.vocab_size")
    writer = gguf.GGUFWriter(path, "llama")
    _copy_metadata(
        found,
        writer,
        {
            "llama.embedding_length": language.width,
            "llama.feed_forward_length": language.mlp,
            "llama.block_count": language.layers,
            "llama.attention.head_count": language.heads,
            "llama.attention.head_count_kv": language.key_heads,
            "llama.attention.key_length": head,
            "llama.attention.value_length": head,
            "llama.rope.dimension_count": head,
            "llama.context_length": 8192,
            "general.file_type": int(gguf.LlamaFileType[f"MOSTLY_{quant}"]),
        },
    )
    keys = head * language.key_heads
    shapes = {
        "attn_k": (keys, language.width),
        "attn_v": (keys, language.width),
        "ffn_down": (language.width, language.mlp),
        "ffn_gate": (language.mlp, language.width),
        "ffn_up": (language.mlp, language.width),
        "attn_q": (language.width, language.width),
        "attn_output": (language.width, language.width),
        "output": (vocabulary, language.width),
        "token_embd": (vocabulary, language.width),
    }
    for name, _ in _tensors(found, "blk.", language.layers):
        shape = shapes.get(name.split(".")[-2])
        if shape is None:
            writer.add_tensor(name, ggml_tensor(0, name, (language.width,), "F32"))
            continue
        rows, columns = shape
        ggml = gguf.GGMLQuantizationType[quant]
        numbers, size = gguf.GGML_QUANT_SIZES[ggml]
        packed = ggml_tensor(0, name, shape, quant).view(np.uint8)
        writer.add_tensor(name, packed.reshape(rows, columns // numbers * size), raw_dtype=ggml)
    _finish(writer)


def _number(found: gguf.GGUFReader, name: str) -> int:
    return int(found.fields[name].contents())


def _copy_metadata(found: gguf.GGUFReader, writer: gguf.GGUFWriter, changed: Mapping[str, Any]) -> None:
    for name, one in found.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        kind = one.types[0]
        inner = one.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, changed.get(name, one.contents()), kind, inner)


def _tensors(found: gguf.GGUFReader, block: str, layers: int) -> list[tuple[str, list[int]]]:
    """Names and shapes of the pattern's tensors, those of its first layer repeated for every layer."""
    tensors: list[tuple[str, list[int]]] = []
    for tensor in found.tensors:
        shape = [int(side) for side in reversed(tensor.shape)]
        if not tensor.name.startswith(block):
            tensors.append((tensor.name, shape))
        elif tensor.name.startswith(f"{block}0."):
            rest = tensor.name.removeprefix(f"{block}0.")
            tensors += [(f"{block}{layer}.{rest}", shape) for layer in range(layers)]
    return tensors


def _finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
