"""Write a Llama as a GGUF file, tensor by tensor.

Names and metadata are those of llama.cpp's own conversion of LLaMA folders; layout:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.weights.sentencepiece_vocab import Vocabulary

ALIGNMENT = 32
"""Every tensor begins at a multiple of this (the format's default)."""

FILE_TYPES = {"F16": 1, "Q4_0": 2, "Q8_0": 7, "Q4_K_M": 15, "Q5_K_M": 17}
"""llama.cpp's numbers for the quantisations (`enum llama_ftype` in its llama.h)."""

BITS_PER_WEIGHT = {"F16": 16.0, "Q8_0": 8.5, "Q5_K_M": 5.71, "Q4_K_M": 4.86, "Q4_0": 4.6}
"""Approximate average over a file: llama.cpp gives some tensors more. Four layers at 7B's width took up to
3 % more than this, 32 layers in Q4_0 1 % less."""

METADATA_BYTES = 2_000_000
"""Upper bound for the names, scores and types of 32000 tokens."""


@dataclass(frozen=True)
class LlamaShape:
    """The sizes of every tensor of a Llama. `key_heads` < `heads` if heads share their keys."""

    layers: int
    width: int
    mlp: int
    heads: int
    key_heads: int
    vocabulary: int
    context: int
    norm_eps: float = 1e-6
    rope_base: float = 10000.0
    is_tied: bool = False
    """Whether the output rows are the embedding's."""

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's GGUF name and shape, in the order in which they are written."""
        keys = self.width // self.heads * self.key_heads
        shapes: dict[str, tuple[int, ...]] = {"token_embd": (self.vocabulary, self.width)}
        for layer in range(self.layers):
            block = {
                "attn_norm": (self.width,),
                "attn_q": (self.width, self.width),
                "attn_k": (keys, self.width),
                "attn_v": (keys, self.width),
                "attn_output": (self.width, self.width),
                "ffn_norm": (self.width,),
                "ffn_gate": (self.mlp, self.width),
                "ffn_up": (self.mlp, self.width),
                "ffn_down": (self.width, self.mlp),
            }
            shapes |= {f"blk.{layer}.{part}": shape for part, shape in block.items()}
        shapes["output_norm"] = (self.width,)
        if not self.is_tied:
            shapes["output"] = (self.vocabulary, self.width)
        return {f"{name}.weight": shape for name, shape in shapes.items()}

    def weights(self) -> int:
        """How many numbers the tensors hold."""
        return sum(int(np.prod(shape)) for shape in self.tensors().values())

    def gguf_bytes(self, quant: str) -> int:
        """About how many bytes a GGUF of this quantisation takes."""
        return int(self.weights() * BITS_PER_WEIGHT[quant] / 8) + METADATA_BYTES


TensorKind = Callable[[str, tuple[int, ...]], str]
"""The ggml type ("F32", "F16", "Q4_0" ...) of a tensor, from its name and shape."""

TensorBytes = Callable[[str, tuple[int, ...], str], NDArray[Any]]
"""The content of a tensor of that name, shape and ggml type, in the type's own packing."""


def plain_kind(name: str, shape: tuple[int, ...]) -> str:
    """The types of an F16 file: norms in 32 bits, all else in 16."""
    return "F32" if len(shape) == 1 else "F16"


def write_gguf(
    path: Path,
    shape: LlamaShape,
    vocabulary: Vocabulary,
    *,
    name: str,
    quant: str,
    kind: TensorKind,
    content: TensorBytes,
    written: Callable[[int], None] = lambda _: None,
) -> None:
    """Write a whole GGUF to `path`; one tensor is in memory at a time.

    `content` is called for the tensors in file order; `written` is called with the tensors' bytes so far.
    Raises OSError if they cannot be written.
    """
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter

    writer = GGUFWriter(path, "llama")
    try:
        _add_metadata(writer, shape, vocabulary, name, FILE_TYPES[quant])
        table: Mapping[str, tuple[int, ...]] = shape.tensors()
        kinds = {tensor: kind(tensor, tensor_shape) for tensor, tensor_shape in table.items()}
        for tensor, tensor_shape in table.items():
            ggml = GGMLQuantizationType[kinds[tensor]]
            numbers, size = GGML_QUANT_SIZES[ggml]
            length = int(np.prod(tensor_shape)) // numbers * size
            writer.add_tensor_info(tensor, tensor_shape, np.dtype(np.float32), length, raw_dtype=ggml)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        done = 0
        for tensor, tensor_shape in table.items():
            data = content(tensor, tensor_shape, kinds[tensor])
            writer.write_tensor_data(data)
            done += data.nbytes
            written(done)
    finally:
        writer.close()


def _add_metadata(writer: Any, shape: LlamaShape, vocabulary: Vocabulary, name: str, file_type: int) -> None:
    writer.add_name(name)
    writer.add_file_type(file_type)
    writer.add_quantization_version(2)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.mlp)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.key_heads)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(list(vocabulary.texts))
    writer.add_token_scores(list(vocabulary.scores))
    writer.add_token_types(list(vocabulary.kinds))
    writer.add_unk_token_id(vocabulary.unknown)
    writer.add_bos_token_id(vocabulary.begin)
    writer.add_eos_token_id(vocabulary.end)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(True)
