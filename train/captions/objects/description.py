"""Descriptions of a photo in several sentences: what people wrote, and what its boxes add to it."""

from __future__ import annotations

import re
from itertools import combinations
from random import Random

from minigpt4.train.captions import lexicon
from minigpt4.train.captions.cleaning import by_centrality
from minigpt4.train.captions.objects.nouns import MANY, Noun, listed, noun_of
from minigpt4.train.captions.objects.object_questions import MOST_LISTED, phrase_of, sole_place
from minigpt4.train.captions.objects.places import place_of, relation_of
from minigpt4.train.captions.objects.scene import Scene
from minigpt4.train.captions.paragraph import paragraph
from minigpt4.train.captions.parser import ParsedCaption
from minigpt4.train.captions.questions import written
from minigpt4.train.evaluate.metrics.chair import kind_of, objects_named

LEAST_WORDS, MOST_WORDS = 18, 60
"""Limits of a description; one that cannot reach the first is dropped."""

ADDED = 3
"""The most sentences about boxes after the opening."""

FILLING = 0.55
"""Fraction of the picture: an object that covers this much is not given a place."""

_OPENINGS = ("the image shows", "the picture shows", "this is a photo of", "in this image you can see")
_AMBIGUOUS = frozenset(("orange",))
"""Kinds whose names mostly mean something else in captions, such as a colour."""


def object_description(scene: Scene, rng: Random) -> str | None:
    """A description of at least LEAST_WORDS words; None if captions and boxes do not support that many.

    It begins with the captions as a paragraph, without those that name undetected things, or else with the
    list of the objects. Sentences about boxes follow: things that the captions leave out, numbers, and
    places. Nothing contradicts the captions, neither in objects nor in numbers.
    """
    supported = [one.text for one in _supported(scene)]
    opening = paragraph(supported, rng) if supported else None
    if opening is None:
        if not scene.things:
            return None
        kinds = list(scene.things)[:MOST_LISTED]
        opening = written(f"{rng.choice(_OPENINGS)} {listed([phrase_of(scene, kind) for kind in kinds])}")
        named = {kind: noun_of(kind) for kind in kinds}
        added = [_places(scene, named, rng), *_pairs(scene, named), _size(scene, named)]
    else:
        named = _nouns_in(opening, scene)
        added = [_others(scene, opening, rng), _numbers(scene, opening, named), _places(scene, named, rng)]
    added += _relations(scene, named, rng)
    sentences = [opening]
    for sentence in filter(None, added):
        longer = len(" ".join([*sentences, sentence]).split())
        is_long = len(" ".join(sentences).split()) >= LEAST_WORDS
        if len(sentences) > ADDED or longer > MOST_WORDS or (is_long and rng.random() < 0.3):
            continue
        sentences.append(sentence)
    text = " ".join(sentences)
    return text if len(text.split()) >= LEAST_WORDS else None


