"""The training step compared with a straightforward one: photos per second, and peak memory.

    python benchmarks/training_step.py mini DATA/flickr8k/train
    python benchmarks/training_step.py 7b DATA/flickr8k/train

Three processes, each with its own models, alternate: the plain step (plain_step.py), ours with the tower
encoding, and ours with cached features. Same photos, captions, weights and dtypes; one caption per photo.
`7b` has the widths of MiniGPT-4 with Vicuna 7B, random weights, and two layers each of ViT, Q-Former and
language model.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from torch import Tensor

    from minigpt4.core.types import Text
    from minigpt4.core.vision.base import VisionTower
    from minigpt4.train.batches.samples import Sample
    from minigpt4.train.packing.sequence import Layout
    from minigpt4.train.recipe import Recipe

FORMS = ("plain", "ours, encoding", "ours, cached")
BATCH = {"mini": 16, "7b": 64}
"""mini's batch size, and the paper's per GPU."""
SLICE_LAYERS = 2
GIB = 1 << 30


@dataclass(frozen=True)
class Parts:
    """What both steps need."""

    recipe: Recipe
    model: Any
    tower: VisionTower
    layout: Layout
    inputs: int
    outputs: int
    image_size: int
    mean: Sequence[float]
    std: Sequence[float]


def mini_parts() -> Parts:
    """The bundle mini with its own weights, in bfloat16, with the prompt of its stage 1."""
    from minigpt4.core.bundles.bundle import load_bundle
    from minigpt4.core.download.fetch import ensure
    from minigpt4.core.language.hf_load import load_causal_lm, load_tokens
    from minigpt4.core.prompt import template_named
    from minigpt4.core.vision.tower import load_tower
    from minigpt4.train.packing.sequence import layout_for
    from minigpt4.train.recipe_file import read_recipe, recipe_path, with_settings

    bundle = load_bundle("mini")
    ensure(bundle, progress=None)
    changes = ["captions_per_photo=1", f"batch_size={BATCH['mini']}"]
    recipe = with_settings(read_recipe(recipe_path("mini-stage1")), changes)
    model = load_causal_lm(bundle, quant="bf16", with_gradients=True)
    layout = layout_for(recipe, template_named(bundle.template), load_tokens(bundle).tokenize)
    spec, vision = bundle.projection, bundle.vision
    return Parts(
        recipe, model, load_tower(bundle), layout, spec.inputs, spec.outputs, vision.image_size, vision.mean,
        vision.std,
    )  # fmt: skip


def _tokenize(*texts: Text) -> list[int]:
    """One token for three bytes, about as many as LLaMA's tokenizer needs for English."""
    joined = "".join(text.text for text in texts).encode()
    return [1 + joined[at] % 31_000 for at in range(0, len(joined), 3)]


def slice_parts() -> Parts:
    """Two layers of each model at MiniGPT-4's widths, random weights, bfloat16, the paper's stage 1."""
    import torch
    from transformers import Blip2VisionConfig, Blip2VisionModel, LlamaConfig, LlamaForCausalLM

    from minigpt4.core.bundles.bundle import load_bundle
    from minigpt4.core.bundles.geometry import ViTGeometry
    from minigpt4.core.memory import geometry_of
    from minigpt4.core.prompt import VICUNA_V0
    from minigpt4.core.vision.eva import LN_VISION_EPS, EvaTower, Float32LayerNorm, QueryTransformer
    from minigpt4.train.packing.sequence import Layout
    from minigpt4.train.recipe_file import read_recipe, recipe_path, with_settings

    bundle = load_bundle("minigpt4-vicuna-7b")
    geometry = geometry_of(bundle)
    assert geometry is not None
    assert bundle.qformer is not None
    vit = ViTGeometry.parse(bundle.vision.options | {"depth": SLICE_LAYERS})
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    vision = Blip2VisionModel(
        Blip2VisionConfig(
            hidden_size=vit.width,
            intermediate_size=vit.mlp,
            num_hidden_layers=vit.depth,
            num_attention_heads=vit.heads,
            patch_size=vit.patch,
            image_size=bundle.vision.image_size,
        )
    )
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=geometry.vocabulary,
            hidden_size=bundle.language.width,
            intermediate_size=geometry.mlp,
            num_hidden_layers=SLICE_LAYERS,
            num_attention_heads=geometry.heads,
        )
    )
    torch.set_default_dtype(torch.float32)
    qformer = QueryTransformer(replace(bundle.qformer.options, layers=SLICE_LAYERS), vit.width)
    torch.nn.init.normal_(qformer.query_tokens, std=0.02)
    vision.post_layernorm = Float32LayerNorm(vit.width, eps=LN_VISION_EPS)
    for module in (vision, qformer, model):
        module.eval().requires_grad_(False)
    tower = EvaTower(vision, qformer, vit, bundle.vision.image_size)
    recipe = with_settings(read_recipe(recipe_path("stage1")), [f"batch_size={BATCH['7b']}"])

    spec = bundle.projection
    layout = Layout(VICUNA_V0, _tokenize, "none", recipe.text_tokens)
    return Parts(
        recipe, model, tower, layout, spec.inputs, spec.outputs,
        bundle.vision.image_size, bundle.vision.mean, bundle.vision.std,
    )  # fmt: skip


# -- one process per form ---------------------------------------------------------------------------


