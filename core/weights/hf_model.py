"""A Hugging Face LLaMA folder as a transformers model: made empty, then filled tensor by tensor.

No second copy of the weights exists at any time: a tensor whose type is the one wanted stays
mapped from its file, any other is converted and let go before the next is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minigpt4.core.errors import BundleError
from minigpt4.core.weights.read_tensors import read_tensors

CONFIG = "config.json"
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def empty_llama(folder: Path) -> Any:
    """The model that the folder's config.json describes, its weights on torch's device "meta"."""
    # Only the Llama classes: the whole library takes seconds longer to import.
    from transformers.models.llama.configuration_llama import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaForCausalLM, LlamaRotaryEmbedding

    path = folder / CONFIG
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        kind = settings["model_type"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise BundleError(
            f"{path} is not the configuration of a model ({error}); give a Hugging Face LLaMA folder."
        ) from error
    if kind != "llama":
        raise BundleError(f"{path} says '{kind}'; the torch backend reads models of the kind 'llama'.")
    config: Any = LlamaConfig(**{key: value for key, value in settings.items() if key != "model_type"})
    with torch.device("meta"):
        model: Any = LlamaForCausalLM(config)
    # The angles follow from the shape and are no weights; on "meta" they would have no values.
    model.model.rotary_emb = LlamaRotaryEmbedding(config)
    return model


def folder_tensors(folder: Path, model: Any) -> Mapping[str, Tensor]:
    """The folder's tensors under the names of `model`; the head is the embedding where they share it.

    Raises BundleError where any is missing, naming the first few.
    """
    tensors = read_tensors(folder, what="language model")
    names = {name: name for name, _ in model.named_parameters()}
    if HEAD not in tensors and model.config.tie_word_embeddings:
        names[HEAD] = EMBEDDING
    missing = sorted(name for name, source in names.items() if source not in tensors)
    if missing:
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise BundleError(
            f"The language model {folder} lacks {len(missing)} tensors ({shown}); its files are not all "
            "there, or belong to another model."
        )
    return _Renamed(tensors, names)


class _Renamed(Mapping[str, Tensor]):
    """Tensors under other names, each read when it is asked for."""

    def __init__(self, tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
        self._tensors = tensors
        self._names = names

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[self._names[name]]

    def __iter__(self) -> Any:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def put(model: Any, name: str, parameter: Tensor) -> None:
    """Make a tensor, or a parameter of its own kind, the model's parameter of that name."""
    owner, _, leaf = name.rpartition(".")
    if not isinstance(parameter, torch.nn.Parameter):
        parameter = torch.nn.Parameter(parameter, requires_grad=False)
    setattr(model.get_submodule(owner), leaf, parameter)


def checked(tensor: Tensor, shape: tuple[int, ...], name: str, folder: Path) -> Tensor:
    """The tensor, if it has that shape; raises BundleError where it has another."""
    if tensor.shape != shape:
        raise BundleError(
            f"The language model {folder}: {name} has the shape {tuple(tensor.shape)}, but {CONFIG} asks "
            f"for {tuple(shape)}; weights and configuration belong to different models."
        )
    return tensor


def load_llama(folder: Path, *, dtype: torch.dtype, device: str) -> Any:
    """The folder's model with all weights in `dtype` on `device`.

    Raises BundleError where a file is missing, damaged or of another model.
    """
    model = empty_llama(folder)
    tensors = folder_tensors(folder, model)
    for name, parameter in list(model.named_parameters()):
        tensor = checked(tensors[name], parameter.shape, name, folder)
        put(model, name, tensor.to(device=device, dtype=dtype))
    if model.config.tie_word_embeddings:
        put(model, HEAD, model.get_submodule("model.embed_tokens").weight)
    return model.to(device)
