"""The photo that the app is started with, decoded and drawn by a child process while the app is imported.

numpy, Pillow and the file take 0.3 s, and Python cannot import on two threads at once. So the child does that
on another core and then draws on request; the app opens its pictures itself once this one is shown.

The child is this module. It writes the image's size, and for each request (a size in cells and the parts of a
cell) its lines with their escape codes, all in JSON; it exits on any error and at the end of its input.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from minigpt4.core.errors import ImageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from minigpt4.tui.images.block_fit import Blocks

TRUE_COLOR = "\x1b[38;2;{};{};{};48;2;{};{};{}m{}"
INDEXED = "\x1b[38;5;{};48;5;{}m{}"
RESET = "\x1b[0m"
CUBE, GREYS = (0, 95, 135, 175, 215, 255), range(8, 248, 10)
"""The levels of xterm's colors 16 to 231, and its colors 232 to 255."""
FAILED = "The picture cannot be shown before it is opened."


class EarlyPreview:
    """An image in a child process. `wait` and `lines` block: use a background thread."""

    def __init__(self, path: Path) -> None:
        """Start the child; raises OSError."""
        self.was_shown = threading.Event()
        """Set once the image is on the screen, or will not be."""
        # -P: a file called random.py in the working folder must not become Python's `random`. Ctrl+C is for
        # the app alone.
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )

        self._one_request = threading.Lock()
        self._pixels: tuple[int, int] | None = None
        self._opened = threading.Thread(target=self._open, daemon=True, name="early-preview")
        self._opened.start()

    @property
    def pixels(self) -> tuple[int, int] | None:
        """The image's width and height; None until it is open."""
        return self._pixels

    def wait(self) -> tuple[int, int]:
        """The image's width and height; raises ImageError if it cannot be opened."""
        self._opened.join()
        if self._pixels is None:
            raise ImageError(FAILED)
        return self._pixels

    def lines(self, columns: int, rows: int, blocks: Blocks, *, is_true: bool) -> list[str]:
        """The image in true or in 256 colors, one text with escape codes per line; raises ImageError."""
        self.wait()  # the first line is the size, which another thread reads
        request = (columns, rows, *astuple(blocks), is_true)
        # Two sizes are requested at once if the layout changes meanwhile; each must get its own reply.
        with self._one_request:
            # A child that has exited is noticed below.
            with suppress(OSError, ValueError):
                print(json.dumps(request), file=self._child.stdin, flush=True)
            return self._receive()

    def close(self) -> None:
        """End the child; a call that waits for it fails."""
        self.was_shown.set()
        self._child.kill()
        self._child.wait()

    def _open(self) -> None:
        with suppress(ImageError):
            width, height = self._receive()
            self._pixels = width, height

    def _receive(self) -> list[Any]:
        assert self._child.stdout is not None
        try:
            received: list[Any] = json.loads(self._child.stdout.readline())
        except (OSError, ValueError) as error:
            raise ImageError(FAILED) from error
        return received


def serve(path: Path, requests: TextIO, replies: TextIO) -> None:
    """The child: open the image, then draw until `requests` ends. Raises ImageError."""
    from minigpt4.tui.images.block_fit import Blocks
    from minigpt4.tui.images.preview import SMALL, preview

    opened = preview(path, SMALL)
    print(json.dumps(opened.pixels), file=replies, flush=True)
    for line in requests:
        columns, rows, across, down, letters, is_true = json.loads(line)
        drawn = _lines(opened.image, columns, rows, Blocks(across, down, letters), is_true=is_true)
        print(json.dumps(drawn), file=replies, flush=True)


def _lines(image: Image, columns: int, rows: int, blocks: Blocks, *, is_true: bool) -> list[str]:
    import numpy as np

    from minigpt4.tui.images.block_fit import fitted

    patterns, front, back = fitted(image, columns, rows, blocks)
    form, front, back = (TRUE_COLOR, front, back) if is_true else (INDEXED, _indices(front), _indices(back))
    colors = np.concatenate((front, back), axis=1).tolist()
    letters = map(blocks.letters.__getitem__, patterns.tolist())
    cells = [form.format(*both, letter) for both, letter in zip(colors, letters, strict=True)]
    return ["".join(cells[start : start + columns]) + RESET for start in range(0, len(cells), columns)]


def _indices(colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The nearest of xterm's 256 colors (N, 1) to each of (N, 3), without the 16 that users redefine."""
    import numpy as np
    from PIL import Image

    palette = Image.new("P", (1, 1))
    palette.putpalette(
        [*np.stack(np.meshgrid(CUBE, CUBE, CUBE, indexing="ij"), -1).ravel(), *np.repeat(GREYS, 3)]
    )
    nearest = Image.fromarray(colors[None]).quantize(palette=palette, dither=Image.Dither.NONE)
    return np.asarray(nearest).T + np.uint8(16)


if __name__ == "__main__":
    with suppress(ImageError, BrokenPipeError):
        serve(Path(sys.argv[1]), sys.stdin, sys.stdout)