def serve(size: str, form: str, data: str, threads: int) -> None:
    """Run a step for every line on stdin, and print its time, loss and peak memory."""
    import torch

    torch.set_num_threads(threads)
    from minigpt4.core.memory import most_held
    from minigpt4.core.torch_memory import bound_shape_caches, keep_freed_memory

    bound_shape_caches()
    keep_freed_memory()
    parts = mini_parts() if size == "mini" else slice_parts()
    step = _plain(parts, data) if form == "plain" else _ours(parts, data, is_cached="cached" in form)
    print("ready", flush=True)
    for number, _ in enumerate(sys.stdin):
        begun = time.perf_counter()
        loss = step(number)
        seconds = time.perf_counter() - begun
        peak = most_held()
        print(json.dumps({"seconds": seconds, "loss": loss, "peak": peak}), flush=True)


def _samples(parts: Parts, data: str) -> list[list[tuple[Sample, bytes]]]:
    """The photos of a few steps, with one caption each."""
    from minigpt4.train.batches.samples import Sample
    from minigpt4.train.data.open import open_photos

    photos = open_photos(data)
    size = parts.recipe.batch_size
    steps = []
    for step in range(6):
        places = range(step * size, (step + 1) * size)
        steps.append(
            [
                (Sample(0, at, 0, (("", photos.meta(at)["captions"][at % 5]),), index=at), photos.read(at))
                for at in places
            ]
        )
    return steps


def _pixels(parts: Parts, photos: Sequence[bytes]) -> Tensor:
    import numpy as np
    import torch

    from minigpt4.core.pixels import open_picture, to_pixels

    one = [to_pixels(open_picture(photo).image, parts.image_size, parts.mean, parts.std) for photo in photos]
    return torch.from_numpy(np.stack(one))


def _plain(parts: Parts, data: str) -> Any:
    import torch
    from plain_step import PlainStep

    from minigpt4.core.projection import Projection

    torch.manual_seed(1)
    step = PlainStep(
        parts.recipe, Projection(parts.inputs, parts.outputs), parts.model, parts.tower, parts.layout
    )
    steps = _samples(parts, data)

    def run(number: int) -> float:
        samples = steps[number % len(steps)]
        pixels_BCHW = _pixels(parts, [photo for _, photo in samples])
        return step(
            pixels_BCHW, [parts.layout.tokenize_example(*sample.examples[0]) for sample, _ in samples]
        )

    return run


def _ours(parts: Parts, data: str, *, is_cached: bool) -> Any:
    import torch

    from minigpt4.core.projection import Projection
    from minigpt4.train.adapter import Adapter
    from minigpt4.train.batches.loader import Loader
    from minigpt4.train.batches.samples import Batch
    from minigpt4.train.packing.loss import LanguageModelLoss
    from minigpt4.train.trainer import Trainer

    torch.manual_seed(1)
    steps = _samples(parts, data)

    def pixels_of(step: int) -> Tensor:
        return _pixels(parts, [photo for _, photo in steps[step]])

    if is_cached:
        kept = [parts.tower.encode(pixels_of(step)).half() for step in range(len(steps))]

    class Drawn:
        def batch(self, number: int) -> Batch:
            step = number % len(steps)
            samples = tuple(sample for sample, _ in steps[step])
            if is_cached:
                return Batch(samples, features_BND=kept[step])
            return Batch(samples, pixels_BCHW=pixels_of(step))

    trainer = Trainer(
        parts.recipe,
        Adapter(Projection(parts.inputs, parts.outputs)),
        LanguageModelLoss(parts.model, parts.layout.prefix),
        parts.layout,
        cast(Loader, Drawn()),
        validation=list,
        tower=parts.tower,
        threads=torch.get_num_threads(),
    )
    return lambda number: trainer.step(number).loss


# -- alternating ---------------------------------------------------------------------------------


def main() -> None:
    """Alternate between the three and print medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("size", choices=list(BATCH))
    parser.add_argument("data", help="photos with captions: a folder of shards")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--form", choices=FORMS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.form:
        serve(given.size, given.form, given.data, given.threads)
        return
    children = {form: _child(given, form) for form in FORMS}
    rows: dict[str, list[dict[str, float]]] = {form: [] for form in FORMS}
    for number in range(given.rounds + 1):
        for form, child in children.items():
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write("step\n")
            child.stdin.flush()
            row = json.loads(child.stdout.readline())
            if number:  # the first step of each is the warm-up
                rows[form].append(row)
    for child in children.values():
        child.communicate()
    rates = {
        form: BATCH[given.size] / statistics.median(row["seconds"] for row in rows[form]) for form in FORMS
    }
    print(f"{given.size}, {BATCH[given.size]} photos a step, {given.threads} threads, {given.rounds} rounds")
    for form in FORMS:
        peak = max(row["peak"] for row in rows[form]) / GIB
        print(
            f"  {form:<14} {rates[form]:6.2f} photos/s  {rates[form] / rates['plain']:5.2f} x  "
            f"peak {peak:.2f} GiB  first loss {rows[form][0]['loss']:.4f}"
        )


def _child(given: argparse.Namespace, form: str) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, given.size, given.data, "--threads", str(given.threads)]
    child = subprocess.Popen(
        [*command, "--form", form], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    line = child.stdout.readline()
    assert line == "ready\n", f"'{form}' could not start: {line!r}"
    return child


if __name__ == "__main__":
    main()
