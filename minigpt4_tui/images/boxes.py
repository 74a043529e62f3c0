"""A detector's objects over a picture: their boxes in its pixels, their names in cells of the screen.

A line has a color that stands out from the picture under it, by the contrast ratio of WCAG 2.2. Where the
picture is drawn with characters, names are text: letters would be illegible in so few pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from minigpt4.core.types import FoundObject

Rgb = tuple[int, int, int]

COLORS: tuple[Rgb, ...] = (
    *((255, 214, 10), (64, 224, 255), (255, 150, 220), (140, 255, 110), (255, 255, 255)),
    *((170, 0, 30), (0, 40, 190), (100, 0, 120), (0, 80, 30), (0, 0, 0)),
)
"""Bright ones and dark ones; against any gray, white or black has a contrast of 4.5 or more."""

DISTINCT = 2.0
"""The minimum contrast of a line. WCAG requires 3 of graphical objects (success criterion 1.4.11), but over
the middle tones of most photos only black or white reach that, and all boxes would look alike.
"""

BLURRED_PERCENT = 33
"""The percentage of a line that may stand out less, where it crosses another tone of the picture."""

LINE_PIXELS = 160
"""Pixels of the shorter side for each pixel of a line's width."""


@dataclass(frozen=True)
class Label:
    """A name in a row of cells, on the color of its box."""

    column: int
    row: int
    text: str
    color: Rgb


def with_boxes(
    image: Image, objects: Sequence[FoundObject], cells: tuple[int, int], cell: tuple[int, int]
) -> tuple[Image, list[Label]]:
    """The RGB image scaled to columns and rows of `cells`, each of `cell` pixels, with boxes over it; and
    the labels, which do not overlap. An object without room for its name has no label.
    """
    from PIL import ImageDraw
    from PIL.Image import Resampling

    size = (cells[0] * cell[0], cells[1] * cell[1])
    drawn = image.resize(size, Resampling.LANCZOS, reducing_gap=2)
    tones_HW = _luminance(drawn)
    boxes = [_corners(one, size) for one in objects]
    colors: list[Rgb] = []
    for box in boxes:
        colors.append(_color(tones_HW, box, colors))
    pen = ImageDraw.Draw(drawn)
    for box, color in reversed(list(zip(boxes, colors, strict=True))):
        pen.rectangle(box, outline=color, width=max(1, min(size) // LINE_PIXELS))
    labels: list[Label] = []
    taken: set[tuple[int, int]] = set()
    for one, (left, top, _, bottom), color in zip(objects, boxes, colors, strict=True):
        text = f" {one.name} "[: cells[0]]
        column = min(left // cell[0], cells[0] - len(text))
        first, last = top // cell[1], bottom // cell[1]
        for row in (first - 1, last + 1, *range(first, last + 1)):
            places = {(row, column + step) for step in range(len(text))}
            if 0 <= row < cells[1] and not places & taken:
                taken |= places
                labels.append(Label(column, row, text, color))
                break
    return drawn, labels


def labelled(strips: list[Strip], labels: Sequence[Label], *, in_color: bool = True) -> list[Strip]:
    """The lines of cells with the labels in them."""
    strips = list(strips)
    for label in labels:
        line, end = strips[label.row], label.column + len(label.text)
        style = Style.from_color(_rich(_text_on(label.color)), _rich(label.color)) if in_color else None
        text = Strip([Segment(label.text, style)], len(label.text))
        parts = [line.crop(0, label.column), text, line.crop(end, line.cell_length)]
        strips[label.row] = Strip.join(parts)
    return strips


def draw_labels(image: Image, labels: Sequence[Label], cell: tuple[int, int]) -> None:
    """Write the labels into an image whose cells have `cell` pixels."""
    from PIL import ImageDraw, ImageFont

    pen, font = ImageDraw.Draw(image), ImageFont.load_default(cell[1] * 3 // 4)
    for label in labels:
        left, top = label.column * cell[0], label.row * cell[1]
        right = min(left + round(pen.textlength(label.text, font)), image.width)
        pen.rectangle((left, top, right - 1, top + cell[1] - 1), label.color)
        pen.text((left, top + cell[1] // 2), label.text, _text_on(label.color), font, anchor="lm")


def object_list(objects: Sequence[FoundObject], width: int, lines: int = 2) -> str:
    """Names and scores, "dog 0.93 · person 0.81", in at most `lines` lines, and how many are left out."""
    texts = [f"{one.name} {one.score:.2f}" for one in objects]
    for count in range(len(texts), 0, -1):
        left = len(texts) - count
        packed = _packed([*texts[:count], *([f"and {left} more"] if left else [])], width)
        if len(packed) <= lines:
            return "\n".join(packed)
    return ""


def _packed(texts: Sequence[str], width: int) -> list[str]:
    packed: list[str] = []
    for text in texts:
        if packed and len(packed[-1]) + len(text) + 3 <= width:
            packed[-1] += f" · {text}"
        else:
            packed.append(text)
    return packed


def _corners(one: FoundObject, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The pixels of the box, at least one, inside the picture."""
    sides = zip(one.box, (*size, *size), strict=True)
    left, top, right, bottom = (max(0, min(int(side * length), length - 1)) for side, length in sides)
    return left, top, max(left, right), max(top, bottom)


def _color(tones_HW: NDArray[np.float64], box: tuple[int, int, int, int], used: list[Rgb]) -> Rgb:
    """A color that stands out along the box; of several, the one that the fewest boxes have."""
    import numpy as np

    left, top, right, bottom = box
    rows = tones_HW[[top, bottom], left : right + 1]
    columns = tones_HW[top : bottom + 1, [left, right]]
    under = np.concatenate([rows.ravel(), columns.ravel()])
    contrasts = [float(np.percentile(_contrast(under, _tone(one)), BLURRED_PERCENT)) for one in COLORS]
    good = [one for one, contrast in zip(COLORS, contrasts, strict=True) if contrast >= DISTINCT]
    return min(good, key=used.count) if good else COLORS[int(np.argmax(contrasts))]


def _luminance(image: Image) -> NDArray[np.float64]:
    """WCAG's relative luminance (H, W), 0 to 1."""
    import numpy as np

    levels = np.arange(256) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    tones: NDArray[np.float64] = linear[np.asarray(image.convert("RGB"))] @ (0.2126, 0.7152, 0.0722)
    return tones


@cache
def _tone(color: Rgb) -> float:
    from PIL import Image

    return float(_luminance(Image.new("RGB", (1, 1), color))[0, 0])


def _contrast(tones: NDArray[np.float64], tone: float) -> NDArray[np.float64]:
    import numpy as np

    ratio: NDArray[np.float64] = (np.maximum(tones, tone) + 0.05) / (np.minimum(tones, tone) + 0.05)
    return ratio


def _text_on(color: Rgb) -> Rgb:
    """Black or white, whichever is more legible."""
    # Where both have the same contrast: (L + 0.05)^2 = 0.05 * 1.05.
    return (0, 0, 0) if _tone(color) > 0.179 else (255, 255, 255)


def _rich(color: Rgb) -> Color:
    return Color.from_rgb(*color)
