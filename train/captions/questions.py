"""Short questions about a photo, with answers that its human captions support.

Every question needs the agreement of at least two captions; `question_answers` lists the requirements.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from minigpt4.train.captions import lexicon
from minigpt4.train.captions.cleaning import by_centrality, cleaned
from minigpt4.train.captions.lexicon import article_for, plural_of
from minigpt4.train.captions.paragraph import Opening
from minigpt4.train.captions.parser import (
    ParsedCaption,
    Subject,
    content_stems,
    kind_of,
    mentioned,
    parse,
    stem,
)

QuestionAnswer = tuple[str, str]
Value = TypeVar("Value", bound=Hashable)

# The plainest wording is asked most.
WHAT_IS_THIS = ("What is this?", "What is this?", "What is it?", "What does the picture show?")
WHAT_IS_SEEN = (
    "What is in this picture?",
    "What is in this picture?",
    "What do you see?",
    "What can you see in this image?",
)
# Subjects that count as the same in a vote.
_SAME_SUBJECT = {"guy": "man", "gentleman": "man", "lady": "woman", "kid": "child", "toddler": "child"}
_NUMBER_NAMES = {count: word for word, count in lexicon.NUMBERS.items()}
# Nouns that suggest more than one subject.
_CROWD = {plural_of(noun) for noun in lexicon.SUBJECT_NOUNS} | lexicon.NUMBER_WORDS


def question_answers(captions: Sequence[str], rng: Random) -> list[QuestionAnswer]:
    """Every question that the captions of one photo support, with its answer; "What is ..." first.

    The requirements: for the subject, two captions that begin with it; for its action, two of those that
    name it; for its place, three; for a colour, two captions that name it and none that names another; for a
    number, three that state it and none that states another. A thing is present if three captions name it,
    and absent if none names it or anything related.
    """
    parsed = [parse(line) for line in cleaned(captions)]
    asked: list[QuestionAnswer] = []
    if parsed:
        # The shorter of the two most central captions, as a sentence if that is safe.
        shortest = min(by_centrality(parsed)[:2], key=lambda caption: len(caption.text.split()))
        asked.append((rng.choice(WHAT_IS_SEEN), Opening(shortest).sentence))
    if scene := _Scene.of(parsed):
        asked += scene.questions(rng)
    return asked + _colour_questions(parsed) + _count_question(parsed, rng) + _presence_questions(parsed, rng)


def written(text: str) -> str:
    """`text` with a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}."


def _agreed(values: Iterable[Value], least: float) -> Value | None:
    """The most frequent value, the first of equals, if it occurs at least `least` times."""
    value, votes = next(iter(Counter(values).most_common(1)), (None, 0))
    return value if votes >= least else None


def _key(subject: Subject) -> tuple[str, bool]:
    noun = kind_of(subject.noun)
    return _SAME_SUBJECT.get(noun, noun), subject.is_plural


def _being(noun: str) -> str:
    return "person" if noun in lexicon.PERSON_NOUNS else kind_of(noun)


