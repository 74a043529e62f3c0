"""MiniGPT-4's own tower: EVA-CLIP's ViT-G/14, then BLIP-2's Q-Former or neighbouring patches joined.

The networks are transformers' Blip2VisionModel and Blip2QFormerModel. The LayerNorm between them
(`ln_vision`) is in the Q-Former's file. The release without a Q-Former never loads it, so there it
only normalises (weight 1, bias 0).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel, Blip2VisionConfig, Blip2VisionModel

from minigpt4.core.bundles.geometry import Options, QFormerGeometry, ViTGeometry
from minigpt4.core.errors import BackendError, BundleError
from minigpt4.core.vision.base import VisionStages, VisionTower
from minigpt4.core.weights.released import qformer_tensors, vision_tensors

LN_VISION_EPS = 1e-5
"""LAVIS builds `ln_vision` with torch's own default; the ViT's blocks have 1e-6, the Q-Former 1e-12."""

VIT_EPS = 1e-6
QFORMER_EPS = 1e-12
TORCH_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Float32LayerNorm(nn.LayerNorm):
    """LayerNorm whose weights, arithmetic and result are float32 for any input type."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.float())


class QueryTransformer(nn.Module):
    """The Q-Former and its learned queries, in float32 whatever the ViT's type.

    It is 2 % of the arithmetic, so a narrower type would save nothing noticeable.
    """

    def __init__(self, geometry: QFormerGeometry, vision_width: int) -> None:
        super().__init__()
        config = Blip2QFormerConfig(
            hidden_size=geometry.width,
            num_hidden_layers=geometry.layers,
            num_attention_heads=geometry.heads,
            intermediate_size=geometry.mlp,
            cross_attention_frequency=geometry.cross_attention_every,
            encoder_hidden_size=vision_width,
            layer_norm_eps=QFORMER_EPS,
        )
        self.query_tokens = nn.Parameter(torch.empty(1, geometry.queries, geometry.width))
        self.layers = Blip2QFormerModel(config)

    def forward(self, vision_BND: Tensor) -> Tensor:
        """The ViT's tokens (B, N, D_vision) -> (B, queries, D)."""
        queries_BND = self.query_tokens.expand(len(vision_BND), -1, -1)
        out: Tensor = self.layers(query_embeds=queries_BND, encoder_hidden_states=vision_BND)[0]
        return out


class EvaTower(VisionTower):
    """Pixels (B, 3, H, W) -> features (B, N, D): the Q-Former's, or `patches_joined` patches in one."""

    def __init__(
        self,
        vision: Blip2VisionModel,
        qformer: QueryTransformer | None,
        geometry: ViTGeometry,
        image_size: int,
    ) -> None:
        self._vision = vision
        self._qformer = qformer
        self._joined = geometry.patches_joined
        self.network = nn.ModuleList([vision] if qformer is None else [vision, qformer])
        if qformer is None:
            self.tokens = (geometry.positions(image_size) - 1) // self._joined
            self.width = geometry.width * self._joined
        else:
            self.tokens, self.width = qformer.query_tokens.shape[1:]

    def encode(self, pixels_BCHW: Tensor) -> Tensor:
        """Normalised pixels (B, 3, H, W) -> features (B, N, D), float32.

        Raises BackendError if a value is not finite: float16 ends at 65504.
        """
        return self.stages(pixels_BCHW).features_BND

    def stages(self, pixels_BCHW: Tensor) -> VisionStages:
        """As `encode`, with the intermediate outputs; raises as it does."""
        with torch.inference_mode():
            vision_BND = self._vision.post_layernorm(self.patches(pixels_BCHW))
            if self._qformer is None:
                qformer_BND, features_BND = None, self._join(vision_BND)
            else:
                qformer_BND = features_BND = self._qformer(vision_BND)
        self._require_finite(features_BND)
        return VisionStages(vision_BND, qformer_BND, features_BND)

    def patches(self, pixels_BCHW: Tensor) -> Tensor:
        """The last block's tokens (B, N, D_vision), before `ln_vision`, in the tower's type."""
        with torch.inference_mode():
            hidden_BND = self._vision.embeddings(pixels_BCHW)
            out: Tensor = self._vision.encoder(inputs_embeds=hidden_BND)[0]
        return out

    def _join(self, vision_BND: Tensor) -> Tensor:
        """Drop the class token and concatenate `patches_joined` neighbours in reading order."""
        patches_BND = vision_BND[:, 1:]
        return patches_BND.reshape(len(patches_BND), self.tokens, self.width)

    def _require_finite(self, features_BND: Tensor) -> None:
        if torch.isfinite(features_BND).all():
            return
        if self._vision.dtype == torch.float16:
            raise BackendError(
                "The vision tower overflowed in fp16 (a value passed 65504, or its weights are damaged); "
                "choose bf16 or fp32 for it."
            )
        raise BackendError(
            "The vision tower gave values that are not finite (NaN or infinite): its weights or the pixels "
            "are damaged; check the bundle with `minigpt4 models verify`."
        )


