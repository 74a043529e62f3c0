"""The trainable adapter: the projection, and in one ablation the Q-Former in front of it.

Always float32 in memory. On disk it is `projection.safetensors` (core/projection.py) and, if the Q-Former
is trained too, `qformer.safetensors` beside it, in the form that core/weights/released.py reads as any
bundle's Q-Former.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.bundles.geometry import ViTGeometry
from minigpt4.core.download.fetch import path_of
from minigpt4.core.errors import BundleError, UsageError
from minigpt4.core.projection import Projection, load_projection, save_projection
from minigpt4.core.storage.atomic import replacing
from minigpt4.core.types import Text, Tokenize
from minigpt4.core.vision.base import VisionTower
from minigpt4.core.vision.fingerprint import tower_fingerprint
from minigpt4.core.vision.objects import IS_EMPTY, IS_OBJECT, PROMPT_SCALE
from minigpt4.core.vision.objects import WIDTH as OBJECT_WIDTH
from minigpt4.core.vision.tower import load_tower
from minigpt4.core.weights.released import projection_tensors
from minigpt4.core.weights.run_projection import PROJECTION, QFORMER, checkpoint_folders
from minigpt4.train.captions.labels import load_classes
from minigpt4.train.recipe import Recipe

if TYPE_CHECKING:
    from minigpt4.core.vision.eva import QueryTransformer


class Adapter(nn.Module):
    """Features (B, N, D) of a tower -> image embeddings (B, N, D_llm).

    A trainable Q-Former has no dropout here, unlike the original's: the loss of a sample does not depend
    on the process or the time at which it is computed.
    """

    def __init__(
        self,
        projection: Projection,
        qformer: QueryTransformer | None = None,
        norm: Mapping[str, Tensor] | None = None,
    ) -> None:
        """`norm` is the frozen `ln_vision`, which is saved with the Q-Former; the tower applies it."""
        super().__init__()
        self.projection = projection
        self.qformer = qformer
        self.norm = dict(norm or {})
        self.eval().requires_grad_(True)

    def train_only(self, columns: slice) -> None:
        """Keep all weights of the projection but those of these input columns."""

        def kept(gradient: Tensor) -> Tensor:
            part = torch.zeros_like(gradient)
            part[:, columns] = gradient[:, columns]
            return part

        linear = self.projection.linear
        linear.weight.register_hook(kept)  # type: ignore[no-untyped-call]
        linear.bias.register_hook(torch.zeros_like)  # type: ignore[no-untyped-call]

    def forward(self, features_BND: Tensor) -> Tensor:
        """Features, or the inputs of a trainable Q-Former -> image embeddings."""
        if self.qformer is not None:
            features_BND = self.qformer(features_BND)
        image_BND: Tensor = self.projection(features_BND)
        return image_BND

    def param_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """AdamW's parameter groups: weight decay for matrices, none for vectors (biases, norms)."""
        matrices = [parameter for parameter in self.parameters() if parameter.ndim > 1]
        vectors = [parameter for parameter in self.parameters() if parameter.ndim <= 1]
        return [
            {"params": matrices, "weight_decay": weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]


def initial_adapter(recipe: Recipe, bundle: Bundle, start: Path | None) -> Adapter:
    """The adapter at the start of a run; `bundle` is `bundle_for(recipe, ...)`.

    `start` is a projection's file, or the folder of a run or of a checkpoint; None initialises the
    projection from the recipe's seed. A trainable Q-Former starts from the one in that folder, else from
    the bundle's. Raises BundleError if a file is missing, damaged or of another shape.
    """
    spec = bundle.projection
    if start is None:
        projection = Projection(spec.inputs, spec.outputs, spec.layers)
        initialise(projection, noise=recipe.initial_std, seed=recipe.seed)
    else:
        check_start(start, recipe, bundle)
        projection = _start_projection(_files(start)[0], bundle)
    if recipe.qformer != "trained":
        return Adapter(projection)
    own = _files(start)[1] if start is not None else None
    return Adapter(projection, *_qformer(bundle, own))


def check_start(start: Path | None, recipe: Recipe, bundle: Bundle) -> None:
    """Raise if a run cannot start from `start`; None is always valid.

    BundleError if its projection is missing, damaged or of another shape; UsageError if it was trained
    with its own Q-Former, which this recipe would not use.
    """
    if start is None:
        return
    projection, qformer = _files(start)
    if qformer is not None and recipe.qformer != "trained":
        raise UsageError(
            f"The projection in {start} was trained together with its Q-Former ({qformer.name}), which the "
            f"recipe's qformer = '{recipe.qformer}' would not use; add --set qformer=trained."
        )
    _start_projection(projection, bundle)


def _start_projection(path: Path, bundle: Bundle) -> Projection:
    """A trained projection; one from before the bundle had a detector gets empty columns for its vectors."""
    spec = bundle.projection
    added = OBJECT_WIDTH + bundle.objects.soft_prompt if bundle.objects is not None else 0
    weight = projection_tensors(path).get("weight")
    is_earlier = weight is not None and weight.ndim == 2 and weight.shape[1] == spec.inputs - added
    if not added or spec.layers != 1 or not is_earlier:
        return load_projection(path, spec.inputs, spec.outputs, spec.layers)
    earlier = load_projection(path, spec.inputs - added, spec.outputs)
    projection = Projection(spec.inputs, spec.outputs)
    with torch.no_grad():
        projection.linear.weight.zero_()[:, : earlier.inputs] = earlier.linear.weight
        projection.linear.bias.copy_(earlier.linear.bias)
    return projection


def save_adapter(folder: Path, adapter: Adapter) -> None:
    """Write the adapter's files into `folder`, in float32, each atomically.

    Raises BundleError if a weight is not finite, OSError if they cannot be written.
    """
    save_projection(folder / PROJECTION, adapter.projection)
    if adapter.qformer is None:
        return
    tensors = {f"ln_vision.{name}": tensor for name, tensor in adapter.norm.items()}
    tensors |= {name.removeprefix("layers."): tensor for name, tensor in adapter.qformer.state_dict().items()}
    with replacing(folder / QFORMER) as draft:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            draft,
            metadata={"format": "pt"},
        )


