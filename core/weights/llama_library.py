"""llama-cpp-python's C interface and its log."""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
import mmap
import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigpt4.core.errors import BackendError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INSTALL = "pip install 'minigpt4[llama]'"
PACKAGE = "llama_cpp"
LOG_ERROR = 4

SAME_KERNELS = {"GGML_CPU_TILED_MM": "0"}
"""Environment in which a batch of 8 or more positions uses the kernels of a smaller one.

By default, types such as Q4_K and Q6_K use other kernels from 8 positions on, whose logits differ: by 0.02
in a model of mini's sizes. The library reads it once, at its first matrix product.
"""

_errors: deque[str] = deque(maxlen=3)
"""The library's last error lines, for our own error messages."""

_callbacks: list[Any] = []
"""Keeps the log callback alive; the library holds only its address."""


@functools.cache
def load_library() -> Any:
    """llama-cpp-python's C interface, silenced; raises BackendError if it cannot be imported."""
    try:
        library = _c_interface("llama_cpp")
    except (ImportError, OSError, RuntimeError) as error:  # the last two: a build for another machine
        raise BackendError(
            f"The llama.cpp backend needs llama-cpp-python, which cannot be imported ({error}); "
            f"install it with `{INSTALL}`, or use `--backend torch`, which reads "
            "all bundles but those of two GGUF files."
        ) from error
    callback = library.llama_log_callback(_keep_error)
    _callbacks.append(callback)
    library.llama_log_set(callback, ctypes.c_void_p(0))
    library.llama_backend_init()
    return library


@functools.cache
def load_mtmd() -> Any:
    """The interface of libmtmd, llama.cpp's library for pictures; its log is kept like `load_library`'s."""
    load_library()
    library = _c_interface("mtmd_cpp")
    library.mtmd_log_set(_callbacks[0], ctypes.c_void_p(0))
    library.mtmd_helper_log_set(_callbacks[0], ctypes.c_void_p(0))
    return library


def _c_interface(module: str) -> Any:
    """The package's module of C functions, without the package itself if it is not imported yet.

    Its `__init__` imports classes, a template engine and a database that are not used here, which is a tenth
    of the time to the first token. A later import of the package still loads all of it.
    """
    if PACKAGE in sys.modules:
        return importlib.import_module(f"{PACKAGE}.{module}")
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None:
        raise ModuleNotFoundError(f"No module named '{PACKAGE}'")
    sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
    try:
        return importlib.import_module(f"{PACKAGE}.{module}")
    finally:
        del sys.modules[PACKAGE]


def _keep_error(level: int, text: bytes, user_data: object) -> None:
    if level == LOG_ERROR:
        _errors.append(text.decode("utf-8", "replace").strip())


def last_error() -> str:
    """The library's last error line as the end of a sentence, or nothing."""
    return f" It says: {_errors[-1]}" if _errors else ""


def forget_mapped_pages(path: Path) -> None:
    """Drop a file's mapped pages from this process; pages that are read again are mapped again.

    After repacking, which reads the whole file once, they would count in addition to the copy that replaces
    them: 846 of 1525 MiB for six layers at 7B's width. Does nothing without /proc.
    """
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape")
        system = ctypes.CDLL(None)
    except OSError:
        return
    for line in maps.splitlines():
        if line.endswith(f" {path.resolve()}"):
            start, end = (int(place, 16) for place in line.split(maxsplit=1)[0].split("-"))
            system.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)


def forget_errors() -> None:
    """Forget earlier error lines, which belong to another model."""
    _errors.clear()


def copy_sequence(context: Any, sequence: int, size: int) -> NDArray[np.uint8] | None:
    """A copy of a sequence in a context's KV cache; `size` is its bytes, as the library reports them."""
    import numpy as np

    copy = np.empty(size, np.uint8)
    written = load_library().llama_state_seq_get_data(context, _pointer(copy), size, sequence)
    return copy if written == size else None


def restore_sequence(context: Any, sequence: int, copy: NDArray[np.uint8]) -> bool:
    """Replace a sequence, bit for bit, by its copy; False if the library fails, which leaves it undefined.

    Not with `llama_memory_seq_cp` from another sequence: with other cell positions logits differ by up to
    0.85, as activations are rounded to 8 bits. This fills the cache from its first cell on.
    """
    read = load_library().llama_state_seq_set_data(context, _pointer(copy), copy.size, sequence)
    return bool(read == copy.size)


def _pointer(array: NDArray[np.uint8]) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
