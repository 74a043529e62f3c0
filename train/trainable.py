"""What training moves: the projection, and in one ablation the Q-Former in front of it.

In memory always float32. On disk it is `projection.safetensors` (core/projection.py) and, where the
Q-Former is trained too, `qformer.safetensors` beside it, in the form that core/weights/released.py reads
as any bundle's Q-Former.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from minigpt4.core.atomic import replacing
from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.bundles.geometry import ViTGeometry
from minigpt4.core.download.fetch import path_of
from minigpt4.core.errors import BundleError, UsageError
from minigpt4.core.projection import Projection, load_projection, save_projection
from minigpt4.core.vision.base import VisionTower
from minigpt4.core.vision.fingerprint import tower_fingerprint
from minigpt4.core.vision.tower import load_tower
from minigpt4.train.init import initialise
from minigpt4.train.recipe import Recipe

if TYPE_CHECKING:
    from minigpt4.core.vision.eva import QueryTransformer

PROJECTION, QFORMER = "projection.safetensors", "qformer.safetensors"
CHECKPOINTS = "checkpoints"


class TrainedPart(nn.Module):
    """Features (B, N, D) of a tower -> image vectors (B, N, D_llm).

    A Q-Former that is trained computes without dropout, which the original has in it: the same visit
    then gives the same loss wherever and whenever it is computed.
    """

    def __init__(
        self,
        projection: Projection,
        qformer: QueryTransformer | None = None,
        norm: Mapping[str, Tensor] | None = None,
    ) -> None:
        """`norm` is the frozen `ln_vision` that belongs into a Q-Former's file; the tower applies it."""
        super().__init__()
        self.projection = projection
        self.qformer = qformer
        self.norm = dict(norm or {})
        self.eval().requires_grad_(True)

    def forward(self, features_BND: Tensor) -> Tensor:
        """Features, or with a trained Q-Former the tokens that it reads -> image vectors."""
        if self.qformer is not None:
            features_BND = self.qformer(features_BND)
        image_BND: Tensor = self.projection(features_BND)
        return image_BND

    def named_tensors(self) -> dict[str, Tensor]:
        """Every trained weight under a name of its own, the same in every process and run."""
        return dict(self.named_parameters())

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """AdamW's groups: matrices decay, vectors (biases, norms) do not."""
        matrices = [parameter for parameter in self.parameters() if parameter.ndim > 1]
        vectors = [parameter for parameter in self.parameters() if parameter.ndim <= 1]
        return [
            {"params": matrices, "weight_decay": weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]


def begin_part(recipe: Recipe, bundle: Bundle, start: Path | None) -> TrainedPart:
    """The part as a run begins with it; `bundle` is `bundle_for(recipe, ...)`.

    `start` is a projection's file, or the folder of a run or of a checkpoint; None draws the
    projection's weights by the recipe's seed. A Q-Former that is to be trained starts from the one in
    that folder, else from the bundle's. Raises BundleError where a file is missing, damaged or of
    another shape.
    """
    spec = bundle.projection
    if start is None:
        projection = Projection(spec.inputs, spec.outputs, spec.layers)
        initialise(projection, noise=recipe.initial_std, seed=recipe.seed)
    else:
        check_start(start, recipe, bundle)
        projection = load_projection(_files(start)[0], spec.inputs, spec.outputs, spec.layers)
    if recipe.qformer != "trained":
        return TrainedPart(projection)
    own = _files(start)[1] if start is not None else None
    return TrainedPart(projection, *_qformer(bundle, own))


def check_start(start: Path | None, recipe: Recipe, bundle: Bundle) -> None:
    """Raise where a run cannot begin with `start`; None is always right.

    BundleError where its projection is missing, damaged or of another shape; UsageError where it was
    trained with a Q-Former of its own, which this recipe would not use.
    """
    if start is None:
        return
    projection, qformer = _files(start)
    if qformer is not None and recipe.qformer != "trained":
        raise UsageError(
            f"The projection in {start} was trained together with its Q-Former ({qformer.name}), which the "
            f"recipe's qformer = '{recipe.qformer}' would not use; add --set qformer=trained."
        )
    spec = bundle.projection
    load_projection(projection, spec.inputs, spec.outputs, spec.layers)


def save_part(folder: Path, part: TrainedPart) -> None:
    """Write the part's files into `folder`, in float32, each whole or not at all.

    Raises BundleError where a weight is not finite, OSError where they cannot be written.
    """
    save_projection(folder / PROJECTION, part.projection)
    if part.qformer is None:
        return
    tensors = {f"ln_vision.{name}": tensor for name, tensor in part.norm.items()}
    tensors |= {name.removeprefix("layers."): tensor for name, tensor in part.qformer.state_dict().items()}
    with replacing(folder / QFORMER) as draft:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            draft,
            metadata={"format": "pt"},
        )


