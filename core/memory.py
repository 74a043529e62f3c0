"""The memory that a bundle needs in each quantisation, computed from its manifest without torch.

Sizes of weights follow from the geometry and the bits per weight: llama.cpp's mixed quantisations by
the rules of its `llama_tensor_get_type`, bitsandbytes' by the tensors of its layers. If a GGUF file
is present, its own size counts.
"""

from __future__ import annotations

import json
import math
import resource
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from minigpt4.core.bundles.bundle import Bundle, LanguageGeometry
from minigpt4.core.bundles.geometry import (
    ClipGeometry,
    ViTGeometry,
    clip_shapes,
    qformer_shapes,
    vision_shapes,
)
from minigpt4.core.dtypes import AUTO, dtype_for
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.errors import BackendError, BundleError
from minigpt4.core.weights.gguf.pair_memory import pair_memory, pair_quants, smaller_quants
from minigpt4.core.weights.llava_folder import language_settings
from minigpt4.core.weights.locate import (
    CONFIG,
    GGUF_QUANTS,
    TORCH_QUANTS,
    check_quant,
    gguf_files,
    gguf_quant,
    hf_folder,
)

GIB = 1 << 30
WORKING_ROOM = GIB // 2
"""An estimate for the interpreter, the libraries and the activations."""

COPY_MARGIN = 1 / 4
"""Fraction of a language model that has to stay free beside its repacked weights."""

DETECTOR_BYTES = 4 * 16_818_207
"""SSD with MobileNetV2 in float32."""

FLOAT_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}

Q4_0, Q8_0 = 18 / 32, 34 / 32
Q4_K, Q5_K, Q6_K = 144 / 256, 176 / 256, 210 / 256
"""Bytes per weight in llama.cpp's blocks: the block's bytes over its weights."""

NF4 = 0.5 + 4 / 64
"""bitsandbytes' NF4: four bits, and a float32 scale for every 64 weights."""

MEMINFO, STATUS = Path("/proc/meminfo"), Path("/proc/self/status")
CGROUP = Path("/sys/fs/cgroup")


def quants_of(bundle: Bundle) -> tuple[str, ...]:
    """The quantisations that a bundle's language model can be used in, the finest first."""
    own = bundle.language.gguf
    if bundle.mmproj is not None:
        return pair_quants(bundle)
    if own is not None:
        return ("fp32", *(["F16"] if bundle.language.dequantised else []), gguf_quant(own.name))
    return ("bf16", *GGUF_QUANTS[:1], "int8", *GGUF_QUANTS[1:-1], "nf4", *GGUF_QUANTS[-1:])


def memory_needed(
    bundle: Bundle, quant: str, *, device: str = "cpu", tower_dtype: str = AUTO, context: int | None = None
) -> dict[str, int]:
    """Bytes by part while the bundle answers with its language model in the quantisation `quant`.

    The vision tower is counted in `tower_dtype` (auto: the default of `device`), the key/value cache
    for `context` positions (None: all of the bundle's). Empty if the manifest states no geometry and
    the files are missing. Raises UsageError for an unknown name or type.
    """
    if bundle.mmproj is not None:
        parts = pair_memory(bundle, quant, context or bundle.language.context)
        return parts | {"working room": WORKING_ROOM} if parts else {}
    check_quant(quant)
    geometry = geometry_of(bundle)
    if geometry is None:
        return {}
    parts = {"vision tower": _vision_bytes(bundle, FLOAT_BYTES[dtype_for(tower_dtype, device)])}
    if bundle.qformer is not None:
        vision_width = ViTGeometry.parse(bundle.vision.options, bundle.name).width
        shapes = qformer_shapes(bundle.qformer.options, vision_width)
        parts["Q-Former"] = _count(shapes) * FLOAT_BYTES[dtype_for(tower_dtype, device)]
    if bundle.objects is not None:
        parts["detector"] = DETECTOR_BYTES
    parts["projection"] = _projection_bytes(bundle)
    parts["language model"] = _language_bytes(bundle, geometry, quant)
    parts["key/value cache"] = _cache_bytes(bundle, geometry, quant, context or bundle.language.context)
    parts["working room"] = WORKING_ROOM
    return parts


