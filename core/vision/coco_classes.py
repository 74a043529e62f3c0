"""The classes of the detector: COCO's 80 kinds of objects, under their 90 numbers.

COCO numbers its classes from 1 to 90 and left out ten that it planned (Lin et al. 2014, arXiv 1405.0312,
appendix); a network trained on it also has outputs for those, which are untrained.
"""

from __future__ import annotations

IDS = 90
"""Numbers 1 to 90."""

NAMES: dict[int, str] = {
    number: name
    for first, names in (
        (1, "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light"),
        (11, "fire hydrant"),
        (13, "stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra"),
        (25, "giraffe"),
        (27, "backpack, umbrella"),
        (31, "handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat"),
        (40, "baseball glove, skateboard, surfboard, tennis racket, bottle"),
        (46, "wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli"),
        (57, "carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed"),
        (67, "dining table"),
        (70, "toilet"),
        (72, "tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator"),
        (84, "book, clock, vase, scissors, teddy bear, hair drier, toothbrush"),
    )
    for number, name in enumerate(names.split(", "), first)
}
"""COCO's own names by number, in its order."""