def load_part(folder: Path, part: TrainedPart) -> None:
    """Put what `save_part` wrote into place; raises BundleError where it is missing or does not fit."""
    own = part.projection
    saved = load_projection(folder / PROJECTION, own.inputs, own.outputs, own.layers)
    with torch.no_grad():
        for parameter, value in zip(own.parameters(), saved.parameters(), strict=True):
            parameter.copy_(value)
    if part.qformer is not None:
        _load_qformer_into(part.qformer, folder / QFORMER)


def mean_of_parts(like: TrainedPart, shares: Mapping[Path, float]) -> TrainedPart:
    """The weighted sum of parts that lie in folders, on the CPU; `like` has their shapes."""
    mean, one = (deepcopy(like).cpu() for _ in range(2))
    with torch.no_grad():
        for parameter in mean.parameters():
            parameter.zero_()
        for folder, share in shares.items():
            load_part(folder, one)
            for parameter, value in zip(mean.parameters(), one.parameters(), strict=True):
                parameter.add_(value, alpha=share)
    return mean


def tower_for(recipe: Recipe, bundle: Bundle, device: str = "cpu") -> VisionTower:
    """The frozen tower whose features the trained part reads; `bundle` is `bundle_for(recipe, ...)`.

    Where the Q-Former is trained it ends before it. Raises as `load_tower`.
    """
    tower = load_tower(bundle, device=device)
    if recipe.qformer != "trained":
        return tower
    from minigpt4.core.vision.eva import EvaTower, UpToQFormer

    assert isinstance(tower, EvaTower)  # no other has a Q-Former
    geometry = ViTGeometry.parse(bundle.vision.options, bundle.name)
    return UpToQFormer(tower, geometry, bundle.vision.image_size)


def tower_facts(recipe: Recipe, bundle: Bundle) -> str:
    """A name of what `tower_for` gives: equal only for towers that give equal features."""
    fingerprint = tower_fingerprint(bundle)
    return f"{fingerprint}-before-qformer" if recipe.qformer == "trained" else fingerprint


def feature_shape(recipe: Recipe, bundle: Bundle) -> tuple[int, int]:
    """(N, D) of what `tower_for` gives for one picture, without loading it."""
    if recipe.qformer != "trained":
        return bundle.projection.image_tokens, bundle.projection.inputs
    geometry = ViTGeometry.parse(bundle.vision.options, bundle.name)
    return geometry.positions(bundle.vision.image_size), geometry.width


def _files(start: Path) -> tuple[Path, Path | None]:
    """The projection, and the Q-Former where there is one, of a file, a run or a checkpoint."""
    if not start.is_dir():
        return start, None
    folder = start
    if not (folder / PROJECTION).is_file():
        # A run that has not ended: its newest checkpoint.
        steps = [place for place in (start / CHECKPOINTS).glob("*") if place.name.isdigit()]
        folder = max(steps, key=lambda place: int(place.name), default=start)
    qformer = folder / QFORMER
    return folder / PROJECTION, qformer if qformer.is_file() else None


def _qformer(bundle: Bundle, own: Path | None) -> tuple[QueryTransformer, dict[str, Tensor]]:
    from minigpt4.core.vision.eva import load_qformer

    assert bundle.qformer is not None  # bundle_for has refused it
    path = own or path_of(bundle.qformer.file, bundle)
    width = ViTGeometry.parse(bundle.vision.options, bundle.name).width
    qformer, norm = load_qformer(path, bundle.qformer.options, width, bundle=bundle.name)
    _own_memory(qformer.parameters())
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


def _own_memory(parameters: Iterable[nn.Parameter]) -> None:
    """Weights that are mapped from a file cannot be changed in place."""
    for parameter in parameters:
        parameter.data = parameter.data.clone()
