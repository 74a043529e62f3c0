"""Sentences about a photo of which only the label is known, such as one of the 1,000 ImageNet classes.

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
from random import Random

from minigpt4.core.errors import DataError
from minigpt4.train.captions.questions import WHAT_IS_SEEN, WHAT_IS_THIS, QuestionAnswer, written
from minigpt4.train.captions.word_lists import ANIMAL_NOUNS, BIRD_NOUNS, article_for

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


def label_phrase(label: ImageNetClass | str, *, basic: bool = True) -> str:
    """The noun phrase of a label, with its article: "a tabby cat".

    Of a class, the everyday word (`basic`) or the precise name; of a string, either the phrase itself or
    a derived caption such as "a black and white photo of a kitchen.", whose medium is dropped.
    """
    if isinstance(label, ImageNetClass):
        return label.basic_phrase if basic else label.phrase
    phrase = re.sub(r"\s+", " ", label).strip().rstrip(".")
    return re.sub(r"^(?:an? )?(?:black and white )?(?:photo|picture|photograph|image) of ", "", phrase)


def is_plural_phrase(phrase: str) -> bool:
    """Whether "this is" does not fit: "tall buildings", "pajamas"."""
    words = phrase.split(",")[0].split()
    return words[0] not in ("a", "an", "the") and words[-1].endswith("s") and not words[-1].endswith("ss")


def label_caption(label: ImageNetClass | str, rng: Random, *, precise: float = 0.4) -> str:
    """One natural line for a photo of which only the label is known: "A photo of a grand piano."

    `precise` is the chance that a class is called by its precise name and not by its everyday word.
    """
    phrase = label_phrase(label, basic=rng.random() >= precise)
    # Mostly the bare phrase, as captions of people begin: an opening kept for labels alone would teach
    # the model to tell the two kinds of photo apart before it says what it sees.
    leads = ("",) * 8 + ("a photo of ", f"{_this_is(is_plural_phrase(phrase))} ")
    line = f"{rng.choice(leads)}{phrase}."
    return line[0].upper() + line[1:]


# An animal's portrait shows none of these others.
_OTHER_ANIMALS = ("dog", "cat", "horse", "bird", "cow", "elephant", "sheep")


def label_question_answers(
    label: ImageNetClass | str, rng: Random, *, precise: float = 0.4
) -> list[QuestionAnswer]:
    """Questions about a photo of which only the label is known; `precise` as for `label_caption`.

    What is not there is asked of animals alone: a photo of a leash may well show a dog.
    """
    phrase = label_phrase(label, basic=rng.random() >= precise)
    plain = label_phrase(label)
    plural = is_plural_phrase(phrase)
    asked = [
        (rng.choice(WHAT_IS_THIS), written(rng.choice((phrase, f"{_this_is(plural)} {phrase}")))),
        (rng.choice(WHAT_IS_SEEN), written(phrase)),
    ]
    if re.match(r"an? [^,]+$", plain) and not plain.startswith("a drawing"):
        asked.append((f"Is there {plain} in the picture?", written(f"Yes, there is {plain}")))
    noun = plain.split(",")[0].split()[-1]
    if noun in ANIMAL_NOUNS:
        near = BIRD_NOUNS if noun in BIRD_NOUNS else frozenset({noun})
        other = rng.choice([one for one in _OTHER_ANIMALS if one not in near and one not in plain.split()])
        phrase = f"{article_for(other)} {other}"
        asked.append((f"Is there {phrase} in the picture?", f"No, there is no {other}."))
    return asked


def _this_is(plural: bool) -> str:
    return "These are" if plural else "This is"
