"""Memory settings for torch on a CPU: a bound on its shape caches, and how malloc treats freed memory."""

from __future__ import annotations

import ctypes
import os

KEPT = 64
"""More than one step or one answer needs, so that no shape in use is evicted."""

CAPACITIES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
"""Read by oneDNN and torch's layer over it at their first matrix product; the default of both is 1,024."""


# Parameters of mallopt(3), from glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8
MALLOC_MAX = 2**31 - 1


def bound_shape_caches() -> None:
    """Bound the per-shape caches of the libraries below torch.

    In 16-bit types both keep code and buffers, megabytes per shape, and texts packed into rows have new
    shapes at every step: a run of `mini` grew from 2 GB to 10 GB in 500 steps. Call this before the
    first matrix product; values already set in the environment are kept.
    """
    for name in CAPACITIES:
        os.environ.setdefault(name, str(KEPT))


def keep_freed_memory() -> bool:
    """Make malloc keep freed memory in the process, up to 2 GB; returns whether the C library can.

    glibc returns a large block to the system as soon as it is freed, and the next step's tensors fault
    every page in again: stage 1 of `mini` trained 8.2 photos/s instead of 6.0 with this on two cores.
    Other C libraries are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    wanted = {M_ARENA_MAX: 1, M_MMAP_MAX: 0, M_TRIM_THRESHOLD: MALLOC_MAX, M_TOP_PAD: 128 * 2**20}
    done = [mallopt(name, value) for name, value in wanted.items()]  # all of them, even if one is refused
    return all(done)
