"""A detector's objects as vectors that one linear layer can read.

An object has two vectors, as a sentence would have two words: its number and its name. The first has
columns for how many objects of its class were found (one, two, three, four or more, each a column apart)
and for its place (center, from -1 to 1; width, height and area as fractions of the picture's); the second
has a column for every class of COCO. Both have a column for each range of scores. A name is read no worse
beside such a number (AUC of presence after 40 steps: 0.82) than without one (0.77). A picture has K such
pairs; those left over say that there is nothing more.

After a change of the vectors, raise OBJECTS_VERSION in fingerprint.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.types import FoundObject
from minigpt4.core.vision.coco_classes import NAMES

if TYPE_CHECKING:
    # It imports torch, which an engine that finds all it needs in its caches does without.
    from minigpt4.core.vision.detections import Detections

PLACE = ("center x", "center y", "width", "height", "area")
COUNTS = ("one", "two", "three", "four", "several")
VECTORS = 2
"""Of an object."""

COUNTED_SCORE = 0.2
"""The score from which an object counts as one of its class.

Fainter ones tell whether a class is there at all (presence on COCO's photos: at most 0.81 with objects from
0.3, 0.88 from 0.15), but count some things twice. Mean of the exact rates of one, two, and three or four on
coco128: 0.45 from 0.15, 0.50 from 0.2, 0.47 from 0.3 (on coco80: 0.43, 0.45, 0.40).
"""

IS_OBJECT, IS_EMPTY = -2, -1
"""The last two columns; one of them is 1 in every vector."""

SCORE_RANGES = (0.25, 0.4, 0.6)
"""Where the ranges of scores part.

The model's first normalisation removes a vector's length, so it cannot read a score from one column, and
faint objects misled it where it names things; a column of its own for each range is a direction.
"""

PLACE_COLUMNS = slice(len(NAMES), len(NAMES) + len(PLACE))
SCORE_COLUMNS = slice(PLACE_COLUMNS.stop, PLACE_COLUMNS.stop + len(SCORE_RANGES) + 1)
COUNT_COLUMNS = slice(SCORE_COLUMNS.stop, SCORE_COLUMNS.stop + len(COUNTS))
WIDTH = COUNT_COLUMNS.stop + 2
"""96 columns."""

NAMED_COLUMNS = {
    **dict(enumerate(NAMES.values())),
    **dict(enumerate(COUNTS, COUNT_COLUMNS.start)),
}
"""The words that columns stand for."""

NAME_COLUMNS = slice(0, len(NAMES))

PROMPT_SCALE = 20.0
"""The value of a soft prompt's column in its own vector, all others being zero.

AdamW moves every weight by about the learning rate, so a prompt's vector moves 20 times as fast as a class's.
At one rate for both the names were gone before the prompt was found: presence stayed at chance (AUC 0.52
after 40 steps, and 0.77 so).
"""

_COLUMN_OF = {number: column for column, number in enumerate(NAMES)}


def object_vectors(found: Detections, objects: int) -> NDArray[np.float32]:
    """The vectors (2 K, 96) of one picture's K objects, each its number and then its name.

    First the clearest object of each class, the clearest class first, so that a crowd does not keep the
    dog out; then, if there is room, what remains.
    """
    rows = np.zeros((VECTORS * objects, WIDTH), np.float32)
    order = _chosen(found, objects)
    rows[VECTORS * len(order) :, IS_EMPTY] = 1
    if not order:
        return rows
    row = rows[: VECTORS * len(order)]
    row[:, IS_OBJECT] = 1
    number, name = row[::VECTORS], row[1::VECTORS]
    counts = Counter(found.classes_K[found.scores_K >= COUNTED_SCORE].tolist())
    top, left, bottom, right = found.boxes_K4[order].T
    width, height = right - left, bottom - top
    number[:, PLACE_COLUMNS] = np.stack(
        [left + right - 1, top + bottom - 1, width, height, width * height], axis=1
    )
    ranges = np.searchsorted(SCORE_RANGES, found.scores_K[order], side="right")
    for place, (of_class, score) in enumerate(zip(found.classes_K[order].tolist(), ranges, strict=True)):
        number[place, SCORE_COLUMNS.start + score] = name[place, SCORE_COLUMNS.start + score] = 1
        # One that is too faint to count is still one.
        number[place, COUNT_COLUMNS.start + min(max(counts[of_class], 1), len(COUNTS)) - 1] = 1
        name[place, _COLUMN_OF[of_class]] = 1
    return rows


BOX_COLUMNS = 6
"""Of `box_rows`: COCO's number of the class, the score, then left, top, right and bottom."""


def box_rows(found: Detections, order: Sequence[int], rows: int) -> NDArray[np.float32]:
    """What is known of the objects at the places `order`, apart from their vectors: (rows, 6).

    Sides are fractions of the picture. Rows that are left over are zero.
    """
    result = np.zeros((rows, BOX_COLUMNS), np.float32)
    row = result[: len(order)]
    row[:, 0] = found.classes_K[order]
    row[:, 1] = found.scores_K[order]
    row[:, 2:] = found.boxes_K4[order][:, [1, 0, 3, 2]]
    return result


def object_boxes(found: Detections, vectors: int) -> NDArray[np.float32]:
    """The rows (K, 6) of the objects that have a vector, in the same order."""
    return box_rows(found, _chosen(found, vectors), vectors)


def found_objects(rows_K6: NDArray[np.floating[Any]]) -> list[FoundObject]:
    """The objects of `box_rows`; a class without a name is none."""
    return [
        FoundObject(NAMES[int(number)], score, (left, top, right, bottom))
        for number, score, left, top, right, bottom in rows_K6.astype(float).tolist()
        if int(number) in NAMES
    ]


def _chosen(found: Detections, vectors: int) -> list[int]:
    """The places of the objects that have a vector, in order; a class without a name has none."""
    return [place for place in _by_clarity(found) if int(found.classes_K[place]) in NAMES][:vectors]


def _by_clarity(found: Detections) -> list[int]:
    """The places of the objects: one of each class first, and both parts by score and size.

    The first is what the captions of 600 photos of flickr8k begin with in 0.81 of them by the score times the
    square root of a side, in 0.79 by score alone, in 0.72 by area alone, which puts tables first.
    """
    height, width = (found.boxes_K4[:, 2:] - found.boxes_K4[:, :2]).T
    clarity = found.scores_K * np.maximum(height * width, 0) ** 0.25
    clearest = np.argsort(-clarity, kind="stable").tolist()
    firsts = {int(found.classes_K[place]): place for place in reversed(clearest)}
    return sorted(clearest, key=lambda place: firsts[int(found.classes_K[place])] != place)