def load_adapter(folder: Path, adapter: Adapter) -> None:
    """Load what `save_adapter` wrote; raises BundleError if it is missing or does not fit."""
    own = adapter.projection
    saved = load_projection(folder / PROJECTION, own.inputs, own.outputs, own.layers)
    own.load_state_dict(saved.state_dict())
    if adapter.qformer is not None:
        _load_qformer_into(adapter.qformer, folder / QFORMER)


def average_adapters(like: Adapter, weights: Mapping[Path, float]) -> Adapter:
    """The weighted sum of the adapters saved in these folders, on the CPU; `like` has their shapes."""
    mean, one = (deepcopy(like).cpu() for _ in range(2))
    with torch.no_grad():
        for parameter in mean.parameters():
            parameter.zero_()
        for folder, weight in weights.items():
            load_adapter(folder, one)
            for parameter, value in zip(mean.parameters(), one.parameters(), strict=True):
                parameter.add_(value, alpha=weight)
    return mean


def tower_for(recipe: Recipe, bundle: Bundle, device: str = "cpu") -> VisionTower:
    """The frozen tower in front of the adapter; `bundle` is `bundle_for(recipe, ...)`.

    If the Q-Former is trained, the tower ends before it. Raises as `load_tower`.
    """
    tower = load_tower(bundle, device=device)
    if recipe.qformer != "trained":
        return tower
    from minigpt4.core.vision.eva import EvaTower, UpToQFormer

    assert isinstance(tower, EvaTower)  # no other has a Q-Former
    geometry = ViTGeometry.parse(bundle.vision.options, bundle.name)
    return UpToQFormer(tower, geometry, bundle.vision.image_size)


def features_fingerprint(recipe: Recipe, bundle: Bundle) -> str:
    """The fingerprint of what `tower_for` loads: equal only for towers with equal features."""
    fingerprint = tower_fingerprint(bundle)
    return f"{fingerprint}-before-qformer" if recipe.qformer == "trained" else fingerprint


def feature_shape(recipe: Recipe, bundle: Bundle) -> tuple[int, int]:
    """(N, D) of one image's features from `tower_for`, without loading it."""
    if recipe.qformer != "trained":
        return bundle.projection.image_tokens, bundle.projection.inputs
    geometry = ViTGeometry.parse(bundle.vision.options, bundle.name)
    return geometry.positions(bundle.vision.image_size), geometry.width


def _files(start: Path) -> tuple[Path, Path | None]:
    """The projection, and the Q-Former if there is one, of a file, a run or a checkpoint."""
    if not start.is_dir():
        return start, None
    folder = start
    if not (folder / PROJECTION).is_file():
        # A run that has not ended.
        folder = next(reversed(checkpoint_folders(start)), start)
    qformer = folder / QFORMER
    return folder / PROJECTION, qformer if qformer.is_file() else None


def _qformer(bundle: Bundle, own: Path | None) -> tuple[QueryTransformer, dict[str, Tensor]]:
    from minigpt4.core.vision.eva import load_qformer

    assert bundle.qformer is not None  # bundle_for checks it
    path = own or path_of(bundle.qformer.file, bundle)
    width = ViTGeometry.parse(bundle.vision.options, bundle.name).width
    qformer, norm = load_qformer(path, bundle.qformer.options, width, bundle=bundle.name)
    for parameter in qformer.parameters():
        # Weights mapped from a file cannot be changed in place.
        parameter.data = parameter.data.clone()
    return qformer, norm


