"""How fast a picture is encoded through libmtmd here, beside libmtmd's own calls at its defaults.

    python benchmarks/pairs/mmproj_rate.py LANGUAGE.gguf MMPROJ.gguf [--threads 2] [--size 1024 768]
    python benchmarks/pairs/mmproj_rate.py LANGUAGE.gguf MMPROJ.gguf --like siglip-base | siglip-so400m

With `--like` the mmproj is only a pattern: one with that tower at its true size is written to a temporary
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

import numpy as np
from enlarge import TOWERS, enlarged_mmproj
from PIL import Image

from minigpt4.core.cores import usable_cores
from minigpt4.core.mtmd import library
from minigpt4.core.mtmd.encoder import MmprojEncoder
from minigpt4.core.mtmd.language import LlamaCppWithImages
from minigpt4.core.pixels import Picture
from minigpt4.core.weights.gguf.facts import mmproj_facts


def bare(mmproj: library.Mmproj, image: Image.Image) -> None:
    """Make the library's own calls, in an opened context."""
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
            enlarged_mmproj(TOWERS[asked.like], asked.mmproj, mmproj)
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
