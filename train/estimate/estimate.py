"""What a run will need before anything is fetched or loaded: memory, hours and disk.

Everything follows from the recipe and the bundle's manifest. How long captions are is not known
beforehand; what is assumed stands in the constants below and in the estimate itself.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.errors import BundleError, UsageError
from minigpt4.core.memory import free_memory, geometry_of, memory_needed
from minigpt4.train.estimate.flops import DEVICES, GIB, Arithmetic, Device, Work, arithmetic_of
from minigpt4.train.recipe import Recipe

CAPTION_TOKENS = 13
"""Tokens of a short caption and its end, on average: stage 1's 46 positions less picture and beginning."""

DESCRIPTION_TOKENS = 110
"""Tokens of one of the curated descriptions (some 80 words) and its end."""

QUESTION_TOKENS = 14
"""Tokens between picture and answer in a conversation's form, on average."""

SHARE_OF_PEAK = 0.4
"""Of a processor's peak, what training is taken to reach: the paper's own run did, padding counted."""

PHOTO_BYTES = 12_000
"""A JPEG of 224 pixels, with its caption and its place in a shard."""

MICRO_BATCH = 64
"""Photos at once where the recipe leaves it open and a step has more: as many as the paper's on each GPU."""

HALF_BYTES = 2


@dataclass(frozen=True)
class Estimate:
    """What a run is reckoned to need."""

    device: str
    processes: int
    memory: Mapping[str, int]
    """Bytes by part, on each device."""

    room: int | None
    """Bytes that such a device has; None where it is not known."""

    flops: float
    """Of the whole run, useful tokens only."""

    hours: float
    photos: int
    """Photos seen, those seen again counted again."""

    data_bytes: int
    """Disk for that many different photos."""

    cache_bytes: int
    """Disk for their features, where they are kept."""

    fetch_bytes: int
    """What the bundle's files weigh; those of unknown size are reckoned as 16-bit weights."""

    @property
    def fits(self) -> bool | None:
        """Whether the device has the room; None where that is not known."""
        return None if self.room is None else sum(self.memory.values()) <= self.room

    def as_json(self) -> dict[str, object]:
        """The same for programs: bytes, hours and FLOPs."""
        return {
            "device": self.device,
            "processes": self.processes,
            "memory_bytes": dict(self.memory),
            "memory_total_bytes": sum(self.memory.values()),
            "device_memory_bytes": self.room,
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
    """Reckon a run of `recipe` on `processes` devices like `device`.

    `bundle` is the recipe's own form of it (recipe.bundle_for). `photos` is how many different photos
    there are; None takes every visit for another one. Raises BundleError where the language model's
    sizes are not known.
    """
    visits = recipe.steps * recipe.batch_size
    different = visits if photos is None else min(photos, visits)
    views = max(source.views for source in recipe.source)
    looks = visits if photos is None else min(visits, photos * views)
    arithmetic = arithmetic_of(bundle, trains_qformer=recipe.qformer == "trained")
    flops = _flops(recipe, bundle, arithmetic, visits, looks)
    tokens = bundle.projection.image_tokens * bundle.projection.inputs
    return Estimate(
        device=device.name,
        processes=processes,
        memory=_memory(recipe, bundle, processes, on_cpu=device.name == "CPU"),
        room=device.memory or None,
        flops=flops,
        hours=flops / (device.peak * SHARE_OF_PEAK * processes) / 3600,
        photos=visits,
        data_bytes=different * PHOTO_BYTES,
        cache_bytes=looks * tokens * HALF_BYTES,
        fetch_bytes=_fetch_bytes(bundle),
    )


def device_named(name: str) -> Device:
    """A device of the table, or "CPU": this machine's, its speed measured in a moment.

    Raises UsageError naming the known ones.
    """
    known = {key.lower(): device for key, device in DEVICES.items()}
    if name.lower() in known:
        return known[name.lower()]
    if name.lower() == "cpu":
        return Device("CPU", _measured("cpu"), free_memory() or 0)
    raise UsageError(f"No device '{name}' is known; there is {', '.join(DEVICES)} and CPU (this machine's).")


def this_device() -> Device:
    """The GPU that torch sees, or this machine's CPU; the speed of either is measured in a moment."""
    import torch

    if not torch.cuda.is_available():
        return device_named("CPU")
    found = torch.cuda.get_device_properties(0)
    return Device(found.name, _measured("cuda"), int(found.total_memory))


def tokens_a_photo(recipe: Recipe) -> tuple[float, float]:
    """Text tokens and label tokens of one visit, on average."""
    answer = DESCRIPTION_TOKENS if recipe.prompt == "instruction" else CAPTION_TOKENS
    answers = recipe.captions_per_photo * _cut(answer, recipe) + recipe.questions_per_photo * CAPTION_TOKENS
    answers += recipe.details_per_photo * _cut(DESCRIPTION_TOKENS // 2, recipe)
    asked = recipe.captions_per_photo + recipe.questions_per_photo + recipe.details_per_photo
    if recipe.prompt == "none":
        headers = 0.0
    elif recipe.stage == 1:
        headers = QUESTION_TOKENS  # all captions of a photo share one
    else:
        headers = asked * QUESTION_TOKENS
    return headers + answers, answers


def _cut(tokens: int, recipe: Recipe) -> int:
    return min(tokens, recipe.text_tokens) if recipe.text_tokens else tokens


def _flops(recipe: Recipe, bundle: Bundle, arithmetic: Arithmetic, visits: int, looks: int) -> float:
    text, labels = tokens_a_photo(recipe)
    positions = visits * (bundle.projection.image_tokens + text)
    return arithmetic.of(Work(visits, looks, round(positions), round(visits * labels)))


def _memory(recipe: Recipe, bundle: Bundle, processes: int, *, on_cpu: bool) -> dict[str, int]:
    """Bytes by part on one device.

    A layer keeps 16 D + 6 M bytes a token for its backward pass in 16 bits, D its width and M its
    MLP's: 6.6 MB a token over all layers of Vicuna 13B, as measured there.
    """
    geometry = geometry_of(bundle)
    if geometry is None:
        raise BundleError(f"The sizes of the language model of '{bundle.name}' are not known.")
    device = "cpu" if on_cpu else "cuda"
    parts = memory_needed(bundle, recipe.precision, device=device, context=1)
    del parts["key/value cache"]
    trained = parts["projection"]
    if recipe.qformer == "trained":
        trained += 2 * parts.pop("Q-Former") if not on_cpu else parts.pop("Q-Former")
    # Weights, gradients and AdamW's two moments, all float32.
    parts["projection"] = 4 * trained
    rows = min(recipe.micro_batch or MICRO_BATCH, -(-recipe.batch_size // processes))
    text, labels = tokens_a_photo(recipe)
    tokens = rows * (bundle.projection.image_tokens + text)
    scale = 2 if recipe.precision == "fp32" else 1
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
    """FLOP/s of a 16-bit matrix product of 2048 x 2048, the best of a few."""
    import torch

    side = 2048
    left = torch.randn(side, side, dtype=torch.float32).to(device, torch.bfloat16)
    best = 0.0
    for _ in range(6):
        if device != "cpu":
            torch.cuda.synchronize()
        begun = time.perf_counter()
        left @ left
        if device != "cpu":
            torch.cuda.synchronize()
        best = max(best, 2 * side**3 / (time.perf_counter() - begun))
    return best


def estimate_text(one: Estimate, recipe: Recipe, bundle: Bundle) -> str:
    """The estimate for people, with what it assumes."""
    text, labels = tokens_a_photo(recipe)
    total = sum(one.memory.values())
    place = f"{one.processes} x {one.device}" if one.processes > 1 else one.device
    width = max(len(name) for name in (*one.memory, "disk for features"))

    def row(name: str, value: str) -> str:
        return f"  {name:<{width}}  {value:>10}"

    room = (
        "" if one.room is None else f" of {one.room / GIB:.1f} GiB: {'fits' if one.fits else 'DOES NOT FIT'}"
    )
    lines = [
        f"Stage {recipe.stage} of {bundle.name}: {recipe.steps:,} steps of {recipe.batch_size} photos "
        f"on {place}",
        "",
        "Memory of each device" if one.processes > 1 else "Memory",
        *(row(name, f"{size / GIB:.2f} GiB") for name, size in one.memory.items()),
        row("in all", f"{total / GIB:.2f} GiB") + room,
        "",
        "Time and disk",
        row("training", _hours(one.hours)),
        row("arithmetic", f"{one.flops / 1e15:,.1f} PFLOP"),
        row("disk for photos", f"{one.data_bytes / GIB:,.1f} GiB"),
        row("disk for features", f"{one.cache_bytes / GIB:,.1f} GiB") + "  where they are kept",
    ]
    if one.fetch_bytes:
        lines.append(
            row("the bundle", f"{one.fetch_bytes / GIB:,.1f} GiB") + "  to fetch, where it is not here"
        )
    lines += [
        "",
        f"Assumed: {bundle.projection.image_tokens} image vectors and {text:.0f} text tokens a photo, "
        f"{labels:.0f} of them answers; {SHARE_OF_PEAK:.0%} of the device's peak; weights in "
        f"{recipe.precision}.",
    ]
    return "\n".join(lines)


def _hours(hours: float) -> str:
    if hours >= 1:
        return f"{hours:,.1f} h"
    return f"{hours * 60:.1f} min" if hours * 60 >= 1 else f"{hours * 3600:.0f} s"
