"""The block characters and colors that come closest to an image.

A half-block shows both of its colors exactly, but has only two parts. Here every cell gets the two colors
and the pattern with the least squared error, so its error is at most that of a half-block of the same cell.

Neither Rich nor Textual is imported here: `early_preview` needs to start fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image


@dataclass(frozen=True)
class Blocks:
    """Characters that divide a cell into `across` by `down` parts.

    The bits of a character's index are the parts that it fills, in reading order.
    """

    across: int
    down: int
    letters: str


def _sextants() -> str:
    """All 64 patterns; U+1FB00 to U+1FB3B leave out the four that Unicode already had."""
    known = {0: " ", 0b010101: "▌", 0b101010: "▐", 0b111111: "█"}
    others = iter(range(0x1FB00, 0x1FB3C))
    return "".join(known.get(pattern) or chr(next(others)) for pattern in range(64))


HALVES = Blocks(1, 2, " ▀▄█")
QUADRANTS = Blocks(2, 2, " ▘▝▀▖▌▞▛▗▚▐▜▄▙▟█")
SEXTANTS = Blocks(2, 3, _sextants())


def fitted(
    image: Image, columns: int, rows: int, blocks: Blocks
) -> tuple[NDArray[np.intp], NDArray[np.uint8], NDArray[np.uint8]]:
    """For each of the N cells its pattern (N,), and the colors (N, 3) of the filled parts and of the others.

    With D a part's difference from the cell's mean, the colors of a pattern are the means of its filled and
    empty parts, and it explains |sum of the filled parts' D|^2 (1 / filled + 1 / empty) of the squared error.
    """
    import numpy as np
    from PIL.Image import Resampling

    across, down = blocks.across, blocks.down
    size = (columns * across, rows * down)
    pixels = np.asarray(image.resize(size, Resampling.LANCZOS, reducing_gap=2), np.float32)
    parts_NPC = pixels.reshape(rows, down, columns, across, 3).swapaxes(1, 2).reshape(-1, down * across, 3)
    mean_NC = parts_NPC.mean(1)
    # The last part is never filled: inverting a pattern only exchanges the colors.
    patterns = np.arange(2 ** (down * across - 1))
    filled_KP = (patterns[:, None] >> np.arange(down * across) & 1).astype(np.float32)
    counts = filled_KP.sum(1)
    sums_NKC = filled_KP @ (parts_NPC - mean_NC[:, None])
    weights = 1 / np.maximum(counts, 1) + 1 / (down * across - counts)
    best = ((sums_NKC**2).sum(2) * weights).argmax(1)
    sums_NC = sums_NKC[np.arange(len(best)), best]
    counts = counts[best, None]
    front = mean_NC + sums_NC / np.maximum(counts, 1)
    back = mean_NC - sums_NC / (down * across - counts)
    return best, _bytes(front), _bytes(back)


def _bytes(colors: NDArray[np.float32]) -> NDArray[np.uint8]:
    import numpy as np

    return np.clip(np.rint(colors), 0, 255).astype(np.uint8)
