"""Sentences about a photo that has only a label, such as one of the 1,000 ImageNet classes.

`classes.tsv` beside this module is in the order of an ImageNet-1k head: sorted WordNet ids, index 0 is
n01440764 (a tench). The ids are those of ILSVRC 2012 (Russakovsky et al., 2015), whose synsets come from
WordNet 3.0; names were worded by hand to tell homonyms apart ("crane bird" and "construction crane"), and so
was `basic`, the everyday word of a photo caption ("dog" for all the breeds).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from random import Random

from minigpt4.train.captions.lexicon import ANIMAL_NOUNS, BIRD_NOUNS, article_for
from minigpt4.train.captions.questions import WHAT_IS_SEEN, WHAT_IS_THIS, QuestionAnswer, written


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
    """All 1,000 classes, in the order of an ImageNet-1k head's outputs."""
    table = resources.files("minigpt4.train.captions").joinpath("classes.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in table.splitlines()[1:])
    return tuple(ImageNetClass(int(index), *fields) for index, *fields in rows)


def label_phrase(label: ImageNetClass | str, *, basic: bool = True) -> str:
    """The noun phrase of a label, with its article: "a tabby cat".

    For a class, it is the everyday word (`basic`) or the precise name. A string is the phrase itself, or a
    derived caption such as "a black and white photo of a kitchen.", whose medium is dropped.
    """
    if isinstance(label, ImageNetClass):
        return label.basic_phrase if basic else label.phrase
    phrase = re.sub(r"\s+", " ", label).strip().rstrip(".")
    return re.sub(r"^(?:an? )?(?:black and white )?(?:photo|picture|photograph|image) of ", "", phrase)


def label_caption(label: ImageNetClass | str, rng: Random, *, precise: float = 0.4) -> str:
    """One natural line for a photo that has only a label: "A photo of a grand piano."

    `precise` is the chance that a class is called by its precise name and not by its everyday word.
    """
    phrase = label_phrase(label, basic=rng.random() >= precise)
    # Mostly the bare phrase, as human captions begin: an opening reserved for labels would teach the model
    # to tell the two kinds of photo apart before it describes anything.
    leads = ("",) * 8 + ("a photo of ", f"{_this_is(phrase)} ")
    return written(f"{rng.choice(leads)}{phrase}")


_MORE_ANIMALS = frozenset(
    "kangaroo emu gerenuk ibis okapi platypus rhino cougar dolphin beaver stegosaurus brontosaurus trilobite "
    "dalmatian octopus".split()
)

# A photo of one animal shows none of the others.
_OTHER_ANIMALS = ("dog", "cat", "horse", "bird", "cow", "elephant", "sheep")


def label_question_answers(
    label: ImageNetClass | str, rng: Random, *, precise: float = 0.4
) -> list[QuestionAnswer]:
    """Questions about a photo that has only a label; `precise` as for `label_caption`.

    Only animals get a question about an absent thing: a photo of a leash may well show a dog.
    """
    phrase = label_phrase(label, basic=rng.random() >= precise)
    plain = label_phrase(label)
    asked = [
        (rng.choice(WHAT_IS_THIS), written(rng.choice((phrase, f"{_this_is(phrase)} {phrase}")))),
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


@cache
def _animals() -> frozenset[str]:
    """Names of animals: ImageNet's first 398 classes, and those of Caltech-101 that it lacks."""
    names = {one.basic.split()[-1].lower() for one in load_classes()[:398]}
    return ANIMAL_NOUNS | names | _MORE_ANIMALS


def label_texts(label: ImageNetClass | str) -> tuple[str, ...]:
    """The label as sentences, for comparison with a detector: "A tabby cat, an animal."

    They have all its names, and say whether it is an animal, as a detector knows only some animals.
    """
    phrases = dict.fromkeys((label_phrase(label), label_phrase(label, basic=False)))
    is_animal = any(phrase.split(",")[0].split()[-1].lower() in _animals() for phrase in phrases)
    return tuple(written(f"{phrase}{', an animal' * is_animal}") for phrase in phrases)


def _this_is(phrase: str) -> str:
    """ "These are" for "tall buildings" and "pajamas", else "This is"."""
    words = phrase.split(",")[0].split()
    ends_in_s = words[-1].endswith("s") and not words[-1].endswith("ss")
    is_plural = ends_in_s and words[0] not in ("a", "an", "the")
    return "These are" if is_plural else "This is"
