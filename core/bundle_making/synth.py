"""Bundles of true size with random weights, to measure memory, loading and speed anywhere."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minigpt4.core.bundle_making.random_weights import STD, ggml_tensor, spread_of, write_random
from minigpt4.core.bundles.bundle import Bundle, own_manifest, write_manifest
from minigpt4.core.bundles.geometry import ViTGeometry, qformer_shapes, vision_shapes
from minigpt4.core.bundles.source import File
from minigpt4.core.download.checksum_note import sha256_of
from minigpt4.core.download.fetch import FetchProgress, Progress, bundles_folder
from minigpt4.core.download.sources import space_problem
from minigpt4.core.errors import BackendError, UsageError
from minigpt4.core.storage.atomic import replacing
from minigpt4.core.weights.gguf.to_hf import hugging_face_name
from minigpt4.core.weights.gguf.writer import LlamaShape, write_gguf
from minigpt4.core.weights.hf_folder import CONFIG, INDEX, SAFETENSORS
from minigpt4.core.weights.sentencepiece_vocab import (
    TOKENIZER_MODEL,
    Vocabulary,
    made_up_vocabulary,
    read_sentencepiece,
    sentencepiece_bytes,
)

ARCHITECTURE = "eva-vit-g"
SUFFIX = "-synth"
GGUF_KINDS = ("Q4_0", "Q8_0", "F16")
"""Types that can be filled with random blocks; the K types are made from F16 by `models quantize`."""

DTYPES = ("bf16", "fp16")
SHARD_BYTES = 4_000_000_000

Shapes = dict[str, tuple[int, ...]]
Write = Callable[[Path, Callable[[int], None]], None]


@dataclass(frozen=True)
class _Part:
    """One file to be written: its name, approximate size, and the function that writes it."""

    name: str
    bytes: int
    write: Write


def synth(
    bundle: Bundle,
    *,
    seed: int = 0,
    gguf: str | None = None,
    tokenizer: Path | None = None,
    dtype: str = "bf16",
    progress: Progress | None = None,
) -> str:
    """Make the user bundle NAME-synth with random weights of `bundle`'s true sizes; returns its name.

    The language model is a Hugging Face folder in `dtype` (as the tower is), or
    with `gguf` ("Q4_0", "Q8_0", "F16") that GGUF alone. `tokenizer` is a `tokenizer.model` to use
    in place of a synthetic vocabulary. An earlier NAME-synth is replaced. Raises UsageError for a
    bundle whose sizes are not known, BackendError if the disk is too small.
    """
    _check(bundle, gguf, dtype)
    vocabulary = _vocabulary(bundle, tokenizer)
    named = replace(bundle, name=f"{bundle.name}{SUFFIX}")
    towers = _tower_parts(bundle, seed, dtype)
    language = (
        [_gguf_part(named.name, bundle, vocabulary, seed, gguf)]
        if gguf
        else _folder_parts(bundle, vocabulary, tokenizer, seed, dtype)
    )
    folder = bundles_folder() / named.name
    _clear(named.name, folder, sum(part.bytes for part in (*towers, *language)))
    try:
        files = [_made(part, folder, progress or (lambda _: None)) for part in (*towers, *language)]
        made = _with_files(named, {file.name: file for file in files}, len(towers))
        write_manifest(made, own_manifest(named.name))
    except OSError as error:
        raise BackendError(
            f"{folder} cannot be written: {error.strerror or error}; free some space or set MINIGPT4_HOME."
        ) from error
    return named.name


def _check(bundle: Bundle, gguf: str | None, dtype: str) -> None:
    if gguf is not None and gguf not in GGUF_KINDS:
        raise UsageError(f"A synthetic GGUF cannot be {gguf}; there is {', '.join(GGUF_KINDS)}.")
    if dtype not in DTYPES:
        raise UsageError(f"Synthetic weights cannot be {dtype}; there is {', '.join(DTYPES)}.")
    if bundle.vision.architecture != ARCHITECTURE or bundle.language.geometry is None:
        raise UsageError(
            f"'{bundle.name}' cannot be made up: that needs a tower of the kind {ARCHITECTURE} and a table "
            "[language.geometry] in the manifest."
        )


def _clear(name: str, folder: Path, needed: int) -> None:
    """Remove an earlier bundle, once the disk is known to have space for the new one."""
    earlier = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if problem := space_problem(folder.parent, needed - earlier):
        raise BackendError(f"'{name}' cannot be made: {problem}.")
    own_manifest(name).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _made(part: _Part, folder: Path, report: Progress) -> File:
    path = folder / part.name
    with replacing(path) as draft:
        part.write(draft, lambda done: report(FetchProgress(part.name, min(done, part.bytes), part.bytes)))
    return File(part.name, path.stat().st_size, sha256_of(path))


def _with_files(bundle: Bundle, files: dict[str, File], towers: int) -> Bundle:
    """The bundle with the written files in place of those to be fetched."""
    language = tuple(files.values())[towers:]
    return replace(
        bundle,
        summary=f"{bundle.name}: random weights of true size, for measuring; its answers mean nothing",
        license="none",
        vision=replace(bundle.vision, file=files["vision.safetensors"]),
        qformer=replace(bundle.qformer, file=files["qformer.safetensors"]) if bundle.qformer else None,
        projection=replace(bundle.projection, path=None, file=files["projection.safetensors"]),
        language=replace(bundle.language, files=language, folder=None),
    )


def _tower_parts(bundle: Bundle, seed: int, dtype: str) -> list[_Part]:
    vision = ViTGeometry.parse(bundle.vision.options, bundle.name)
    parts = [_safetensors("vision.safetensors", vision_shapes(vision, bundle.vision.image_size), dtype, seed)]
    if bundle.qformer is not None:
        # In fp32, like BLIP-2's file and the Q-Former's arithmetic: its weights then stay mapped to the file.
        qformer = qformer_shapes(bundle.qformer.options, vision.width)
        parts.append(_safetensors("qformer.safetensors", qformer, "fp32", seed))
    spec = bundle.projection
    names = [""] if spec.layers == 1 else [f"layers.{layer}." for layer in range(spec.layers)]
    shapes: Shapes = {}
    for layer, name in enumerate(names):
        shapes[f"{name}weight"] = (spec.outputs, spec.outputs if layer else spec.inputs)
        shapes[f"{name}bias"] = (spec.outputs,)
    return [*parts, _safetensors("projection.safetensors", shapes, "fp32", seed, _projection_spread)]


def _projection_spread(name: str, shape: tuple[int, ...]) -> float:
    """For normalised inputs, it gives outputs the standard deviation of the language model's embeddings."""
    return STD / math.sqrt(shape[1]) if len(shape) > 1 else 0.0