def require_memory(options: EngineOptions, *, free: int | None = None) -> None:
    """Raise BackendError if a bundle needs more memory than is free, naming a quantisation that fits.

    The options name a device and a quantisation, not "auto". `free` is in bytes; None: measured. If
    either number is unknown, nothing is raised.
    """
    bundle, quant, device = options.loaded_bundle(), options.quant, options.device
    free = free if free is not None else free_memory(device)

    def needed(name: str) -> int:
        tower_dtype = options.dtype or AUTO
        parts = memory_needed(bundle, name, device=device, tower_dtype=tower_dtype, context=options.context)
        return sum(parts.values())

    if free is None or (wanted := needed(quant)) <= free:
        return
    others = {name: needed(name) for name in quants_of(bundle) if needed(name) < wanted}
    fitting = next((name for name, size in others.items() if size <= free), None)
    smaller = {name: needed(name) for name in smaller_quants(bundle)} if bundle.mmproj else {}
    offered = next((name for name, size in smaller.items() if size <= free), None)
    if offered is not None:
        advice = (
            f"its language model in {offered} would fit with {gib(smaller[offered])}: import a file of that "
            "quantisation, or choose a shorter `--context`"
        )
    elif fitting is not None:
        advice = f"{fitting} would fit with {gib(others[fitting])}: choose `--quant {fitting}`"
    elif others:
        least = min(others, key=others.__getitem__)
        advice = f"even {least} needs {gib(others[least])}: free memory or choose a smaller bundle"
    else:
        advice = "free memory or choose a smaller bundle"
    place = "on the GPU " if device.startswith("cuda") else ""
    raise BackendError(
        f"The bundle '{bundle.name}' in {quant} needs {gib(wanted)} of memory and {gib(free)} are free "
        f"{place}; {advice}.".replace(" ;", ";")
    )


def lack_of_room_for_copy(options: EngineOptions, gguf: Path, *, free: int | None = None) -> str:
    """The memory that repacking the weights of `gguf` lacks, as a sentence without a full stop, or "".

    The copy replaces the file's pages, so the total does not change; but the system can drop a file's pages
    and read them again, and not a copy's. A quarter more therefore has to be free. If either number is
    unknown, nothing is lacking.
    """
    bundle, free = options.loaded_bundle(), free if free is not None else free_memory()
    parts = memory_needed(
        bundle, gguf_quant(gguf.name), tower_dtype=options.dtype or AUTO, context=options.context
    )
    if free is None or not parts:
        return ""
    needed = sum(parts.values()) + round(COPY_MARGIN * parts["language model"])
    return "" if needed <= free else f"{gib(needed)} would have to be free, and {gib(free)} are"