def _load_qformer_into(qformer: QueryTransformer, path: Path) -> None:
    from minigpt4.core.weights.read_tensors import read_tensors

    tensors = read_tensors(path, what="Q-Former's file")
    with torch.no_grad():
        for name, own in qformer.state_dict().items():
            saved = tensors.get(name.removeprefix("layers."))
            if saved is None or saved.shape != own.shape:
                raise BundleError(
                    f"The Q-Former's file {path} does not fit: its '{name.removeprefix('layers.')}' is "
                    "missing or of another shape; take it from a run of this bundle."
                )
            own.copy_(saved)


def initialise(projection: Projection, *, noise: float, seed: int) -> None:
    """Initialise a projection in place, the same for the same seed.

    With `noise` above 0 the first layer's weights are drawn from N(0, noise²), those of later layers from
    N(0, 1/D_llm), which keeps the scale of their inputs, and biases are 0. With 0 all are drawn as in
    torch.nn.Linear, uniformly between -1/sqrt(inputs) and 1/sqrt(inputs).
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in (projection.linear, *projection.deeper):
            if not noise:
                bound = layer.in_features**-0.5
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.uniform_(-bound, bound, generator=generator)
                continue
            spread = noise if layer is projection.linear else projection.outputs**-0.5
            layer.weight.normal_(0.0, spread, generator=generator)
            layer.bias.zero_()


def name_classes(
    projection: Projection,
    *,
    class_columns: slice,
    token_embeddings_VD: Tensor,
    tokenize: Tokenize,
    scale: float,
) -> None:
    """Initialise the weight column of each class with the language model's embedding of the class's name.

    mini's features end in the probabilities of 1,000 ImageNet classes; this way a class maps to its name
    from the first step, even if training shows one photo of it or none. Column c of `class_columns`
    becomes `scale` times the mean of two embeddings: of the class's own name ("tabby cat") and of its
    everyday word ("cat"), each the mean over its tokens. Raises UsageError if the projection has later
    layers, which would scramble the names, or the tower no classes.
    """
    if projection.deeper:
        raise UsageError(
            f"class_name_scale is {scale:g}, but a projection of {projection.layers} layers has "
            "no column that stands for a class; give --set class_name_scale=0."
        )
    columns = range(*class_columns.indices(projection.inputs))
    if not columns:
        raise UsageError(
            f"class_name_scale is {scale:g}, but this bundle's vision tower names no classes; give "
            "--set class_name_scale=0."
        )
    embedding_of = _word_embeddings(token_embeddings_VD, tokenize)
    with torch.no_grad():
        for column, of_class in zip(columns, load_classes(), strict=True):
            both = torch.stack([embedding_of(of_class.name), embedding_of(of_class.basic)])
            projection.linear.weight[:, column] = scale * both.mean(0)


def name_objects(
    projection: Projection,
    tower: VisionTower,
    *,
    token_embeddings_VD: Tensor,
    tokenize: Tokenize,
    soft_prompt: str,
) -> None:
    """Initialise the weight columns of a detector's vectors with the embeddings of what they stand for.

    An object's vector starts at the mean of its name's tokens plus that of its number, an empty one at a
    full stop, and the soft prompt at the tokens of `soft_prompt`, if that is not empty. The projection's
    bias, which the tower's vectors have learned, is taken off. Raises UsageError if the projection has
    later layers, or the words are not as many tokens as the soft prompt has vectors.
    """
    if projection.deeper:
        raise UsageError(
            f"A projection of {projection.layers} layers has no columns that stand for a detector's "
            "classes; give --set layers=1, or take a bundle without 'objects'."
        )
    embedding_of = _word_embeddings(token_embeddings_VD, tokenize)
    prompt = range(*tower.prompt_columns.indices(projection.inputs))
    tokens = list(tokenize(Text(soft_prompt))) if soft_prompt else []
    if tokens and len(tokens) != len(prompt):
        raise UsageError(
            f"'soft_prompt' is '{soft_prompt}', which is {len(tokens)} tokens, and the bundle's soft prompt "
            f"has {len(prompt)} vectors; change the words, or 'objects.soft_prompt' in its manifest."
        )
    weight, bias = projection.linear.weight, projection.linear.bias
    with torch.no_grad():
        weight[:, tower.object_columns] = 0
        for column, word in tower.named_columns.items():
            weight[:, column] = embedding_of(word)
        weight[:, tower.prompt_columns.start + IS_OBJECT] = -bias
        weight[:, tower.prompt_columns.start + IS_EMPTY] = embedding_of(".") - bias
        for column, token in zip(prompt, tokens, strict=False):
            weight[:, column] = (token_embeddings_VD[token].float().cpu() - bias) / PROMPT_SCALE


def _word_embeddings(token_embeddings_VD: Tensor, tokenize: Tokenize) -> Callable[[str], Tensor]:
    """The mean embedding of a word's tokens, as it stands inside a sentence."""
    embeddings_VD = token_embeddings_VD.detach().float().cpu()
    return lambda word: embeddings_VD[list(tokenize(Text(f" {word}")))].mean(0)
