"""A Hugging Face LLaMA folder: its sizes from config.json, and its weights tensor by tensor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from minigpt4.core.errors import BundleError
from minigpt4.core.weights.gguf.to_hf import hugging_face_name
from minigpt4.core.weights.gguf.writer import LlamaShape
from minigpt4.core.weights.llava_folder import language_settings, read_language

CONFIG = "config.json"
SAFETENSORS, INDEX = "model.safetensors", ".index.json"

FLOATS = ("float16", "bfloat16", "float32", "float64")

IGNORED = "rotary_emb.inv_freq"
"""A buffer that old versions of transformers saved; it follows from the shape."""


class LlamaFolder:
    """Shape and weights of a LLaMA as transformers saves it, alone or in LLaVA: safetensors or pickles."""

    def __init__(self, folder: Path) -> None:
        """Maps every weight once. Raises BundleError for another architecture and for missing, unexpected
        or damaged weights."""
        self.folder = folder
        config = language_settings(_json(folder / CONFIG))
        tensors = self._tensors()
        self.shape = _shape(config, folder / CONFIG, is_tied="lm_head.weight" not in tensors)
        wanted = {hugging_face_name(name) for name in self.shape.tensors()}
        for problem, names in (
            ("lacks", wanted - tensors.keys()),
            ("has unknown", {name for name in tensors.keys() - wanted if not name.endswith(IGNORED)}),
        ):
            if names:
                shown = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
                raise BundleError(
                    f"{folder} {problem} tensors ({len(names)}: {shown}); it is not a whole LLaMA of "
                    f"{self.shape.layers} layers."
                )
        for name in wanted:
            dtype = str(tensors[name].dtype).removeprefix("torch.")
            if dtype not in FLOATS:
                raise BundleError(
                    f"{folder}: {name} holds {dtype}, not one of {', '.join(FLOATS)}; give weights that are "
                    "not quantised."
                )

    def read(self, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """A tensor by transformers' name, in float16, float32 or float64 (bfloat16 as float32)."""
        # Reopened, so that the previous tensor's mapping is freed: a 13B folder has 26 GB.
        tensor = self._tensors()[name]
        if tensor.shape != shape:
            raise BundleError(
                f"{self.folder}: {name} has the shape {tuple(tensor.shape)}, but {CONFIG} asks for {shape}; "
                "weights and configuration belong to different models."
            )
        array: NDArray[Any] = (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
        return array

    def _tensors(self) -> Mapping[str, Any]:
        return read_language(self.folder)


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