def free_memory(device: str = "cpu") -> int | None:
    """Free bytes on `device`; None if the system does not report them."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0]) if torch.cuda.is_available() else None
    limits = [limit for limit in (_proc_bytes(MEMINFO, "MemAvailable:"), _cgroup_free()) if limit is not None]
    return min(limits, default=None)


def gib(count: int) -> str:
    """Bytes as text: "3.6 GiB"."""
    return f"{count / GIB:.1f} GiB"


def geometry_of(bundle: Bundle) -> LanguageGeometry | None:
    """The language model's sizes: the manifest's, else those in its folder's config.json."""
    if bundle.language.geometry is not None:
        return bundle.language.geometry
    try:
        folder = hf_folder(bundle)
    except BundleError:  # loading the model reports it; here the sizes are just unknown
        return None
    if folder is None:
        return None
    try:
        config = language_settings(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
        heads = int(config["num_attention_heads"])
        return LanguageGeometry(
            layers=int(config["num_hidden_layers"]),
            mlp=int(config["intermediate_size"]),
            heads=heads,
            vocabulary=int(config["vocab_size"]),
            key_value_heads=int(config.get("num_key_value_heads") or heads),
            shared_embedding=bool(config.get("tie_word_embeddings", False)),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


# -- the parts ------------------------------------------------------------------------------------


def _vision_bytes(bundle: Bundle, float_bytes: int) -> int:
    vision = bundle.vision
    if vision.architecture == "clip-vit":
        clip = ClipGeometry.parse(vision.options, bundle.name)
        return _count(clip_shapes(clip, vision.image_size)) * float_bytes
    if vision.architecture != "eva-vit-g":  # a small tower computes in the float32 of its file
        return vision.file.bytes or 0
    shapes = vision_shapes(ViTGeometry.parse(vision.options, bundle.name), vision.image_size)
    return _count(shapes) * float_bytes


def _projection_bytes(bundle: Bundle) -> int:
    projection = bundle.projection
    later = (projection.layers - 1) * (projection.outputs + 1) * projection.outputs
    return FLOAT_BYTES["fp32"] * ((projection.inputs + 1) * projection.outputs + later)


def _count(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def _cache_bytes(bundle: Bundle, geometry: LanguageGeometry, quant: str, context: int) -> int:
    """Keys and values of every layer: float32 beside float32 weights, else 16 bits each."""
    width = bundle.language.width * geometry.key_value_heads // geometry.heads
    return 2 * geometry.layers * width * context * (4 if quant == "fp32" else 2)


def _language_bytes(bundle: Bundle, geometry: LanguageGeometry, quant: str) -> int:
    if quant not in TORCH_QUANTS:
        here = gguf_files(bundle).get(quant)
        own = bundle.language.gguf
        if here is not None:
            return here.stat().st_size
        if own is not None and own.bytes is not None and quant == gguf_quant(own.name):
            return own.bytes
    norms = (2 * geometry.layers + 1) * bundle.language.width
    weights = sum(
        count * _bytes_a_weight(quant, name, layer, geometry)
        for name, layer, count in _matrices(bundle.language.width, geometry)
    )
    return math.ceil(weights + norms * 4)


def _matrices(width: int, geometry: LanguageGeometry) -> Iterator[tuple[str, int, int]]:
    """Name, layer and number of weights of every matrix of the LLaMA architecture."""
    keys = width * geometry.key_value_heads // geometry.heads
    yield "embedding", 0, geometry.vocabulary * width
    if not geometry.shared_embedding:
        yield "output", 0, geometry.vocabulary * width
    for layer in range(geometry.layers):
        yield "value", layer, keys * width
        yield "down", layer, geometry.mlp * width
        yield "rest", layer, 2 * width * width + keys * width + 2 * geometry.mlp * width


def _bytes_a_weight(quant: str, matrix: str, layer: int, geometry: LanguageGeometry) -> float:
    is_mixed_up = matrix in ("value", "down") and _gets_more_bits(layer, geometry.layers)
    match quant:
        case "int8" | "nf4":
            # The tables of embeddings stay in 16 bits; int8's scales, one per row, are negligible.
            return 2 if matrix in ("embedding", "output") else {"int8": 1, "nf4": NF4}[quant]
        case "Q4_0":
            return Q6_K if matrix == "output" else Q4_0
        case "Q4_K_M":
            return Q6_K if matrix == "output" or is_mixed_up else Q4_K
        case "Q5_K_M":
            return Q6_K if matrix == "output" or is_mixed_up else Q5_K
        case "Q8_0":
            return Q8_0
        case _:
            return FLOAT_BYTES.get(quant, 2)


def _gets_more_bits(layer: int, layers: int) -> bool:
    """llama.cpp's rule for the layers whose values and down-projections get more bits."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


# -- measuring -------------------------------------------------------------------------------------


def most_held() -> int:
    """Peak resident memory of this process in bytes, mapped files included.

    From /proc on Linux, where getrusage(2) starts at the peak of the parent process.
    """
    unit = 1 if sys.platform == "darwin" else 1024
    return _proc_bytes(STATUS, "VmHWM:") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _proc_bytes(path: Path, name: str) -> int | None:
    """A value in KiB from a file of /proc; None on systems without it."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
    except (OSError, ValueError, StopIteration):
        return None


def _cgroup_free() -> int | None:
    """Free memory under a container's limit; its file pages can be reclaimed at any time."""
    try:
        limit = int((CGROUP / "memory.max").read_text(encoding="ascii"))  # "max" if there is no limit
        used = int((CGROUP / "memory.current").read_text(encoding="ascii"))
        counts = dict(
            line.split() for line in (CGROUP / "memory.stat").read_text(encoding="ascii").splitlines()
        )
        return limit - used + int(counts.get("inactive_file", 0)) + int(counts.get("active_file", 0))
    except (OSError, ValueError):
        return None
