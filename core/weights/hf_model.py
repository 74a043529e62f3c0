"""A Hugging Face LLaMA folder as a transformers model: created empty, then filled tensor by tensor.

No second copy of the weights exists at any time: a tensor that already has the wanted type stays
mapped from its file, any other is converted and freed before the next is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minigpt4.core.errors import BundleError
from minigpt4.core.weights.llava_folder import language_settings, read_language

CONFIG = "config.json"
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def empty_llama(folder: Path) -> Any:
    """The model that the folder's config.json describes, its weights on torch's device "meta"."""
    # Only the Llama classes: the whole library would take seconds longer to import.
    from transformers.models.llama.configuration_llama import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaForCausalLM, LlamaRotaryEmbedding

    path = folder / CONFIG
    try:
        settings = language_settings(json.loads(path.read_text(encoding="utf-8")))
        kind = settings["model_type"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise BundleError(
            f"{path} is not the configuration of a model ({error}); give a Hugging Face LLaMA folder."
        ) from error
    if kind != "llama":
        raise BundleError(f"{path} says '{kind}'; the torch backend reads models of the kind 'llama'.")
    config: Any = LlamaConfig(**{key: value for key, value in settings.items() if key != "model_type"})
    with torch.device("meta"):
        model: Any = LlamaForCausalLM(config)
    # The angles follow from the shape and are not weights; on "meta" they would have no values.
    model.model.rotary_emb = LlamaRotaryEmbedding(config)
    return model


def tensor_reader(folder: Path, model: Any) -> Callable[[str], Tensor]:
    """A function that reads one of the folder's tensors by its name in `model`.

    The head is the embedding if they are tied. Raises BundleError if any is missing, naming the first
    few; the returned function raises it if a tensor's shape is not the model's.
    """
    tensors = read_language(folder)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    sources = {name: name for name in shapes}
    if HEAD not in tensors and model.config.tie_word_embeddings:
        sources[HEAD] = EMBEDDING
    missing = sorted(name for name, source in sources.items() if source not in tensors)
    if missing:
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise BundleError(
            f"The language model {folder} lacks {len(missing)} tensors ({shown}); its files are not all "
            "there, or belong to another model."
        )

    def read(name: str) -> Tensor:
        tensor = tensors[sources[name]]
        if tensor.shape != shapes[name]:
            raise BundleError(
                f"The language model {folder}: {name} has the shape {tuple(tensor.shape)}, but {CONFIG} asks "
                f"for {tuple(shapes[name])}; weights and configuration belong to different models."
            )
        return tensor

    return read


def put(model: Any, name: str, parameter: Tensor) -> None:
    """Replace the model's parameter of that name by a tensor, or a parameter of another class."""
    owner, _, leaf = name.rpartition(".")
    if not isinstance(parameter, torch.nn.Parameter):
        parameter = torch.nn.Parameter(parameter, requires_grad=False)
    setattr(model.get_submodule(owner), leaf, parameter)


def load_llama(folder: Path, *, dtype: torch.dtype, device: str) -> Any:
    """The folder's model with all weights in `dtype` on `device`.

    Raises BundleError if a file is missing, damaged or of another model.
    """
    model = empty_llama(folder)
    read = tensor_reader(folder, model)
    for name, _ in list(model.named_parameters()):
        put(model, name, read(name).to(device=device, dtype=dtype))
    return finished(model, device)


def finished(model: Any, device: str) -> Any:
    """The filled model in eval mode, its head shared with the embedding if the configuration says so."""
    if model.config.tie_word_embeddings:
        put(model, HEAD, model.get_submodule("model.embed_tokens").weight)
    model.model.rotary_emb.to(device)
    return model.eval()
