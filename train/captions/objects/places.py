"""Where a box is in the picture, in words."""

from __future__ import annotations

from minigpt4.train.captions.objects.scene import Box

# Fractions of width and height; what lies between them is not named.
_SIDE, _MIDDLE = 0.36, (0.42, 0.58)
_END, _CORNER = 0.3, 0.25


def place_of(box: Box) -> str | None:
    """ "on the left", "at the top right", "in the middle"; None for a box that lies between these."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    if x <= _SIDE or x >= 1 - _SIDE:
        side = "left" if x < 0.5 else "right"
        if min(y, 1 - y) <= _CORNER:
            return f"at the {'top' if y < 0.5 else 'bottom'} {side}"
        return f"on the {side}"
    if not _MIDDLE[0] <= x <= _MIDDLE[1]:
        return None
    if min(y, 1 - y) <= _END:
        return f"at the {'top' if y < 0.5 else 'bottom'}"
    return "in the middle" if _MIDDLE[0] - 0.04 <= y <= _MIDDLE[1] + 0.04 else None


def relation_of(one: Box, other: Box) -> str | None:
    """ "to the left of" or "above", if the boxes lie side by side or one above the other, and apart."""
    if _gap(one[0], one[2], other[0], other[2]) >= 0 and _gap(one[1], one[3], other[1], other[3]) < -0.05:
        return "to the left of" if one[0] < other[0] else "to the right of"
    if _gap(one[1], one[3], other[1], other[3]) >= 0 and _gap(one[0], one[2], other[0], other[2]) < -0.05:
        return "above" if one[1] < other[1] else "below"
    return None


def _gap(low: float, high: float, other_low: float, other_high: float) -> float:
    """The distance between two intervals; if they overlap, the overlap as a negative number."""
    return max(low, other_low) - min(high, other_high)
