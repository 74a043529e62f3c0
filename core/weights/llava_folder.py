"""A Hugging Face folder of LLaVA's form: its settings with their defaults, and the parts of its weights.

transformers has renamed the tensors several times: a language model's are `language_model.model.X` or
`model.language_model.X`, a tower's lie in `vision_tower.vision_model.X` or `model.vision_tower.X`. The
readers of plain LLaMA folders read such a folder's language model through here, so that it is used in place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

LLAVA = "llava"
LLAMA_DEFAULTS = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
}
"""Defaults of transformers' LlamaConfig: LLaVA-1.5's own file omits values equal to them."""

LANGUAGE = re.compile(r"(?:model\.)?language_model\.(?:model\.)?(?P<name>.+)")
HEAD = "lm_head.weight"
TOWER = re.compile(r"(?:model\.)?vision_tower\.(?:vision_model\.)?(?P<name>.+)")
PROJECTOR = re.compile(r"(?:model\.)?multi_modal_projector\.(?P<name>.+)")


def language_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a folder's language model, whether it is the whole folder or a part of LLaVA's."""
    if settings.get("model_type") != LLAVA:
        return dict(settings)
    text = settings.get("text_config")
    return LLAMA_DEFAULTS | (text if isinstance(text, dict) else {})


def language_tensors(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The language model's tensors by LlamaForCausalLM's names; a plain folder's are returned as they are."""
    names = {}
    for name in tensors:
        if found := LANGUAGE.fullmatch(name):
            own = found["name"]
            names[own if own == HEAD else f"model.{own}"] = name
        elif name == HEAD:
            names[HEAD] = name
    return Renamed(tensors, names) if len(names) > 1 else tensors


def part_of(tensors: Mapping[str, Tensor], part: re.Pattern[str]) -> Mapping[str, Tensor]:
    """The tensors that match TOWER or PROJECTOR, by their names inside that part."""
    return Renamed(tensors, {found["name"]: name for name in tensors if (found := part.fullmatch(name))})


class Renamed(Mapping[str, "Tensor"]):
    """Tensors under other names, each read when accessed."""

    def __init__(self, tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
        """`names` maps each name here to that in `tensors`; other tensors are left out."""
        self._tensors = tensors
        self._names = names

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[self._names[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def read_language(folder: Path) -> Mapping[str, Tensor]:
    """The tensors of the language model in a folder of either form; raises BundleError."""
    from minigpt4.core.weights.read_tensors import read_tensors  # imports torch

    return language_tensors(read_tensors(folder, what="language model"))
