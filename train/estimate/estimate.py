"""Estimate a run's memory, hours and disk before anything is fetched or loaded; measure its MFU.

Everything follows from the recipe and the bundle's manifest. Caption lengths are not known
beforehand; the assumptions are the constants below, and the estimate states them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.errors import BundleError, UsageError
from minigpt4.core.memory import free_memory, geometry_of, memory_needed
from minigpt4.train.estimate.flops import DEVICES, GIB, Device, Work, arithmetic_of
from minigpt4.train.precision import precision_on
from minigpt4.train.recipe import Recipe

if TYPE_CHECKING:
    import torch

CAPTION_TOKENS = 13
"""Mean tokens of a short caption and its end: stage 1's 46 positions without image and prefix."""

DESCRIPTION_TOKENS = 110
"""Tokens of a curated description (some 80 words) with its end."""

QUESTION_TOKENS = 14
"""Mean tokens between image and answer in a conversation template."""

UTILISATION = 0.4
"""The assumed fraction of a processor's peak: that of the paper's own run, padding included."""

PHOTO_BYTES = 12_000
"""A JPEG of 224 pixels with its caption, as stored in a shard."""

MICRO_BATCH = 64
"""Photos at once if the recipe sets no number and a step has more: the paper's number per GPU."""

HALF_BYTES = 2


@dataclass(frozen=True)
class Estimate:
    """What a run needs."""

    device: str
    processes: int
    memory: Mapping[str, int]
    """Bytes by part, per device."""

    device_memory: int | None
    """Memory of such a device in bytes; None if unknown."""

    flops: float
    """FLOPs of the whole run, useful tokens only."""

    hours: float
    photos: int
    """Samples, so a photo seen twice counts twice."""

    data_bytes: int
    """Disk for that many different photos."""

    cache_bytes: int
    """Disk for their features, if they are cached."""

    fetch_bytes: int
    """Size of the bundle's files; if any is unknown, estimated from 16-bit weights."""

    @property
    def fits(self) -> bool | None:
        """Whether the device has enough memory; None if unknown."""
        return None if self.device_memory is None else sum(self.memory.values()) <= self.device_memory

    def as_json(self) -> dict[str, object]:
        """The estimate as JSON: bytes, hours and FLOPs."""
        return {
            "device": self.device,
            "processes": self.processes,
            "memory_bytes": dict(self.memory),
            "memory_total_bytes": sum(self.memory.values()),
            "device_memory_bytes": self.device_memory,
            "fits": self.fits,
            "flops": self.flops,
            "hours": self.hours,
            "photos": self.photos,
            "data_bytes": self.data_bytes,
            "feature_cache_bytes": self.cache_bytes,
            "fetch_bytes": self.fetch_bytes,
        }


def estimate(
    recipe: Recipe,
    bundle: Bundle,
    *,
    device: Device,
    processes: int = 1,
    photos: int | None = None,
) -> Estimate:
    """Estimate a run of `recipe` on `processes` devices like `device`.

    `bundle` is `recipe.bundle_for(...)`. `photos` is the number of different photos; with None every
    sample is a new one. Raises BundleError if the language model's sizes are not known.
    """
    samples = recipe.steps * recipe.batch_size
    different = samples if photos is None else min(photos, samples)
    views = max(source.views for source in recipe.source)
    encoded = samples if photos is None else min(samples, photos * views)
    image, (text, labels) = bundle.projection.image_tokens, tokens_per_photo(recipe)
    work = Work(samples, encoded, round(samples * (image + text)), round(samples * labels))
    flops = arithmetic_of(bundle, trains_qformer=recipe.qformer == "trained").of(work)
    return Estimate(
        device=device.name,
        processes=processes,
        memory=_memory(recipe, bundle, processes, on_cpu=device.name == "CPU"),
        device_memory=device.memory or None,
        flops=flops,
        hours=flops / (device.peak * UTILISATION * processes) / 3600,
        photos=samples,
        data_bytes=different * PHOTO_BYTES,
        cache_bytes=encoded * image * bundle.projection.inputs * HALF_BYTES,
        fetch_bytes=_fetch_bytes(bundle),
    )