@dataclass(frozen=True)
class _Scene:
    """The subject on which most captions agree, its company if any, and the frequency of content words."""

    captions: list[ParsedCaption]
    subjects: list[Subject]
    company: list[Subject]
    frequency: Counter[str]

    @classmethod
    def of(cls, captions: list[ParsedCaption]) -> _Scene | None:
        found = [caption.subjects for caption in captions if caption.subjects]
        couples = [subjects for subjects in found if len(subjects) > 1]
        # In either order: "a man and a woman" or "a woman and a man".
        pair = _agreed((tuple(sorted(map(_key, couple))) for couple in couples), max(2, len(found) / 2))
        if pair is not None:
            agreeing = [couple for couple in couples if tuple(sorted(map(_key, couple))) == pair]
            first = _agreed((_key(couple[0]) for couple in agreeing), 1)
        else:
            agreeing = [subjects for subjects in found if len(subjects) == 1]
            votes = Counter(_key(subjects[0]) for subjects in agreeing)
            # Ties go to the plural: a caption that begins with "one girl" may continue with the other.
            first = max(votes, key=lambda key: (votes[key], key[1]), default=None)
            if first is None or votes[first] < 2:
                return None
        agreeing = [subjects for subjects in agreeing if _key(subjects[0]) == first]
        return cls(
            captions,
            [subjects[0] for subjects in agreeing],
            [subjects[1] for subjects in agreeing if len(subjects) > 1],
            Counter(word for caption in captions for word in caption.stems),
        )

    def questions(self, rng: Random) -> list[QuestionAnswer]:
        """Questions about the subject, its action and its place."""
        subject = self._best(self.subjects)
        name = "they" if self.company else f"the {subject.head}"
        be = "are" if subject.is_plural or self.company else "is"
        alike = [
            caption
            for caption in self.captions
            if caption.subject
            and caption.subject.is_plural == subject.is_plural
            and _being(caption.subject.noun) == _being(subject.noun)
        ]
        asked = [(rng.choice(WHAT_IS_THIS), written(self._noun_phrase()))]
        if action := self._action(alike):
            asked.append((f"What {be} {name} doing?", written(f"{name} {be} {action}")))
        if place := _place(alike):
            asked.append((f"Where {be} {name}?", written(rng.choice((place, f"{name} {be} {place}")))))
        return asked

    def _confirms(self, words: tuple[str, ...]) -> bool:
        """Whether at least two captions have each of the content words."""
        return all(self.frequency[word] >= 2 for word in content_stems(words))

    def _best(self, subjects: list[Subject]) -> Subject:
        heads = Counter(subject.head for subject in subjects)

        def rank(subject: Subject) -> tuple[bool, int, int]:
            is_confirmed = self._confirms(subject.modifiers)
            return (is_confirmed, heads[subject.head], len(subject.modifiers) if is_confirmed else 0)

        return max(subjects, key=rank)

    def _phrase(self, subjects: list[Subject]) -> str:
        """ "a black dog", "two men", "a group of people": with number or group if two captions have it."""
        best = self._best(subjects)
        words = (*best.modifiers, best.head) if self._confirms(best.modifiers) else (best.head,)
        phrase = " ".join(words).replace(" ,", ",")
        if not best.is_plural:
            return f"{article_for(phrase)} {phrase}"
        number = _agreed((_NUMBER_NAMES[one.count] for one in subjects if one.count), 2)
        number = number or _agreed((f"a {one.group} of" for one in subjects if one.group), 2)
        return f"{number} {phrase}" if number else phrase

    def _noun_phrase(self) -> str:
        """The subject, with its company: "a man and a dog"."""
        phrase = self._phrase(self.subjects)
        if not self.company:
            return phrase
        subject, company = self._best(self.subjects), self._phrase(self.company)
        is_alike = _key(self.company[0]) == _key(subject) and not subject.is_plural
        if is_alike and (not subject.modifiers or len(company.split()) == 2):
            return f"two {plural_of(_key(subject)[0])}"
        return f"{phrase} and {company}"

    def _action(self, captions: list[ParsedCaption]) -> str | None:
        """ "running through the snow": the verb needs two captions, each content word of its tail two."""
        actions = [action for caption in captions if (action := caption.action)]
        verb = _agreed((action.verb for action in actions), 2)
        tails = [one.tail for one in actions if one.verb == verb and one.tail and self._confirms(one.tail)]
        if tails:
            longest = max(tails, key=len)
            return f"{verb} {' '.join(longest)}"
        return None if verb in lexicon.NEEDS_OBJECT else verb


def _place(captions: list[ParsedCaption]) -> str | None:
    """ "on the beach", if three captions have it as the place."""
    found = [caption.places for caption in captions]
    noun = _agreed((noun for places in found for noun in places), 3)
    return next((places[noun] for places in found if noun in places), None)


