"""llama.cpp's own quantiser, which writes a GGUF's weights in another type."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from pathlib import Path

from minigpt4.core.cores import threads_for
from minigpt4.core.download.sources import space_problem
from minigpt4.core.errors import BackendError, BundleError
from minigpt4.core.storage.atomic import replacing
from minigpt4.core.storage.locks import locked
from minigpt4.core.weights.gguf.header import read_header
from minigpt4.core.weights.gguf.to_hf import check_gguf
from minigpt4.core.weights.gguf.writer import FILE_TYPES
from minigpt4.core.weights.llama_library import last_error, load_library

ROWS_BYTES = 256 << 20
"""Bytes of rows that the quantiser holds at once (its own choice would be 8 GiB)."""

POLL_S = 0.2
"""Seconds between two progress reports."""


def run_quantiser(
    source: Path,
    draft: Path,
    quant: str,
    *,
    threads: int | None = None,
    written: Callable[[int], None] = lambda _: None,
) -> None:
    """Write the GGUF `source` to `draft` in another type.

    A quantised source is dequantised first. `written` is called with the number of bytes written so far. The
    work is done in a thread, because llama.cpp's `llama_model_quantize` cannot be interrupted. Raises
    BackendError if it fails.
    """
    library = load_library()
    parameters = library.llama_model_quantize_default_params()
    parameters.ftype = FILE_TYPES[quant]
    parameters.nthread = threads_for(threads)
    parameters.max_buf_size = ROWS_BYTES
    parameters.allow_requantize = True
    results: list[int] = []

    def work() -> None:
        results.append(library.llama_model_quantize(os.fsencode(source), os.fsencode(draft), parameters))

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    while worker.is_alive():
        worker.join(POLL_S)
        written(draft.stat().st_size)
    if results != [0]:
        raise BackendError(f"llama.cpp failed to write {source} as {quant}.{last_error()}")


def dequantise(source: Path, target: Path, *, advice: str, notice: Callable[[str], None]) -> None:
    """Make sure that `target` holds the weights of the GGUF `source` in F16.

    It is written if it is missing, damaged or older than `source`, by one process at a time; `notice` is
    called first. Raises BackendError, which ends with `advice`, if the disk is full or cannot be written,
    BundleError if `source` is damaged.
    """
    if _is_current(target, source):
        return
    check_gguf(source)
    try:
        with locked(target):
            if _is_current(target, source):  # another process has written it meanwhile
                return
            if problem := space_problem(target.parent, _f16_bytes(source)):
                raise BackendError(f"{target.name} cannot be made: {problem}; {advice}.")
            notice(f"{source.name} is written as F16 for llama.cpp, once: {target}.")
            with replacing(target) as draft:
                run_quantiser(source, draft, "F16")
    except OSError as error:
        raise BackendError(f"{target} cannot be written: {error.strerror or error}; {advice}.") from error


def _is_current(target: Path, source: Path) -> bool:
    try:
        check_gguf(target)
        return target.stat().st_mtime >= source.stat().st_mtime
    except (BundleError, OSError):
        return False


def _f16_bytes(gguf: Path) -> int:
    """The size of the weights; the header, and vectors, which stay in float32, are small beside them."""
    return 2 * sum(math.prod(tensor.shape) for tensor in read_header(gguf).tensors.values())
