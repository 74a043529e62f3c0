"""GGUF files: a check before they reach native code, and a one-time conversion for torch.

The converted folder holds the dequantised weights exactly (float32: loading is a memory map,
0.1 s, while float16 took 0.5 s to widen), the configuration of the transformers library, and a
`tokenizer.json`. Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.errors import BackendError, BundleError
from minigpt4.core.storage.locks import locked
from minigpt4.core.storage.paths import cache_home
from minigpt4.core.weights.gguf.header import LEAST_BYTES, MAGIC, read_header

WEIGHTS, CONFIG, TOKENIZER, CONTENTS = "model.safetensors", "config.json", "tokenizer.json", "contents.json"
CONVERSION_VERSION = 1
"""Raise it whenever the conversion in this file changes; older folders are then converted again."""

CONTROL_TOKEN = 3
"""The `token_type` in a GGUF of tokens that mark turns and never represent text."""

NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
"""GGUF's names of the parts of a Llama, and transformers' names."""


def check_gguf(path: Path, expected_bytes: int | None = None) -> None:
    """Raise BundleError if the file is missing, is not a GGUF, or is truncated.

    Native code may abort the process on a damaged file, so this check precedes it. A file of its
    `expected_bytes` is complete; without them the table of tensors gives the minimum size (0.03 s).
    """
    advice = fetch_again(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            magic = file.read(len(MAGIC))
        if magic != MAGIC or size < LEAST_BYTES:
            raise BundleError(f"The language model {path} is not a GGUF file or is damaged. {advice}")
        if expected_bytes is None:
            end = read_header(path).end
            if size < end:
                raise ValueError(f"it has {size} bytes, but its weights end at {end}")
    except OSError as error:
        reason = error.strerror or error
        raise BundleError(f"The language model {path} cannot be read: {reason}. {advice}") from error
    except ValueError as error:
        raise BundleError(f"The language model {path} is cut short or damaged: {error}. {advice}") from error
    if expected_bytes is not None and size != expected_bytes:
        raise BundleError(
            f"The language model {path} has {size} bytes instead of {expected_bytes}; it is damaged. {advice}"
        )


def fetch_again(path: Path) -> str:
    """The advice for a damaged file of a bundle, whose name is the name of its folder."""
    if path.parent.name == "gguf":
        return f"Make it again with `minigpt4 models quantize {path.parent.parent.name}`."
    return f"Fetch it again with `minigpt4 models pull {path.parent.name}`."


def converted_folder(gguf: Path, sha256: str) -> Path:
    """The folder with the GGUF's weights, configuration and tokenizer for torch, converted if necessary.

    `sha256` is the file's checksum; it names the folder. Takes about 5 s the first time. Safe
    against a second process that does the same, and against a crash half-way. Raises BundleError for
    a file that cannot be converted, BackendError if the disk is full.
    """
    folder = cache_home() / "converted" / sha256[:16]
    if is_whole(folder):
        return folder
    check_gguf(gguf)
    try:
        with locked(folder):
            if not is_whole(folder):  # otherwise another process has converted it meanwhile
                _build(gguf, folder)
    except OSError as error:
        raise BackendError(
            f"The converted language model cannot be written to {folder}: {error.strerror or error}. It "
            "takes up to six times the size of the GGUF; free some space or set MINIGPT4_HOME to another "
            "disk."
        ) from error
    return folder


def is_whole(folder: Path) -> bool:
    """Whether this version's files are complete: the weights by size, the small files by checksum.

    The checksum of 540 MB of weights would cost half a second at every start; their size reveals a
    file cut short, and files reach the disk before the folder gets its name.
    """
    try:
        contents = json.loads((folder / CONTENTS).read_bytes())
        is_current: bool = contents["version"] == CONVERSION_VERSION
        return is_current and all(
            _size_or_digest(folder / name) == contents[name] for name in (WEIGHTS, CONFIG, TOKENIZER)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def discard(folder: Path) -> None:
    """Remove a converted folder that turned out to be damaged."""
    with locked(folder):
        shutil.rmtree(folder, ignore_errors=True)


def _build(gguf: Path, folder: Path) -> None:
    building = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(building, ignore_errors=True)  # left by a killed process
    building.mkdir()
    try:
        _convert(gguf, building)
        contents: dict[str, int | str] = {"version": CONVERSION_VERSION}
        contents |= {name: _size_or_digest(building / name) for name in (WEIGHTS, CONFIG, TOKENIZER)}
        (building / CONTENTS).write_text(json.dumps(contents))
        for path in building.iterdir():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        shutil.rmtree(folder, ignore_errors=True)
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _size_or_digest(path: Path) -> int | str:
    return path.stat().st_size if path.name == WEIGHTS else hashlib.sha256(path.read_bytes()).hexdigest()


def _convert(gguf: Path, folder: Path) -> None:
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from safetensors.numpy import save_file

    try:
        reader = GGUFReader(gguf)
        metadata: dict[str, Any] = {name: field.contents() for name, field in reader.fields.items()}
        config = _config(metadata)
        tokenizer = _tokenizer(metadata)
        tensors: dict[str, NDArray[np.float32]] = {}
        for tensor in reader.tensors:
            weight = dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
            if ".attn_q." in tensor.name:
                weight = _rotary_halves(weight, config["num_attention_heads"])
            elif ".attn_k." in tensor.name:
                weight = _rotary_halves(weight, config["num_key_value_heads"])
            tensors[hugging_face_name(tensor.name)] = np.ascontiguousarray(weight)
    except (ValueError, KeyError, IndexError, TypeError, NotImplementedError) as error:
        raise BundleError(
            f"The language model {gguf} cannot be converted for torch ({error}); it is damaged or of a kind "
            f"that this program does not know. {fetch_again(gguf)} Or try `--backend llamacpp`."
        ) from error
    config["tie_word_embeddings"] = "lm_head.weight" not in tensors
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config, indent=2))
    (folder / TOKENIZER).write_text(tokenizer, encoding="utf-8")


def hugging_face_name(name: str) -> str:
    """The transformers library's name of the tensor that GGUF calls `name`."""
    *block, part, kind = name.split(".")
    prefix = f"model.layers.{block[1]}." if block else ""
    return f"{prefix}{NAMES[part]}.{kind}"