class UpToQFormer(VisionTower):
    """A tower without its Q-Former, whose features are the input of the Q-Former to be trained."""

    def __init__(self, tower: EvaTower, geometry: ViTGeometry, image_size: int) -> None:
        self._patches = tower.patches
        vision = tower.network[0]  # type: ignore[index]
        self._norm = vision.post_layernorm
        self.network = nn.ModuleList([vision])
        self.tokens = geometry.positions(image_size)
        self.width = geometry.width

    def encode(self, pixels_BCHW: Tensor) -> Tensor:
        """Normalised pixels (B, 3, H, W) -> the ViT's normalised tokens (B, N, D), class token first."""
        with torch.inference_mode():
            vision_BND: Tensor = self._norm(self._patches(pixels_BCHW))
        return vision_BND


def load_eva(
    vision: tuple[Path, Options],
    qformer: tuple[Path, QFormerGeometry] | None,
    *,
    image_size: int,
    dtype: str,
    device: str = "cpu",
    bundle: str = "",
) -> EvaTower:
    """Read a tower from its files; `vision` and `qformer` are each a file and its geometry.

    `dtype` is fp32, bf16 or fp16. Weights that have that type already stay mapped to their file.
    Raises BundleError if a file or an option is wrong, or the parts do not fit.
    """
    vision_path, vision_options = vision
    geometry = ViTGeometry.parse(vision_options, bundle)
    _check_joining(geometry, image_size, qformer is not None)
    norm = {"weight": torch.ones(geometry.width), "bias": torch.zeros(geometry.width)}
    network: QueryTransformer | None = None
    if qformer is not None:
        network, norm = load_qformer(*qformer, geometry.width, device=device, bundle=bundle)
    tensors = vision_tensors(vision_path, vision_options, image_size)
    with torch.device("meta"):
        model = Blip2VisionModel(_vision_config(geometry, image_size))
        model.post_layernorm = Float32LayerNorm(geometry.width, eps=LN_VISION_EPS)
    state = _placed(tensors, TORCH_TYPES[dtype], device)
    state |= {f"post_layernorm.{name}": tensor.to(device, torch.float32) for name, tensor in norm.items()}
    model.load_state_dict(state, assign=True)
    tower = EvaTower(model, network, geometry, image_size)
    tower.network.eval().requires_grad_(False)
    return tower


def load_qformer(
    path: Path, geometry: QFormerGeometry, vision_width: int, *, device: str = "cpu", bundle: str = ""
) -> tuple[QueryTransformer, dict[str, Tensor]]:
    """The Q-Former, and the weight and bias of `ln_vision` that came with it.

    Raises BundleError if the file or an option is wrong, or if it expects vectors of another width.
    """
    tensors = qformer_tensors(path, geometry)
    norm = {name: tensors.pop(f"ln_vision.{name}") for name in ("weight", "bias")}
    found = norm["weight"].numel()
    if found != vision_width:
        raise BundleError(
            f"The Q-Former's file {path} reads vectors of {found} numbers and the vision tower gives "
            f"{vision_width}; take both from the same model."
        )
    with torch.device("meta"):
        network = QueryTransformer(geometry, vision_width)
    state = _placed(tensors, torch.float32, device)
    queries = state.pop("query_tokens")
    network.load_state_dict(
        {"query_tokens": queries} | {f"layers.{name}": tensor for name, tensor in state.items()}, assign=True
    )
    return network, norm


def _placed(tensors: dict[str, Tensor], dtype: torch.dtype, device: str) -> dict[str, Tensor]:
    """Each tensor in `dtype` on `device`; it is removed from `tensors`, so that only one is held twice."""
    names: Mapping[str, None] = dict.fromkeys(tensors)
    return {name: tensors.pop(name).to(device, dtype) for name in names}


def _vision_config(geometry: ViTGeometry, image_size: int) -> Blip2VisionConfig:
    return Blip2VisionConfig(
        hidden_size=geometry.width,
        intermediate_size=geometry.mlp,
        num_hidden_layers=geometry.depth,
        num_attention_heads=geometry.heads,
        image_size=image_size,
        patch_size=geometry.patch,
        layer_norm_eps=VIT_EPS,
    )


def _check_joining(geometry: ViTGeometry, image_size: int, has_qformer: bool) -> None:
    patches = geometry.positions(image_size) - 1
    if patches < 1:
        raise BundleError(f"Pictures of {image_size} pixels hold no patch of {geometry.patch}; enlarge them.")
    if has_qformer and geometry.patches_joined != 1:
        raise BundleError(
            f"'vision.options.patches_joined' is {geometry.patches_joined}, but a Q-Former reads every patch "
            "alone; take one of the two out of the manifest."
        )
    if patches % geometry.patches_joined:
        raise BundleError(
            f"'vision.options.patches_joined' is {geometry.patches_joined}, which does not divide the "
            f"{patches} patches of a picture of {image_size} pixels."
        )
