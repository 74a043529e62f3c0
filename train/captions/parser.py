"""Parse a short photo caption: its words, its subject, what the subject does, and where.

There is no grammar and no tagger: captions are simple, and `word_lists.py` lists what they are made of. A
caption that does not fit is parsed as having no subject, so that nothing is concluded from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from minigpt4.train.captions.word_lists import (
    ANIMAL_NOUNS,
    COLOURS,
    DETERMINERS,
    FINITE_AUXILIARIES,
    GROUP_NOUNS,
    ING_FORMS,
    MODIFIERS,
    NOUNS,
    NUMBERS,
    ON_PLACES,
    PERSON_NOUNS,
    PLACE_NOUNS,
    PLURAL_FORMS,
    PLURALS,
    PREPOSITIONS,
    SINGULAR_FORMS,
    STOP_WORDS,
    SUBJECT_NOUNS,
    SYNONYMS,
)

_TOKEN = re.compile(r"[a-z0-9]+(?:['.-][a-z0-9]+)*'?|,")


def tokens(text: str) -> list[str]:
    """Lower-case words and commas."""
    return _TOKEN.findall(text.lower().replace("’", "'"))


def token_end(text: str, count: int) -> int:
    """Where in `text` its first `count` tokens end."""
    spans = [match.end() for match in _TOKEN.finditer(text.lower())]
    return spans[count - 1] if count else 0


def singular(word: str) -> str:
    """The singular of a known noun; any other word as it is, but for a plain final s."""
    if word in PLURALS:
        return PLURALS[word]
    if word in NOUNS or len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    return word[:-1]


def stem(word: str) -> str:
    """One form for what captions of a photo mix: runs, run, running; dog, dogs; hall, hallway."""
    if word in ING_FORMS:
        return SYNONYMS.get(ING_FORMS[word], ING_FORMS[word])
    if word in SINGULAR_FORMS and word not in PLURALS:
        verb = ING_FORMS[SINGULAR_FORMS[word]]
        return SYNONYMS.get(verb, verb)
    word = singular(word).removesuffix("'s")
    return SYNONYMS.get(word, word)


def content_stems(text: str) -> set[str]:
    """The stems of the words that carry meaning."""
    return {stem(word) for word in tokens(text) if word not in STOP_WORDS and word != ","}


@dataclass(frozen=True)
class Subject:
    """The noun phrase that a caption begins with: "Two brown dogs" of "Two brown dogs run."

    `noun` is singular and `head` as written; `modifiers` are the words before it, without the determiner;
    `count` is the number if one is said (1 for "a"), else None; `length` is its number of tokens;
    `group` is the word of "a group of people".
    """

    noun: str
    head: str
    modifiers: tuple[str, ...]
    is_plural: bool
    count: int | None
    length: int
    group: str = ""

    @property
    def is_person(self) -> bool:
        return self.noun in PERSON_NOUNS

    @property
    def colours(self) -> tuple[str, ...]:
        """Its colours, sorted: ("black", "white") for "a white and black dog"."""
        return tuple(sorted({stem(word) for word in self.modifiers if word in COLOURS}))


def _noun_run(words: list[str], start: int) -> int:
    """Where the run of modifiers and subject nouns beginning at `start` ends."""
    end = start
    while end < len(words):
        word = words[end]
        joins_colours = (
            word in ("and", ",")
            and end > start
            and words[end - 1] in COLOURS
            and end + 1 < len(words)
            and (words[end + 1] in COLOURS or words[end + 1] in MODIFIERS and word == ",")
        )
        joins_adjectives = (
            word == ","
            and end > start
            and words[end - 1] in MODIFIERS - SUBJECT_NOUNS
            and end + 1 < len(words)
            and words[end + 1] in MODIFIERS
        )
        if word not in MODIFIERS and word not in PLURALS and not joins_colours and not joins_adjectives:
            break
        end += 1
        # A plural noun ends a phrase: "dogs run" must not go on to a next noun.
        if word in PLURALS and PLURALS[word] in SUBJECT_NOUNS:
            break
    return end


def _may_follow_subject(word: str | None) -> bool:
    return (
        word is None
        or word in PREPOSITIONS
        or word in FINITE_AUXILIARIES
        or word in ING_FORMS
        or word in SINGULAR_FORMS
        or word in PLURAL_FORMS
        or (word.endswith(("ing", "ed")) and word not in NOUNS)
        or (word.endswith("s") and word not in NOUNS)
        or word in ("wearing", "out", "s", "sits", "dressed", "together", "outside", "inside", "standing")
    )


def subject_at(words: list[str], start: int = 0) -> Subject | None:
    """The subject noun phrase beginning at token `start`, or None if it is unclear."""
    at = start
    count: int | None = None
    while at < len(words) and words[at] in DETERMINERS:
        if words[at] in ("a", "an", "one"):
            count = 1
        elif words[at] in NUMBERS:
            count = NUMBERS[words[at]]
        at += 1
    if at + 1 < len(words) and words[at] in GROUP_NOUNS | {"large", "small"} and "of" in words[at : at + 3]:
        of = words.index("of", at)
        inner = subject_at(words, of + 1)
        if inner is None or not inner.is_plural:
            return None
        count = 2 if words[of - 1] in ("couple", "pair") else None
        count = inner.count or count
        length = of + 1 + inner.length - start
        return Subject(inner.noun, inner.head, inner.modifiers, True, count, length, words[of - 1])
    end = _noun_run(words, at)
    heads = [i for i in range(at, end) if singular(words[i]) in SUBJECT_NOUNS]
    if not heads:
        return None
    last = heads[-1]
    following = words[last + 1] if last + 1 < len(words) else None
    if not _may_follow_subject(following):
        return None
    is_plural = words[last] in PLURALS and words[last] != PLURALS[words[last]] or (count or 0) > 1
    modifiers = tuple(words[at:last])
    return Subject(singular(words[last]), words[last], modifiers, is_plural, count, last + 1 - start)


def second_subject(words: list[str], first: Subject) -> Subject | None:
    """The "and a dog" of "A man and a dog ...", if there is one."""
    if words[first.length : first.length + 1] != ["and"]:
        return None
    second = subject_at(words, first.length + 1)
    # "A black dog and cat food" has no second subject: what follows must be a being.
    return second if second is not None and second.noun in PERSON_NOUNS | ANIMAL_NOUNS else None


@dataclass(frozen=True)
class Action:
    """What a subject is doing: `ing` as a word ("running"), `tail` what follows it ("through the snow")."""

    ing: str
    tail: tuple[str, ...]


def action_of(words: list[str], subject: Subject, after: int | None = None) -> Action | None:
    """The first thing that the subject is said to do: "runs", "is running", "running".

    Looks right after the noun phrase (`after` tokens in, by default its length), or else at the first
    "is" or "are" followed by an -ing form, as in "a man in a red shirt is riding a bike".
    """
    at = subject.length if after is None else after
    if words[at : at + 2] in (["who", "is"], ["that", "is"], ["who", "are"], ["that", "are"]):
        at += 1
    if at < len(words) and words[at] in ("is", "are"):
        at += 1
    ing = None
    if at < len(words):
        word = words[at]
        finite = PLURAL_FORMS if subject.is_plural or after is not None else SINGULAR_FORMS
        ing = word if word in ING_FORMS else finite.get(word)
    if ing is None:
        for at in range(subject.length, len(words)):
            if words[at] in ING_FORMS and words[at - 1] in ("is", "are"):
                ing = words[at]
                break
    if ing is None:
        return None
    return Action(ing, tail_of(words, at + 1))


_TAIL_STOPS = frozenset(", while as and with that which who is are in wearing".split())
_TAIL_LINKS = frozenset(
    "a an the his her its their some on in at through over down up along across into to off from by near for "
    "with out of around under toward towards one two".split()
)


def tail_of(words: list[str], start: int, limit: int = 5) -> tuple[str, ...]:
    """What completes a verb, up to its first noun: "through the snow", "a bike"; () if that is not clear."""
    for end in range(start, min(start + limit, len(words))):
        word = words[end]
        if end == start and word in ("in", "with"):
            continue
        if word in _TAIL_STOPS or word in ING_FORMS and word not in MODIFIERS:
            return ()
        is_last = end + 1 == len(words) or words[end + 1] in PREPOSITIONS or words[end + 1] in ING_FORMS
        if word in NOUNS and is_last:
            return tuple(words[start : end + 1])
        if word not in _TAIL_LINKS and word not in MODIFIERS and word not in NOUNS:
            return ()
    return ()


def places_of(words: list[str], subject: Subject) -> dict[str, str]:
    """Places that the caption puts its subject in: {"snow": "in the snow", "beach": "on the beach"}.

    Read up to the next being, which may be elsewhere: "a man watches a dog in the water".
    """
    places: dict[str, str] = {}
    beings = PERSON_NOUNS | ANIMAL_NOUNS
    for at, word in enumerate(words[:-1]):
        if at > subject.length and (singular(word) in beings or word in ("while", "that", "as", "who")):
            break
        if word not in ("in", "on", "at", "through", "down", "along", "across", "into"):
            continue
        for end in range(at + 1, min(at + 5, len(words))):
            noun = singular(words[end])
            if words[end] in PREPOSITIONS or words[end] in ING_FORMS and words[end] not in MODIFIERS:
                break
            is_last = end + 1 == len(words) or words[end + 1] not in NOUNS
            if noun in PLACE_NOUNS and is_last:
                head = words[end] if noun in ("woods", "bleachers") else noun
                places[noun] = f"{'on' if noun in ON_PLACES else 'in'} the {head}"
                break
    return places


def mentioned(words: Iterable[str]) -> set[str]:
    """Every word and its singular, for asking whether a thing was mentioned at all."""
    listed = list(words)
    return {*listed, *(singular(word) for word in listed), *(part for w in listed for part in w.split("-"))}
