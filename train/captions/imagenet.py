"""The 1,000 ImageNet classes in words that a person would use.

`classes.tsv` beside this module is in the order of an ImageNet-1k head: sorted WordNet ids, index 0 is
n01440764 (a tench). The ids are those of ILSVRC 2012 (Russakovsky et al., 2015), whose synsets come from
WordNet 3.0; names were worded by hand so that homonyms say what the photographs show ("crane bird" and
"construction crane"), and so was `basic`, the everyday word of a photo caption ("dog" for all the breeds).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

from minigpt4.core.errors import DataError

COLUMNS = ("index", "wnid", "name", "article", "basic", "basic_article")
ARTICLES = frozenset({"a", "an", "some", ""})


@dataclass(frozen=True)
class ImageNetClass:
    """One class: `name` is precise ("golden retriever"), `basic` is the everyday word ("dog").

    Articles are "a", "an", "some" or "" (plurals that stand alone).
    """

    index: int
    wnid: str
    name: str
    article: str
    basic: str
    basic_article: str

    @property
    def phrase(self) -> str:
        """The name with its article: "a golden retriever"."""
        return f"{self.article} {self.name}".strip()

    @property
    def basic_phrase(self) -> str:
        """The everyday word with its article: "a dog"."""
        return f"{self.basic_article} {self.basic}".strip()


@cache
def load_classes() -> tuple[ImageNetClass, ...]:
    """All 1,000 classes, in the order of an ImageNet-1k head's outputs.

    Raises DataError if the shipped table is damaged, naming the line.
    """
    text = resources.files("minigpt4.train.captions").joinpath("classes.tsv").read_text(encoding="utf-8")
    return parse_classes(text)


def parse_classes(text: str) -> tuple[ImageNetClass, ...]:
    """Parse a class table; rows must be numbered from 0 and sorted by WordNet id."""
    header, *lines = text.splitlines() or [""]
    if tuple(header.split("\t")) != COLUMNS:
        raise DataError(f"The class table must begin with the columns {', '.join(COLUMNS)}, not {header!r}.")
    classes: list[ImageNetClass] = []
    for number, line in enumerate(lines, start=2):
        fields = line.split("\t")
        expected = str(len(classes))
        if len(fields) != len(COLUMNS) or fields[0] != expected or not re.fullmatch(r"n\d{8}", fields[1]):
            raise DataError(
                f"Line {number} of the class table is {line!r}; it should hold {len(COLUMNS)} fields, "
                f"beginning with {expected} and a WordNet id."
            )
        if classes and fields[1] <= classes[-1].wnid:
            raise DataError(f"Line {number} of the class table is out of order: {fields[1]} comes too late.")
        if not fields[2] or not fields[4] or not {fields[3], fields[5]} <= ARTICLES:
            raise DataError(f"Line {number} of the class table lacks a word or an article: {line!r}.")
        classes.append(ImageNetClass(len(classes), *fields[1:]))
    return tuple(classes)