def _safetensors(
    name: str,
    shapes: Shapes,
    dtype: str,
    seed: int,
    spread: Callable[[str, tuple[int, ...]], float] = spread_of,
) -> _Part:
    def write(path: Path, written: Callable[[int], None]) -> None:
        write_random(path, shapes, dtype=dtype, seed=seed, spread=spread, written=written)

    return _Part(name, _count(shapes) * (4 if dtype == "fp32" else 2), write)


def _count(shapes: Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def _shape(bundle: Bundle) -> LlamaShape:
    language, geometry = bundle.language, bundle.language.geometry
    assert geometry is not None
    return LlamaShape(
        layers=geometry.layers,
        width=language.width,
        mlp=geometry.mlp,
        heads=geometry.heads,
        key_heads=geometry.key_value_heads,
        vocabulary=geometry.vocabulary,
        context=max(language.context, 2048),
        is_tied=geometry.shared_embedding,
    )


def _vocabulary(bundle: Bundle, tokenizer: Path | None) -> Vocabulary:
    size = _shape(bundle).vocabulary
    if tokenizer is None:
        return made_up_vocabulary(size)
    given = read_sentencepiece(tokenizer)
    if len(given) > size:
        raise UsageError(f"{tokenizer} has {len(given)} tokens, but '{bundle.name}' has only {size}.")
    return given.padded(size)


def _gguf_part(name: str, bundle: Bundle, vocabulary: Vocabulary, seed: int, quant: str) -> _Part:
    shape = _shape(bundle)

    def kind(tensor: str, tensor_shape: tuple[int, ...]) -> str:
        """llama.cpp's own choice: output rows in 6 bits, widths that blocks do not divide in larger types."""
        if len(tensor_shape) == 1:
            return "F32"
        width = tensor_shape[-1]
        if quant == "Q4_0" and tensor == "output.weight":
            return "Q6_K" if width % 256 == 0 else "Q8_0" if width % 32 == 0 else "F16"
        return quant if width % 32 == 0 else "F16"

    def write(path: Path, written: Callable[[int], None]) -> None:
        write_gguf(
            path,
            shape,
            vocabulary,
            name=name,
            quant=quant,
            kind=kind,
            content=lambda tensor, size, packing: ggml_tensor(seed, tensor, size, packing),
            written=written,
        )

    return _Part(f"{name}-{quant}.gguf", shape.gguf_bytes(quant), write)


def _folder_parts(
    bundle: Bundle, vocabulary: Vocabulary, tokenizer: Path | None, seed: int, dtype: str
) -> list[_Part]:
    """The files of a Hugging Face folder: configuration, vocabulary, shards and their index."""
    shape = _shape(bundle)
    data = tokenizer.read_bytes() if tokenizer is not None else sentencepiece_bytes(vocabulary)
    shards = list(_shards(shape))
    names = [f"model-{place:05d}-of-{len(shards):05d}.safetensors" for place in range(1, len(shards) + 1)]
    weight_map = {tensor: name for name, shapes in zip(names, shards, strict=True) for tensor in shapes}
    index = {"metadata": {"total_size": 2 * shape.weights()}, "weight_map": weight_map}
    return [
        _data(CONFIG, json.dumps(_config(shape, vocabulary, dtype), indent=2).encode()),
        _data(TOKENIZER_MODEL, data),
        _data(f"{SAFETENSORS}{INDEX}", json.dumps(index, indent=2).encode()),
        *(_safetensors(name, shapes, dtype, seed) for name, shapes in zip(names, shards, strict=True)),
    ]


def _shards(shape: LlamaShape) -> Iterator[Shapes]:
    shard: Shapes = {}
    for name, size in shape.tensors().items():
        if shard and 2 * (_count(shard) + math.prod(size)) > SHARD_BYTES:
            yield shard
            shard = {}
        shard[hugging_face_name(name)] = size
    yield shard


def _config(shape: LlamaShape, vocabulary: Vocabulary, dtype: str) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": shape.width,
        "intermediate_size": shape.mlp,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_heads,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": shape.norm_eps,
        "tie_word_embeddings": shape.is_tied,
        "torch_dtype": "bfloat16" if dtype == "bf16" else "float16",
        "bos_token_id": vocabulary.begin,
        "eos_token_id": vocabulary.end,
        "initializer_range": STD,
    }


def _data(name: str, data: bytes) -> _Part:
    def write(path: Path, written: Callable[[int], None]) -> None:
        path.write_bytes(data)
        written(len(data))

    return _Part(name, len(data), write)
