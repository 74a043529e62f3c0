"""Tiny LLaVA models of transformers with random weights: folders, and mmproj GGUFs as converters write."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from numpy.typing import NDArray
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    SiglipVisionConfig,
)

from minigpt4.core.weights.sentencepiece_vocab import made_up_vocabulary, sentencepiece_bytes

SIZE, PATCH, WIDTH, OUTPUTS, BLOCKS = 56, 14, 32, 48, 3
VOCABULARY = 32_000
MEAN, STD = (0.48, 0.45, 0.4), (0.27, 0.26, 0.28)

WriteMmproj = Callable[..., Path]


def tiny_llava(*, class_row: bool, vocabulary: int = 300) -> Any:
    """LLaVA with CLIP's tower, or SigLIP's, whose features are those of the second to last layer."""
    sizes: dict[str, Any] = {
        "hidden_size": WIDTH,
        "intermediate_size": 80,
        "num_hidden_layers": BLOCKS,
        "num_attention_heads": 4,
        "image_size": SIZE,
        "patch_size": PATCH,
    }
    vision = CLIPVisionConfig(**sizes) if class_row else SiglipVisionConfig(**sizes, vision_use_head=False)
    text = LlamaConfig(
        hidden_size=OUTPUTS,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        vocab_size=vocabulary,
        max_position_embeddings=512,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default" if class_row else "full",
        image_token_index=vocabulary - 1,
    )
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "norm" in name:
                tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator))
            else:
                scale = 1.3 * tensor.shape[-1] ** -0.5 if tensor.ndim == 2 else 0.2
                tensor.copy_(scale * torch.randn(tensor.shape, generator=generator))
        for name, tensor in model.named_parameters():
            if "position_embedding" in name:
                tensor.mul_(tensor.shape[-1] ** 0.5)
    return model.eval()


def save_llava(folder: Path, *, class_row: bool) -> Any:
    """A model's Hugging Face folder, as transformers writes it, with a vocabulary; the model."""
    model = tiny_llava(class_row=class_row, vocabulary=VOCABULARY)
    model.save_pretrained(folder)
    (folder / "tokenizer.model").write_bytes(sentencepiece_bytes(made_up_vocabulary(VOCABULARY)))
    colors = {"image_mean": MEAN, "image_std": STD}
    (folder / "preprocessor_config.json").write_text(json.dumps(colors))
    return model


def reference_embedding(model: Any, picture_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What transformers makes of a picture of the tower's own size."""
    pixels_HWC = (picture_HWC.astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
    pixels_BCHW = torch.from_numpy(pixels_HWC.transpose(2, 0, 1).copy())[None]
    with torch.no_grad():
        found = model.get_image_features(pixel_values=pixels_BCHW)
    image_ND: Tensor = (found.pooler_output if hasattr(found, "pooler_output") else found)[0]
    return image_ND.reshape(-1, OUTPUTS).numpy()


def converter_names(name: str, *, swapped: bool) -> str | None:
    """llama.cpp's name of a tensor of LlavaForConditionalGeneration; None for the language model's."""
    name = name.removeprefix("model.").replace("vision_tower.vision_model.", "vision_tower.")
    up, down = ("ffn_down", "ffn_up") if swapped else ("ffn_up", "ffn_down")
    for theirs, ours in {
        "multi_modal_projector.linear_1": "mm.0",
        "multi_modal_projector.linear_2": "mm.2",
        "vision_tower.": "v.",
        "encoder.layers": "blk",
        "embeddings.class_embedding": "class_embd",
        "embeddings.patch_embedding": "patch_embd",
        "embeddings.position_embedding": "position_embd",
        "pre_layrnorm": "pre_ln",
        "self_attn.out_proj": "attn_out",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "layer_norm1": "ln1",
        "layer_norm2": "ln2",
        "mlp.fc1": up,
        "mlp.fc2": down,
    }.items():
        name = name.replace(theirs, ours)
    return name if name.startswith(("v.", "mm.")) and "post_layernorm" not in name else None


def converter_metadata(model: Any, blocks: int) -> dict[str, Any]:
    vision = model.config.vision_config
    return {
        "clip.has_vision_encoder": True,
        "clip.projector_type": "mlp",
        "clip.vision.image_size": SIZE,
        "clip.vision.patch_size": PATCH,
        "clip.vision.embedding_length": WIDTH,
        "clip.vision.feed_forward_length": vision.intermediate_size,
        "clip.vision.projection_dim": OUTPUTS,
        "clip.vision.attention.head_count": vision.num_attention_heads,
        "clip.vision.attention.layer_norm_epsilon": float(vision.layer_norm_eps),
        "clip.vision.block_count": blocks,
        "clip.vision.image_mean": list(MEAN),
        "clip.vision.image_std": list(STD),
        "clip.use_gelu": vision.hidden_act.startswith("gelu"),
    }


def add(writer: GGUFWriter, key: str, value: Any) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)


@pytest.fixture
def write_mmproj(tmp_path: Path) -> WriteMmproj:
    """Write a model's mmproj; `blocks` are those kept, `feature_layer` the key's value if there is one."""

    def write(
        model: Any,
        *,
        blocks: int = BLOCKS,
        feature_layer: Sequence[int] = (),
        swapped: bool = False,
        half: bool = False,
        change: Callable[[dict[str, Any]], None] = lambda metadata: None,
        without: str = "",
    ) -> Path:
        path = tmp_path / "mmproj.gguf"
        metadata = converter_metadata(model, blocks)
        if feature_layer:
            metadata["clip.vision.feature_layer"] = list(feature_layer)
        change(metadata)
        writer = GGUFWriter(path, "clip")
        for key, value in metadata.items():
            add(writer, key, value)
        for name, tensor in model.state_dict().items():
            own = converter_names(name, swapped=swapped)
            if (
                own is None
                or any(f"blk.{index}." in own for index in range(blocks, BLOCKS))
                or own == without
            ):
                continue
            array = tensor.numpy()
            is_half = half and array.ndim > 1 and "position" not in own
            writer.add_tensor(own, array.astype(np.float16 if is_half else np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return write