def supported_captions(scene: Scene) -> list[str]:
    """The half of the captions, rounded up, that agrees most with the others, the most central one first.

    Those that name things nobody detected are left out, unless all do.
    """
    central = by_centrality(_supported(scene) or scene.parsed)
    return [one.text for one in central[: (len(central) + 1) // 2]]


def _supported(scene: Scene) -> list[ParsedCaption]:
    return [one for one in scene.parsed if {*objects_named(one.text)} - _AMBIGUOUS <= scene.seen]


def _nouns_in(text: str, scene: Scene) -> dict[str, Noun]:
    """The text's noun for each kind for which it uses only one: "man", not "person"."""
    names: dict[str, set[str]] = {}
    for word in re.findall(r"[a-z]+(?:-[a-z]+)*", text.lower()):
        if kind_of(word) in scene.things:
            names.setdefault(kind_of(word), set()).add(word)
    return {kind: Noun(next(iter(found))) for kind, found in names.items() if len(found) == 1}


def _others(scene: Scene, text: str, rng: Random) -> str | None:
    """ "There is also a car on the right.": the largest things that the text does not name, or a list."""
    left = [kind for kind in scene.things if kind not in objects_named(text)]
    # Captions have many words for people: if any of them occurs, people are not added again.
    if not lexicon.PERSON_SIGNS.isdisjoint(scene.words) or not lexicon.PERSON_NOUNS.isdisjoint(scene.words):
        left = [kind for kind in left if kind != "person"]
    if not left:
        return None
    first, place = left[0], sole_place(scene, left[0])
    if place and rng.random() < 0.6:
        noun = noun_of(first)
        return f"There {noun.be} also {noun.one} {place}."
    left = left[:3]
    phrase = listed([phrase_of(scene, kind) for kind in left])
    is_one = phrase_of(scene, first) == noun_of(first).one and not noun_of(first).is_plural
    return f"There {'is' if is_one else 'are'} also {phrase} in the picture."


def _numbers(scene: Scene, text: str, named: dict[str, Noun]) -> str | None:
    """ "There are three dogs in all.", if the text says that there are several, but not how many."""
    if not lexicon.NUMBER_WORDS.isdisjoint(text.lower().split()):
        return None
    for kind, number in scene.numbers.items():
        noun = noun_of(kind)
        is_plural = kind in named and named[kind].name != kind and named[kind].name == noun.many.lower()
        if noun.is_counted and 1 < number < MANY and is_plural:
            return f"There are {noun.counted(number)} in all."
    return None


def _places(scene: Scene, named: dict[str, Noun], rng: Random) -> str | None:
    """ "The dog is on the left, and the frisbee is at the top right.": two places of single things."""
    found: dict[str, list[Noun]] = {}
    for kind, noun in named.items():
        place = sole_place(scene, kind)
        if place and scene.things[kind][0].area < FILLING:
            found.setdefault(place, []).append(noun)
    if not found:
        return None
    if list(scene.things) == list(named) and len(named) == 1:
        ((noun,),) = found.values()
        return f"{'They are' if noun.is_plural else 'It is'} {next(iter(found))}."
    clauses = []
    for place, nouns in found.items():
        be = nouns[0].be if len(nouns) == 1 else "are"
        clauses.append(f"{listed([f'the {noun.name}' for noun in nouns])} {be} {place}")
    return written(", and ".join(clauses if len(clauses) < 3 else rng.sample(clauses, 2)))


def _pairs(scene: Scene, named: dict[str, Noun]) -> list[str]:
    """ "One giraffe is on the left, and the other is in the middle.": kinds with two objects."""
    found = []
    for kind, noun in named.items():
        boxes = [one.box for one in scene.things[kind] if one.box]
        if scene.numbers.get(kind) == 2 == len(boxes) and noun.is_counted:
            first, second = sorted(boxes)
            places = place_of(first), place_of(second)
            if None not in places and places[0] != places[1]:
                found.append(f"One {noun.name} is {places[0]}, and the other is {places[1]}.")
    return found


def _relations(scene: Scene, named: dict[str, Noun], rng: Random) -> list[str]:
    """ "The dog is to the left of the bench.": two things of which there is one each."""
    alone = [kind for kind in named if scene.numbers.get(kind) == 1 and scene.things[kind][0].box]
    found: dict[str, str] = {}
    for one, other in combinations(alone, 2):
        first, second = scene.things[one][0].box, scene.things[other][0].box
        relation = relation_of(first, second) if first and second else None
        if relation:
            noun = named[one]
            found[other] = f"The {noun.name} {noun.be} {relation} the {named[other].name}."
    return rng.sample(list(found.values()), min(2, len(found)))


def _size(scene: Scene, named: dict[str, Noun]) -> str | None:
    """ "The cat takes up most of the picture." """
    for kind, noun in named.items():
        if scene.numbers.get(kind) == 1 and scene.things[kind][0].area >= FILLING:
            return f"The {noun.name} {'take' if noun.is_plural else 'takes'} up most of the picture."
    return None
