"""Short questions about a photo's objects: whether, how many, where, and which."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Sequence
from random import Random

from minigpt4.train.captions import lexicon
from minigpt4.train.captions.objects.nouns import MANY, Noun, listed, noun_of
from minigpt4.train.captions.objects.places import place_of
from minigpt4.train.captions.objects.scene import VEHICLES, Scene
from minigpt4.train.captions.objects.statistics import LabelStatistics
from minigpt4.train.captions.questions import QuestionAnswer, written
from minigpt4.train.evaluate.metrics.chair import ANIMALS, kind_of

# The plainest wording is asked most. {one} is "a dog" or "any broccoli", {many} is "dogs".
IS_THERE = (
    "Is there {one} in the image?",
    "Is there {one} in the image?",
    "Is there {one} in the image?",
    "Is there {one} in the picture?",
    "Is there {one} in the picture?",
    "Is there {one} in the photo?",
    "Is there {one} in this image?",
    "Is there {one}?",
    "Do you see {one}?",
    "Can you see {one}?",
    "Do you see {one} in the picture?",
    "Does the photo show {one}?",
    "Does the image show {one}?",
)
ARE_THERE = (
    "Are there any {many} in the image?",
    "Are there any {many} in the picture?",
    "Are there any {many}?",
    "Can you see any {many}?",
    "Do you see any {many}?",
)
HOW_MANY = (
    "How many {many} are there?",
    "How many {many} are there?",
    "How many {many} are there?",
    "How many {many} are there in the image?",
    "How many {many} are in the picture?",
    "How many {many} do you see?",
    "How many {many} can you see?",
    "Count the {many}.",
)
WHERE = (
    "Where {be} the {name}?",
    "Where {be} the {name}?",
    "Where {be} the {name} in the image?",
    "Where in the picture {be} the {name}?",
)
MAIN_SUBJECT = (
    "What is the main subject?",
    "What is the main subject?",
    "What is the main subject of the image?",
    "What is the main subject of this photo?",
)
WHICH_OBJECTS = (
    "What is in this picture?",
    "What is in this picture?",
    "What is in this image?",
    "What objects do you see?",
    "What objects are in the image?",
    "Which objects can you see in the picture?",
    "List the objects in the image.",
)

KINDS = {"presence": 0.46, "count": 0.3, "place": 0.08, "objects": 0.12, "subject": 0.04}
"""How often each kind of question is drawn."""

GROUP_RATE = 0.12
"""The fraction of presence questions that ask for any animal, vehicle, person or text."""

NONE_RATE = 0.04
"""The fraction of count questions about something absent: people mostly ask about what they see."""

PLURAL_RATE = 0.25
"""The fraction of presence questions that use the plural."""

MOST_LISTED = 6
"""The most kinds in a list of the objects, the largest first."""

GROUPS = {"animals": ANIMALS, "vehicles": VEHICLES, "people": ("person",)}
ENOUGH_CAPTIONS = 3
"""Captions needed to deny animals, vehicles or text, none naming any: a detector knows only some of them."""

FURNITURE = frozenset(("dining table", "couch", "bed", "chair", "bench", "sink", "oven", "refrigerator"))
"""Large things that are rarely what a photo is about."""

_TEXT = re.compile(r'"[^"]+"|\b(?:that|which) (?:says|reads)\b|\b(?:lettering|the words?)\b', re.I)
_NATURE = frozenset(
    "snow snowy grass grassy beach field water ocean sea lake river sand sandy wood forest mud".split()
)
_TEXT_CARRIERS = frozenset(
    "sign letter number word writing text shirt t-shirt jersey wall building street store bottle box book "
    "collar vest coat jacket sweater toy ball frisbee race racing greyhound track flag label clothes".split()
)


def object_questions(
    scene: Scene, known: LabelStatistics, count: int, rng: Random, kinds: Sequence[str] = ()
) -> list[QuestionAnswer]:
    """Up to `count` questions about a scene, with answers; fewer if it supports fewer.

    They are of these `kinds`, or of all in KINDS.

    Over all photos of the set that `known` describes, "yes" and "no" are equally frequent, and no number is
    much more frequent than the others. Only a presence question may be asked twice, in other words.
    """
    asked: dict[str, str] = {}
    about: set[str] = set()
    drawn = {kind: KINDS[kind] for kind in kinds or KINDS}
    for _ in range(count):
        kind = rng.choices(list(drawn), list(drawn.values()))[0]
        # A kind that cannot be asked is replaced by another, but presence neither replaces nor is replaced:
        # its answers would no longer be balanced.
        others = (one for one in ("place", "objects") if one in drawn)
        for one in (kind,) if kind == "presence" else dict.fromkeys((kind, *others)):
            made = _asked(one, scene, known, rng, about, asked)
            if made is not None:
                asked.setdefault(*made)
                break
    return list(asked.items())


def objects_sentence(scene: Scene) -> str | None:
    """The objects as a list: "A dog, two people and a frisbee."; None if there is none."""
    if not scene.things:
        return None
    return written(listed([phrase_of(scene, kind) for kind in list(scene.things)[:MOST_LISTED]]))


def phrase_of(scene: Scene, kind: str, noun: Noun | None = None) -> str:
    """ "a dog", "two dogs", "several dogs", "some dogs": by the number if known, else as captions say."""
    number, found = scene.numbers.get(kind), len(scene.things[kind])
    stated = scene.stated.get(kind)
    if number is None and found >= MANY and stated != 1:
        number = found
    is_one = stated == 1 or (stated is None and found == 1 and not scene.things[kind][0].is_crowd)
    return (noun or noun_of(kind)).phrase(number, is_one=is_one)


def _asked(
    kind: str,
    scene: Scene,
    known: LabelStatistics,
    rng: Random,
    about: set[str],
    asked: Container[str],
) -> QuestionAnswer | None:
    match kind:
        case "presence":
            return _presence(scene, known, rng, about, asked)
        case "count":
            return _count(scene, known, rng, about)
        case "place":
            return _place(scene, rng, about)
        case "subject":
            subject = None if kind in about else main_subject(scene)
            about.add(kind)
            return _about_subject(subject, rng) if subject else None
        case _:
            sentence = None if kind in about else objects_sentence(scene)
            about.add(kind)
            return (rng.choice(WHICH_OBJECTS), sentence) if sentence else None


def _about_subject(subject: str, rng: Random) -> QuestionAnswer:
    is_one = subject.startswith(("a ", "an "))
    lead = "the main subject is " if is_one and rng.random() < 0.5 else ""
    return rng.choice(MAIN_SUBJECT), written(f"{lead}{subject}")


def _presence(
    scene: Scene, known: LabelStatistics, rng: Random, about: set[str], asked: Container[str]
) -> QuestionAnswer | None:
    """A presence question, its answer drawn first; `about` are the kinds, `asked` the questions so far."""
    absent = known.absent(scene, rng, about) or known.absent(scene, rng)
    if absent is None:
        return None
    is_yes = bool(scene.things) and rng.random() < known.yes_rate
    if not scene.things and rng.random() >= known.no_rate:
        return None
    if rng.random() < GROUP_RATE and (found := _group(scene, rng, asked, is_yes=is_yes)):
        return found
    fresh = [one for one in scene.things if one not in about]
    kind = known.rare(fresh or list(scene.things), rng) if is_yes else absent
    about.add(kind)
    noun = noun_of(kind, rng)
    if noun.is_plural or (noun.is_counted and rng.random() < PLURAL_RATE):
        question = _fresh(ARE_THERE, rng, asked, many=noun.many)
        return question, _yes(scene, kind, noun) if is_yes else f"No, there are no {noun.many}."
    question = _fresh(IS_THERE, rng, asked, one=noun.any if noun.is_mass else noun.one)
    return question, f"Yes, there is {noun.one}." if is_yes else f"No, there is no {noun.name}."


def _fresh(wordings: Sequence[str], rng: Random, asked: Container[str], **slot: str) -> str:
    """The question in a wording that was not asked before, if there is one.

    A repeated question would be lost, and "yes" is repeated more often.
    """
    worded = [wording.format(**slot) for wording in wordings]
    return rng.choice([one for one in worded if one not in asked] or worded)


def _yes(scene: Scene, kind: str, noun: Noun) -> str:
    phrase = phrase_of(scene, kind, noun)
    be = "is" if phrase == noun.one and not noun.is_plural else "are"
    return f"Yes, there {be} {phrase}."


def _group(scene: Scene, rng: Random, asked: Container[str], *, is_yes: bool) -> QuestionAnswer | None:
    """ "Are there any animals in the image?", and the like for vehicles, people and text."""
    if is_yes:
        able = [name for name, kinds in GROUPS.items() if not scene.things.keys().isdisjoint(kinds)]
        able += ["text"] * 3 * _shows_text(scene)
    else:
        able = [name for name, kinds in GROUPS.items() if _lacks(scene, name, kinds)]
        able += ["text"] * _lacks_text(scene)
    if not able:
        return None
    name = rng.choice(able)
    if name == "text":
        question = _fresh(IS_THERE, rng, asked, one="any text")
        return question, "Yes, there is some text." if is_yes else "No, I see no text."
    question = _fresh(ARE_THERE, rng, asked, many=name)
    if not is_yes:
        return question, f"No, I see no {name}."
    kind = next(one for one in scene.things if one in GROUPS[name])
    return question, _yes(scene, kind, noun_of(kind))


def _lacks(scene: Scene, name: str, kinds: tuple[str, ...]) -> bool:
    words = {"animals": lexicon.ANIMAL_NOUNS, "vehicles": lexicon.VEHICLE_NOUNS | {"vehicle"}}.get(name)
    if not all(map(scene.is_absent, kinds)):
        return False
    return words is None or (len(scene.parsed) >= ENOUGH_CAPTIONS and words.isdisjoint(scene.words))


def _shows_text(scene: Scene) -> bool:
    return "stop sign" in scene.things or any(_TEXT.search(text) for text in scene.captions)


def _lacks_text(scene: Scene) -> bool:
    """Whether there is surely nothing written: animals alone in a landscape."""
    return (
        len(scene.parsed) >= ENOUGH_CAPTIONS
        and bool(scene.things)
        and {*scene.things, *scene.open} <= {*ANIMALS}
        and not _NATURE.isdisjoint(scene.words)
        and _TEXT_CARRIERS.isdisjoint(scene.words)
    )


def _count(scene: Scene, known: LabelStatistics, rng: Random, about: set[str]) -> QuestionAnswer | None:
    if rng.random() < NONE_RATE:
        absent = known.absent(scene, rng, about)
        noun = noun_of(absent, rng) if absent else None
        number = 0
    else:
        kinds = [kind for kind in scene.numbers if noun_of(kind).is_counted and f"count {kind}" not in about]
        if not kinds:
            return None
        seen = known.numbers
        weights = [1 / max(1, seen.get(min(scene.numbers[kind], MANY), 0)) for kind in kinds]
        kind = rng.choices(kinds, weights)[0]
        number, noun = scene.numbers[kind], noun_of(kind, rng)
        about.add(f"count {kind}")
        if rng.random() >= known.count_rate(number):
            return None
    if noun is None or not noun.is_counted:
        return None
    question = rng.choice(HOW_MANY).format(many=noun.many)
    # The number is the first word: when answers began with "There is" or "There are", the model said "are"
    # of nearly everything (on coco80, "one" for 1 of the 171 things of which there is one; now for 101).
    return question, written(noun.counted(number))


def _place(scene: Scene, rng: Random, about: set[str]) -> QuestionAnswer | None:
    """A question about where the only object of a kind is."""
    found = {kind: place for kind in scene.things if (place := sole_place(scene, kind))}
    places = {kind: place for kind, place in found.items() if f"place {kind}" not in about}
    if not places:
        return None
    kind = rng.choice(list(places))
    about.add(f"place {kind}")
    noun, place = _own_noun(scene, kind) or noun_of(kind, rng), places[kind]
    question = rng.choice(WHERE).format(be=noun.be, name=noun.name)
    return question, written(rng.choice((place, f"the {noun.name} {noun.be} {place}")))


def sole_place(scene: Scene, kind: str) -> str | None:
    """The place of a kind with a single object; None if there are more, or it lies between the places."""
    first = scene.things[kind][0]
    return place_of(first.box) if scene.numbers.get(kind) == 1 and first.box else None


def main_subject(scene: Scene) -> str | None:
    """The subject as a phrase: "a dog", "two people"; None if it is not clear.

    With captions, it is a detected thing with which most of them begin. Otherwise it is what covers by far
    the most of the picture, furniture apart.
    """
    if scene.parsed:
        firsts = Counter(kind_of(one.subject.noun) for one in scene.parsed if one.subject)
        kind, votes = next(iter(firsts.most_common(1)), ("", 0))
        if kind not in scene.things or 2 * votes <= len(scene.parsed):
            return None
        return _called(scene, kind)
    # Of several, the largest counts: a row of small books is no subject.
    sizes = {kind: found[0].area * found[0].score for kind, found in scene.things.items()}
    lively = {kind: size for kind, size in sizes.items() if kind not in FURNITURE} or sizes
    ranked = sorted(lively, key=lambda kind: -lively[kind])
    if not ranked or lively[ranked[0]] < 0.08:
        return None
    if len(ranked) > 1 and lively[ranked[0]] < 2 * lively[ranked[1]]:
        return None
    return phrase_of(scene, ranked[0])


def _called(scene: Scene, kind: str) -> str:
    """The phrase of a subject, by the captions' own noun if most use the same: "a man", not "a person"."""
    return phrase_of(scene, kind, _own_noun(scene, kind))


def _own_noun(scene: Scene, kind: str) -> Noun | None:
    """The noun of most captions' subjects, if it is of this kind."""
    nouns = Counter(one.subject.noun for one in scene.parsed if one.subject)
    noun, votes = next(iter(nouns.most_common(1)), ("", 0))
    return Noun(noun) if kind_of(noun) == kind and 2 * votes > len(scene.parsed) else None
