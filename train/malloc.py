"""One setting of the C library's memory allocator that training on a processor depends on."""

from __future__ import annotations

import ctypes

# Numbers of mallopt(3), in glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8
MOST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let the process keep the memory that it frees, up to 2 GB; whether the C library can.

    glibc gives a large block back to the system as soon as it is freed, and the next step's tensors
    fault every page in again: 8.2 photos/s instead of 6.0 were learnt with this on two cores, as
    stage 1 of `mini` was trained. Other C libraries are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    wanted = {M_ARENA_MAX: 1, M_MMAP_MAX: 0, M_TRIM_THRESHOLD: MOST, M_TOP_PAD: 128 * 2**20}
    done = [mallopt(name, value) for name, value in wanted.items()]  # each of them, also after a refusal
    return all(done)
