"""The word lists of `words.toml`, and their inflection."""

from __future__ import annotations

import tomllib
from importlib import resources

_LISTS = tomllib.loads(
    resources.files("minigpt4.train.captions").joinpath("words.toml").read_text(encoding="utf-8")
)


def _set(name: str) -> frozenset[str]:
    return frozenset(_LISTS[name].split())


def _inverted(table: str) -> dict[str, str]:
    """Map each variant to its word, from a table of `word = "its variants"`."""
    return {variant: word for word, variants in _LISTS[table].items() for variant in variants.split()}


def plural_of(noun: str) -> str:
    """Regular English plural, with the irregular nouns of captions: "dog" -> "dogs", "man" -> "men"."""
    if noun in _LISTS["irregular_plurals"]:
        return str(_LISTS["irregular_plurals"][noun])
    if noun.endswith("man") and len(noun) > 4:
        return noun[:-3] + "men"
    return _with_s(noun)


def article_for(phrase: str) -> str:
    """ "a" or "an" by the first sound: "a unicycle", "an hour", "an elephant"."""
    word = phrase.lower()
    if word.startswith(("uni", "one", "eu", "use", "u-")):
        return "a"
    return "an" if word[0] in "aeiou" or word.startswith("hour") else "a"


def _with_s(word: str) -> str:
    """A noun's plural, or a verb's third person."""
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


def _ing(verb: str) -> str:
    if verb in _LISTS["irregular_ing"]:
        return str(_LISTS["irregular_ing"][verb])
    if verb in _DOUBLED:
        return verb + verb[-1] + "ing"
    return verb.removesuffix("e") + "ing"


STOP_WORDS = _set("stop_words")
SYNONYMS = _inverted("synonyms")
COLOURS = _set("colours")
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}
NUMBER_WORDS = frozenset(NUMBERS)
DETERMINERS = _set("determiners") | NUMBER_WORDS

MALE, FEMALE, YOUNG = _set("male"), _set("female"), _set("young")
PERSON_NOUNS = MALE | FEMALE | _set("person_nouns")
DOG_NOUNS, BIRD_NOUNS = _set("dog_nouns"), _set("bird_nouns")
ANIMAL_NOUNS = DOG_NOUNS | BIRD_NOUNS | _set("animal_nouns")
VEHICLE_NOUNS = _set("vehicle_nouns")
GROUP_NOUNS = _set("group_nouns")
SUBJECT_NOUNS = PERSON_NOUNS | ANIMAL_NOUNS | VEHICLE_NOUNS
THING_NOUNS = VEHICLE_NOUNS | _set("thing_nouns")
PLACE_NOUNS, ON_PLACES = _set("place_nouns"), _set("on_places")
PLURALS = {plural_of(noun): noun for noun in sorted(SUBJECT_NOUNS | THING_NOUNS | PLACE_NOUNS)}
NOUNS = SUBJECT_NOUNS | THING_NOUNS | PLACE_NOUNS | frozenset(PLURALS)
PAIRED_CLOTHES = _set("paired_clothes")
CLOTHES = PAIRED_CLOTHES | _set("clothes")
MODIFIERS = COLOURS | SUBJECT_NOUNS | _set("modifiers")

_VERBS, _DOUBLED = sorted(_set("verbs")), _set("doubled")
ING_FORMS = {_ing(verb): verb for verb in _VERBS} | {"laying": "lie"}
SINGULAR_FORMS = {_with_s(verb): _ing(verb) for verb in _VERBS} | {"lays": "lying"}
PLURAL_FORMS = {verb: _ing(verb) for verb in _VERBS} | {"lay": "lying"}
SAME_ACTION = _inverted("same_action")

FINITE_AUXILIARIES = _set("finite_auxiliaries")
PREPOSITIONS = _set("prepositions")
NEVER_VERBS = _set("never_verbs")

_RELATIVES = {"dog": DOG_NOUNS, "bird": BIRD_NOUNS, "car": VEHICLE_NOUNS, "boat": VEHICLE_NOUNS}
ABSENT: dict[str, frozenset[str]] = {
    thing: frozenset(words.split()) | _RELATIVES.get(thing, frozenset())
    for thing, words in _LISTS["absent"].items()
}
PERSON_SIGNS = _set("person_signs")
DANGLING = _set("dangling")
TAIL_STOPS, TAIL_LINKS = _set("tail_stops"), _set("tail_links")
VAGUE_HEADS, PARTICIPLES, NEEDS_OBJECT = _set("vague_heads"), _set("participles"), _set("needs_object")
COLOURED_NOUNS = (SUBJECT_NOUNS - PERSON_NOUNS) | CLOTHES | _set("coloured_things")
SEVERAL = _set("several")
UNCOUNTABLE = _set("uncountable")
