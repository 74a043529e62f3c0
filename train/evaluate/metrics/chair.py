"""Objects named in a text, and which of them the picture lacks: CHAIR (Rohrbach et al. 2018, 1809.02156).

Words and their plurals are looked up in `coco_synonyms.toml`. As in the authors' code, pairs of words go
before single ones (a hot dog is not a dog), an animal's `baby` or `adult` is not a person, and the seat
of a toilet is not a chair.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from importlib import resources

from minigpt4.train.evaluate.metrics.english import plural
from minigpt4.train.evaluate.metrics.ptb_tokenizer import words

ANIMALS = ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe")


@cache
def _words() -> dict[str, dict[str, str]]:
    text = (
        resources.files("minigpt4.train.evaluate.metrics").joinpath("coco_synonyms.toml").read_text("utf-8")
    )
    return tomllib.loads(text)


@cache
def _tables() -> tuple[dict[str, str], dict[str, str]]:
    """The kind of object by singular or plural name, and by special pair of words ("" if it names none)."""
    kinds = {
        form: kind
        for kind, synonyms in _words()["words"].items()
        for word in (kind, *filter(None, synonyms.split(", ")))
        for form in (word, plural(word).lower())
    }
    pairs = dict(_words()["pairs"]) | {f"{age} {one}": one for age in ("baby", "adult") for one in ANIMALS}
    return kinds, {
        form: kinds.get(word, "") for pair, word in pairs.items() for form in (pair, plural(pair).lower())
    }


def coco_kinds() -> Collection[str]:
    """The names of COCO's 80 kinds of objects."""
    return _words()["words"].keys()


def kind_of(label: str) -> str:
    """The kind of object that a label stands for: COCO's name, or the label itself if COCO has none."""
    return _tables()[0].get(label, label)


def objects_named(text: str, others: Collection[str] = ()) -> list[str]:
    """The kind of each object named in a text, in order, as often as it is named.

    `others` are labels to look for besides COCO's, of one word or two.
    """
    kinds, pairs = _tables()
    more = {form: label for label in others for form in (label, plural(label).lower())}
    known = {**more, **kinds}
    spoken = words(text)
    has_toilet = "toilet" in spoken
    found, place = [], 0
    while place < len(spoken):
        pair = " ".join(spoken[place : place + 2])
        is_pair = " " in pair and (pair in pairs or pair in known)
        kind = pairs.get(pair, known.get(pair, "")) if is_pair else known.get(spoken[place], "")
        if kind and not (has_toilet and spoken[place] in ("seat", "seats") and not is_pair):
            found.append(kind)
        place += 2 if is_pair else 1
    return found


def truth_of(labels: Sequence[str], captions: Sequence[str]) -> frozenset[str]:
    """The kinds of objects in a picture: those annotated, and those named in its captions."""
    named = (kind for caption in captions for kind in objects_named(caption, labels))
    return frozenset({*map(kind_of, labels), *named})


def chair_counts(answer: str, truth: Collection[str], others: Collection[str] = ()) -> Mapping[str, float]:
    """Of one answer: objects named, those that the picture lacks, and the picture's kinds that are named."""
    named = objects_named(answer, others)
    return {
        "named": len(named),
        "made up": sum(kind not in truth for kind in named),
        "found": len(set(named) & set(truth)),
    }