def _colour_questions(captions: list[ParsedCaption]) -> list[QuestionAnswer]:
    """ "What color is the dog?": two captions name its colours, and none names others."""
    if any(not _CROWD.isdisjoint(one.words[:4]) or len(one.subjects) > 1 for one in captions):
        return []
    named: dict[str, Counter[str]] = {}
    for caption in captions:
        words = caption.words
        for at, noun in enumerate(words):
            start = at
            while start > 0 and (words[start - 1] in lexicon.COLOURS or _joins_colours(words, start - 1)):
                start -= 1
            colours = sorted(word for word in words[start:at] if word in lexicon.COLOURS)
            if colours and noun in lexicon.COLOURED_NOUNS:
                named.setdefault(noun, Counter())[" and ".join(colours)] += 1
    asked = []
    for noun, votes in named.items():
        colour, count = votes.most_common(1)[0]
        if len(votes) == 1 and count >= 2 and colour not in ("golden", "blond", "blonde"):
            be = "are" if noun in lexicon.PAIRED_CLOTHES else "is"
            asked.append((f"What color {be} the {noun}?", f"The {noun} {be} {colour}."))
    return asked


def _joins_colours(words: list[str], at: int) -> bool:
    return words[at] in ("and", ",") and at > 0 and words[at - 1] in lexicon.COLOURS


def _count_question(captions: list[ParsedCaption], rng: Random) -> list[QuestionAnswer]:
    """ "How many dogs are there?": three captions begin with the number, and none with another.

    For one, four must, and none may mention several or a second; it is asked half the time, so that "one"
    does not drown the other numbers.
    """
    subjects = [caption.subject for caption in captions if caption.subject]
    kind = _agreed((_being(subject.noun) for subject in subjects), 1)
    ours = [subject for subject in subjects if _being(subject.noun) == kind]
    counts = Counter(subject.count for subject in ours if subject.count)
    has_pair = any(_being(one.subjects[1].noun) == kind for one in captions if len(one.subjects) > 1)
    if kind is None or len(counts) != 1 or has_pair:
        return []
    [(count, votes)] = counts.items()
    nouns = {_SAME_SUBJECT.get(subject.noun, subject.noun) for subject in ours}
    noun = nouns.pop() if kind != "dog" and len(nouns) == 1 else kind
    question = f"How many {plural_of(noun)} are there?"
    if count > 1:
        return [(question, f"There are {_NUMBER_NAMES[count]} {plural_of(noun)}.")] if votes >= 3 else []
    plurals = {plural_of(word) for word in lexicon.SUBJECT_NOUNS if _being(word) == kind}
    is_repeated = any(sum(_being(word) == kind for word in one.words) > 1 for one in captions)
    is_several = any(not (plurals | lexicon.SEVERAL).isdisjoint(one.words) for one in captions)
    if votes < 4 or is_repeated or is_several or rng.random() < 0.5:
        return []
    return [(question, f"There is one {noun}.")]


def _presence_questions(captions: list[ParsedCaption], rng: Random) -> list[QuestionAnswer]:
    """One present thing (three captions name it, in the singular) and one absent thing."""
    frequency = Counter(word for caption in captions for word in dict.fromkeys(caption.words))
    things = (lexicon.SUBJECT_NOUNS | lexicon.THING_NOUNS) - lexicon.UNCOUNTABLE
    present = [word for word, count in frequency.items() if count >= 3 and word in things]
    if not present:
        return []
    # The first is most often the subject; it is chosen at least half the time.
    noun = present[0] if rng.random() < 0.5 else rng.choice(present)
    phrase = f"{article_for(noun)} {noun}"
    asked = [(f"Is there {phrase} in the picture?", f"Yes, there is {phrase}.")]
    everything = mentioned(list(frequency))
    everything |= {stem(word) for word in everything}
    absent = [
        noun
        for noun, related in lexicon.ABSENT.items()
        if noun not in everything and related.isdisjoint(everything)
    ]
    if everything.isdisjoint(lexicon.PERSON_NOUNS | lexicon.PERSON_SIGNS):
        absent += ["person", "man"]
    if absent:
        noun = rng.choice(absent)
        asked.append((f"Is there {article_for(noun)} {noun} in the picture?", f"No, there is no {noun}."))
    return asked
