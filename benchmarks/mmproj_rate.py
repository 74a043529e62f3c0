"""How fast a picture is encoded through libmtmd here, beside libmtmd's own calls at its defaults.

    python benchmarks/mmproj_rate.py LANGUAGE.gguf MMPROJ.gguf [--threads 2] [--rounds 5] [--size 1024 768]
    python benchmarks/mmproj_rate.py LANGUAGE.gguf MMPROJ.gguf --like siglip-base | siglip-so400m

With `--like` the mmproj serves as a pattern only: one of that tower's true size is written to a temporary
folder, with random weights in F16 and MMPROJ's projector type. The bare calls are those of llama.cpp's
own programs: tokenize, encode each chunk, with flash attention left to the library. All alternate in one
process, after a warm-up round.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from PIL import Image

from minigpt4.core.cores import usable_cores
from minigpt4.core.mtmd import library
from minigpt4.core.mtmd.encoder import MmprojEncoder
from minigpt4.core.mtmd.language import LlamaCppWithImages
from minigpt4.core.pixels import Picture
from minigpt4.core.weights.gguf.facts import mmproj_facts

TOWERS = {
    "siglip-base": {"width": 768, "mlp": 3072, "layers": 12, "heads": 12, "patch": 16, "image": 512},
    "siglip-so400m": {"width": 1152, "mlp": 4304, "layers": 27, "heads": 16, "patch": 14, "image": 896},
}
"""The towers of SmolVLM-500M and of Gemma 3."""


def like(tower: str, pattern: Path, path: Path) -> None:
    """Write an mmproj of a tower's true size, with random weights, in the pattern's form."""
    size = TOWERS[tower]
    found = gguf.GGUFReader(pattern)
    own = {
        "clip.vision.embedding_length": size["width"],
        "clip.vision.feed_forward_length": size["mlp"],
        "clip.vision.block_count": size["layers"],
        "clip.vision.attention.head_count": size["heads"],
        "clip.vision.patch_size": size["patch"],
        "clip.vision.image_size": size["image"],
        "clip.vision.preproc_image_size": 2 * size["image"],
    }
    writer = gguf.GGUFWriter(path, "clip")
    old = {name: int(found.fields[name].contents()) for name in own if name in found.fields}
    for name, one in found.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = own.get(name, one.contents()) if name in old else one.contents()
        kind = one.types[0]
        writer.add_key_value(name, value, kind, one.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    random = np.random.default_rng(0)
    width, mlp = old["clip.vision.embedding_length"], old["clip.vision.feed_forward_length"]
    patches = (old["clip.vision.image_size"] // old["clip.vision.patch_size"]) ** 2
    for tensor in found.tensors:
        layer = tensor.name.split(".")[2] if tensor.name.startswith("v.blk.") else "0"
        if layer != "0":
            continue
        names = [tensor.name]
        if tensor.name.startswith("v.blk.0."):
            names = [tensor.name.replace(".0.", f".{place}.", 1) for place in range(size["layers"])]
        shape = [int(side) for side in reversed(tensor.shape)]
        grown = {width: size["width"], mlp: size["mlp"], patches: (size["image"] // size["patch"]) ** 2}
        if tensor.name == "v.patch_embd.weight":
            shape = [size["width"], 3, size["patch"], size["patch"]]
        elif tensor.name.startswith("mm."):
            shape[-1] = shape[-1] // width * size["width"] if len(shape) > 1 else shape[-1]
        else:
            shape = [grown.get(side, side) for side in shape]
        half = len(shape) > 1 and not tensor.name.startswith("v.position")
        for name in names:
            values = random.standard_normal(shape, np.float32) * 0.02
            if "ln" in name and name.endswith("weight"):
                values[:] = 1
            writer.add_tensor(name, values.astype(np.float16) if half else values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def bare(mmproj: library.Mmproj, image: Image.Image) -> None:
    """The library's own calls, in an opened context."""
    api, context = mmproj._api, mmproj._context
    pixels = np.asarray(image, np.uint8)
    bitmap = api.mtmd_bitmap_init(
        image.width, image.height, pixels.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
    )
    chunks = api.mtmd_input_chunks_init()
    text = api.mtmd_input_text(library.MARKER, len(library.MARKER), False, True)
    assert not api.mtmd_tokenize(
        context, chunks, ctypes.byref(text), (api.mtmd_bitmap_p_ctypes * 1)(bitmap), 1
    )
    for place in range(api.mtmd_input_chunks_size(chunks)):
        chunk = api.mtmd_input_chunks_get(chunks, place)
        if api.mtmd_input_chunk_get_type(chunk) == api.MTMD_INPUT_CHUNK_TYPE_IMAGE:
            assert not api.mtmd_encode_chunk(context, chunk)
            api.mtmd_get_output_embd(context)
    api.mtmd_bitmap_free(bitmap)
    api.mtmd_input_chunks_free(chunks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("language", type=Path)
    parser.add_argument("mmproj", type=Path)
    parser.add_argument("--like", choices=TOWERS)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, nargs=2, default=(1024, 768))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        mmproj = asked.mmproj
        if asked.like:
            mmproj = Path(folder) / "mmproj.gguf"
            like(asked.like, asked.mmproj, mmproj)
        measure(asked, mmproj)


def measure(asked: argparse.Namespace, mmproj: Path) -> None:
    """Time all forms in turns, and print their medians and ratios."""
    language = LlamaCppWithImages(asked.language, context=4096, threads=asked.threads)
    image = Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (asked.size[1], asked.size[0], 3), np.uint8)
    )
    facts = mmproj_facts(mmproj)
    ours = MmprojEncoder(mmproj, language, threads=asked.threads)
    forms: dict[str, Callable[[], Any]] = {"ours": lambda: ours(Picture.of_image(image))}
    for name, is_plain in (("the library at its defaults", False), ("the library, plain attention", True)):
        opened = library.Mmproj(facts, language, threads=asked.threads, plain_attention=is_plain)
        forms[name] = partial(bare, opened, image)
    times: dict[str, list[float]] = {name: [] for name in forms}
    for round_ in range(asked.rounds + 1):
        for name, encode in forms.items():
            begin = time.perf_counter()
            encode()
            if round_:
                times[name].append(time.perf_counter() - begin)
    own = statistics.median(times["ours"])
    for name, taken in times.items():
        middle = statistics.median(taken)
        print(f"{name:<34} {middle * 1000:8.1f} ms  {middle / own:.3f}")


if __name__ == "__main__":
    main()