def device_named(name: str) -> Device:
    """A device of the table, or "CPU": this machine's, with its speed measured.

    Raises UsageError that names the known devices.
    """
    known = {key.lower(): device for key, device in DEVICES.items()}
    if name.lower() in known:
        return known[name.lower()]
    if name.lower() == "cpu":
        return Device("CPU", _measured("cpu"), free_memory() or 0)
    raise UsageError(f"No device '{name}' is known; there is {', '.join(DEVICES)} and CPU (this machine's).")


def this_device() -> Device:
    """The GPU that torch sees, or this machine's CPU, with its speed measured."""
    import torch

    if not torch.cuda.is_available():
        return device_named("CPU")
    found = torch.cuda.get_device_properties(0)
    return Device(found.name, _measured("cuda"), int(found.total_memory))


def tokens_per_photo(recipe: Recipe) -> tuple[float, float]:
    """Mean text tokens and label tokens of one sample."""
    answer = DESCRIPTION_TOKENS if recipe.prompt == "instruction" else CAPTION_TOKENS
    short = recipe.questions_per_photo + recipe.object_questions_per_photo
    details = recipe.details_per_photo + recipe.object_details_per_photo
    answers = recipe.captions_per_photo * _cut(answer, recipe) + short * CAPTION_TOKENS
    answers += details * _cut(DESCRIPTION_TOKENS // 2, recipe)
    questions = recipe.captions_per_photo + short + details
    if recipe.prompt == "none":
        headers = 0.0
    elif recipe.stage == 1:
        headers = QUESTION_TOKENS  # all captions of a photo share one
    else:
        headers = questions * QUESTION_TOKENS
    return headers + answers, answers


def _cut(tokens: int, recipe: Recipe) -> int:
    return min(tokens, recipe.text_tokens) if recipe.text_tokens else tokens


def _memory(recipe: Recipe, bundle: Bundle, processes: int, *, on_cpu: bool) -> dict[str, int]:
    """Bytes by part on one device.

    For its backward pass a layer keeps 16 D + 6 M bytes per token in 16 bits, with D its width and M
    its MLP's: 6.6 MB per token over all layers of Vicuna 13B, as measured.
    """
    geometry = geometry_of(bundle)
    if geometry is None:
        raise BundleError(f"The sizes of the language model of '{bundle.name}' are not known.")
    device = "cpu" if on_cpu else "cuda"
    in_float32 = memory_needed(bundle, "fp32", device=device, context=1)
    precision = precision_on(device, recipe.precision, in_float32["language model"])
    parts = memory_needed(bundle, precision, device=device, context=1)
    del parts["key/value cache"]
    trained = parts["projection"]
    if recipe.qformer == "trained":
        trained += 2 * parts.pop("Q-Former") if not on_cpu else parts.pop("Q-Former")
    # Weights, gradients and AdamW's two moments, all float32.
    parts["projection"] = 4 * trained
    rows = min(recipe.micro_batch or MICRO_BATCH, -(-recipe.batch_size // processes))
    text, labels = tokens_per_photo(recipe)
    tokens = rows * (bundle.projection.image_tokens + text)
    scale = 2 if precision == "fp32" else 1
    kept = geometry.layers * (16 * bundle.language.width + 6 * geometry.mlp) * scale
    parts["activations"] = round(tokens * kept)
    parts["logits"] = round(rows * labels * geometry.vocabulary * (4 + 2 * scale))
    room = parts.pop("working room")
    return {name: size for name, size in parts.items() if size} | {"working room": room}


def _fetch_bytes(bundle: Bundle) -> int:
    if all(file.bytes is not None for file in bundle.files):
        return sum(file.bytes or 0 for file in bundle.files)
    parts = memory_needed(bundle, "bf16", device="cuda", context=1)
    return sum(parts.get(name, 0) for name in ("vision tower", "Q-Former", "projection", "language model"))


def _measured(device: str) -> float:
    """FLOP/s of matrix products in bf16 or fp32, whichever is faster: some CPUs emulate bf16."""
    import torch

    return max(_matmul_rate(device, dtype) for dtype in (torch.bfloat16, torch.float32))


def _matmul_rate(device: str, dtype: torch.dtype) -> float:
    """FLOP/s of square products, the best of six of each size.

    Sizes grow to 2048 until a product takes 0.1 s: on a CPU that emulates bf16 the largest took 40 s.
    """
    import torch

    best = 0.0
    for side in (256, 512, 1024, 2048):
        left = torch.randn(side, side).to(device, dtype)
        for _ in range(6):
            if device != "cpu":
                torch.cuda.synchronize()
            begun = time.perf_counter()
            left @ left
            if device != "cpu":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - begun
            best = max(best, 2 * side**3 / seconds)
            if seconds > 0.1:
                return best
    return best


def estimate_text(one: Estimate, recipe: Recipe, bundle: Bundle) -> str:
    """The estimate as text, with its assumptions."""
    text, labels = tokens_per_photo(recipe)
    total = sum(one.memory.values())
    place = f"{one.processes} x {one.device}" if one.processes > 1 else one.device
    width = max(len(name) for name in (*one.memory, "disk for features"))

    def row(name: str, value: str) -> str:
        return f"  {name:<{width}}  {value:>10}"

    available = ""
    if one.device_memory is not None:
        available = f" of {one.device_memory / GIB:.1f} GiB: {'fits' if one.fits else 'DOES NOT FIT'}"
    lines = [
        f"Stage {recipe.stage} of {bundle.name}: {recipe.steps:,} steps of {recipe.batch_size} photos "
        f"on {place}",
        "",
        "Memory per device" if one.processes > 1 else "Memory",
        *(row(name, f"{size / GIB:.2f} GiB") for name, size in one.memory.items()),
        row("total", f"{total / GIB:.2f} GiB") + available,
        "",
        "Time and disk",
        row("training", _hours(one.hours)),
        row("arithmetic", f"{one.flops / 1e15:,.1f} PFLOP"),
        row("disk for photos", f"{one.data_bytes / GIB:,.1f} GiB"),
        row("disk for features", f"{one.cache_bytes / GIB:,.1f} GiB") + "  if they are cached",
    ]
    if one.fetch_bytes:
        lines.append(
            row("the bundle", f"{one.fetch_bytes / GIB:,.1f} GiB") + "  to download, unless it is here"
        )
    lines += [
        "",
        f"Assumed: {bundle.projection.image_tokens} image tokens and {text:.0f} text tokens per photo, "
        f"{labels:.0f} of them answers; {UTILISATION:.0%} of the device's peak; weights in "
        f"{recipe.precision}.",
    ]
    return "\n".join(lines)


def _hours(hours: float) -> str:
    if hours >= 1:
        return f"{hours:,.1f} h"
    return f"{hours * 60:.1f} min" if hours * 60 >= 1 else f"{hours * 3600:.0f} s"


Utilisation = Callable[[Work, float], float | None]


def utilisation_of(recipe: Recipe, bundle: Bundle, processes: int) -> Utilisation:
    """A function from all processes' useful work and its seconds to the model FLOPs utilisation.

    The peak is the data sheet's for a known GPU, else the measured rate of matrix products. The
    utilisation is None if the bundle's sizes are not known.
    """
    try:
        arithmetic = arithmetic_of(bundle, trains_qformer=recipe.qformer == "trained")
    except BundleError:
        return lambda _work, _seconds: None
    here = this_device()
    peak = next((one.peak for name, one in DEVICES.items() if name in here.name), here.peak)
    return lambda work, seconds: arithmetic.of(work) / (peak * processes * seconds)