def _rotary_halves(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """From llama.cpp's order of a head's rows (rotated pairs adjacent) to that of transformers
    (first half, second half): the inverse of `permute` in llama.cpp's convert_hf_to_gguf.py."""
    rows = weight.shape[0] // heads // 2
    return weight.reshape(heads, rows, 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def _config(metadata: dict[str, Any]) -> dict[str, Any]:
    """The configuration that transformers' LlamaConfig reads."""
    if metadata["general.architecture"] != "llama":
        raise ValueError(f"its architecture is '{metadata['general.architecture']}', not 'llama'")
    heads = metadata["llama.attention.head_count"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(metadata["tokenizer.ggml.tokens"]),
        "hidden_size": metadata["llama.embedding_length"],
        "intermediate_size": metadata["llama.feed_forward_length"],
        "num_hidden_layers": metadata["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.get("llama.attention.head_count_kv", heads),
        "max_position_embeddings": metadata["llama.context_length"],
        "rms_norm_eps": metadata["llama.attention.layer_norm_rms_epsilon"],
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": metadata.get("llama.rope.freq_base", 10000.0),
        },
        "bos_token_id": metadata.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": metadata["tokenizer.ggml.eos_token_id"],
        "pad_token_id": metadata.get("tokenizer.ggml.padding_token_id"),
    }


def _tokenizer(metadata: dict[str, Any]) -> str:
    """The `tokenizer.json` of a byte-level BPE vocabulary whose digits are single tokens (SmolLM)."""
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel, Digits
    from tokenizers.pre_tokenizers import Sequence as PreTokenizers

    kind = metadata["tokenizer.ggml.model"], metadata.get("tokenizer.ggml.pre")
    if kind != ("gpt2", "smollm"):
        raise ValueError(f"its tokenizer is {kind[0]}/{kind[1]}, not gpt2/smollm")
    texts = metadata["tokenizer.ggml.tokens"]
    pairs = (merge.partition(" ") for merge in metadata["tokenizer.ggml.merges"])
    merges = [(first, second) for first, _, second in pairs]
    tokenizer = Tokenizer(BPE(vocab={text: index for index, text in enumerate(texts)}, merges=merges))
    tokenizer.pre_tokenizer = PreTokenizers(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens(
        [
            AddedToken(text, special=True, normalized=False)
            for text, role in zip(texts, metadata["tokenizer.ggml.token_type"], strict=True)
            if role == CONTROL_TOKEN
        ]
    )
    return str(tokenizer.to_str())
