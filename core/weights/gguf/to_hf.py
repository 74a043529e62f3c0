"""GGUF files: a check before they reach native code, and a one-time conversion for torch.

The converted folder holds the dequantised weights exactly (float32: loading is a memory map,
0.1 s where float16 took 0.5 s to widen), the configuration of the transformers library, and a
`tokenizer.json`. Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.errors import BackendError, BundleError
from minigpt4.core.storage.paths import cache_home
from minigpt4.core.weights.gguf.header import LEAST_BYTES, MAGIC, read_header

WEIGHTS, CONFIG, TOKENIZER, CONTENTS = "model.safetensors", "config.json", "tokenizer.json", "contents.json"
STALE_SECONDS = 3600.0
"""A half-made folder older than this belongs to a process that was killed; a conversion takes seconds."""

CONVERSION_VERSION = 1
"""To be raised whenever this file converts otherwise; folders of another version are made again."""

CONTROL_TOKEN = 3
"""What a GGUF's `token_type` says of tokens that mark turns and never stand for text."""

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
"""Parts of a Llama as GGUF calls them, and as transformers does."""


def check_gguf(path: Path, expected_bytes: int | None = None) -> None:
    """Raise BundleError where the file is missing, is no GGUF, or is cut short.

    Native code may abort the process on a damaged file, so this comes before it. A file of its
    `expected_bytes` is whole; without them its table of tensors shows where it must end (0.03 s).
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
    """The way out where a bundle's file is damaged; bundles keep their files in folders of their names."""
    if path.parent.name == "gguf":
        return f"Make it again with `minigpt4 models quantize {path.parent.parent.name}`."
    return f"Fetch it again with `minigpt4 models pull {path.parent.name}`."


def converted_folder(gguf: Path, sha256: str) -> Path:
    """The folder with the GGUF's weights, configuration and tokenizer for torch, made if need be.

    `sha256` is the file's checksum; it names the folder. Takes about 5 s the first time. Safe
    against a second process doing the same, and against a crash half-way. Raises BundleError where
    the file is not one that can be converted, BackendError where the disk is full.
    """
    folder = cache_home() / "converted" / sha256[:16]
    if is_whole(folder):
        return folder
    check_gguf(gguf)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(folder)
        building = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        _convert(gguf, building)
        _publish(building, folder)
    except OSError as error:
        raise _unwritable(folder, error) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder


def is_whole(folder: Path) -> bool:
    """Whether this version's files are all there with the size and, the small ones, the checksum written.

    The checksum of 540 MB of weights would cost half a second at every start; their size reveals a
    file cut short, and files reach the disk before the folder gets its name.
    """
    try:
        contents = json.loads((folder / CONTENTS).read_bytes())
        is_current: bool = contents["version"] == CONVERSION_VERSION
        return is_current and all(
            _fact(folder / name) == contents[name] for name in (WEIGHTS, CONFIG, TOKENIZER)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def discard(folder: Path) -> None:
    """Remove a converted folder that turned out to be damaged."""
    aside = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    with contextlib.suppress(FileNotFoundError):
        folder.rename(aside / "damaged")
    shutil.rmtree(aside, ignore_errors=True)


def _fact(path: Path) -> int | str:
    return path.stat().st_size if path.name == WEIGHTS else hashlib.sha256(path.read_bytes()).hexdigest()


def _publish(building: Path, folder: Path) -> None:
    contents: dict[str, int | str] = {"version": CONVERSION_VERSION}
    contents |= {name: _fact(building / name) for name in (WEIGHTS, CONFIG, TOKENIZER)}
    (building / CONTENTS).write_text(json.dumps(contents))
    for path in building.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    if folder.exists() and not is_whole(folder):
        discard(folder)
    try:
        building.rename(folder)
    except OSError:
        if not is_whole(folder):  # otherwise another process was first, with the same content
            raise


def _remove_stale(folder: Path) -> None:
    for path in folder.parent.glob(f"{folder.name}.*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def _unwritable(folder: Path, error: OSError) -> BackendError:
    return BackendError(
        f"The converted language model cannot be written to {folder}: {error.strerror or error}. It takes "
        "up to six times the size of the GGUF; free some space or set MINIGPT4_HOME to another disk."
    )


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
    """The `tokenizer.json` of a byte-level BPE vocabulary whose digits stand alone (SmolLM)."""
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
