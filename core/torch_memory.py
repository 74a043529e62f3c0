"""A bound on what torch keeps for every shape of matrix that a processor has multiplied."""

from __future__ import annotations

import os

KEPT = 64
"""More than one step or one answer needs; with fewer, nothing that is still in use is made again."""

CAPACITIES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
"""What oneDNN and torch's layer over it read at their first product; both keep 1,024 by themselves."""


def bound_shape_caches() -> None:
    """Let the libraries below torch forget the shapes that they met long ago.

    In 16 bits both keep code and buffers, megabytes a shape, and texts packed into rows have new
    shapes at every step: a run of `mini` held 2 GB at first and 10 GB after 500 steps. To be called
    before the first product; values that are set in the environment stay.
    """
    for name in CAPACITIES:
        os.environ.setdefault(name, str(KEPT))
