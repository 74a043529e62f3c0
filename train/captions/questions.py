"""Short questions about a photo, with answers that its human captions support.

Nothing is asked that fewer than two captions agree on; what each question needs is said where it is made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from minigpt4.train.captions.cleaning import by_centrality, cleaned
from minigpt4.train.captions.paragraph import Opening
from minigpt4.train.captions.parser import (
    Action,
    Subject,
    action_of,
    content_stems,
    mentioned,
    places_of,
    second_subject,
    stem,
    subject_at,
    tokens,
)
from minigpt4.train.captions.word_lists import (
    ABSENT,
    CLOTHES,
    COLOURS,
    DOG_NOUNS,
    NUMBER_WORDS,
    NUMBERS,
    PAIRED_CLOTHES,
    PERSON_NOUNS,
    PERSON_SIGNS,
    SAME_ACTION,
    SUBJECT_NOUNS,
    THING_NOUNS,
    UNCOUNTABLE,
    article_for,
    plural_of,
)

QuestionAnswer = tuple[str, str]

# The plainest wording is asked most.
WHAT_IS_THIS = ("What is this?", "What is this?", "What is it?", "What does the picture show?")
WHAT_IS_SEEN = (
    "What is in this picture?",
    "What is in this picture?",
    "What do you see?",
    "What can you see in this image?",
)
# Subjects that are named alike for counting votes.
_SAME_SUBJECT = {"guy": "man", "gentleman": "man", "lady": "woman", "kid": "child", "toddler": "child"}


@dataclass(frozen=True)
class _Read:
    """One caption, read."""

    words: list[str]
    subject: Subject | None
    second: Subject | None
    action: Action | None


def _read(caption: str) -> _Read:
    words = tokens(caption)
    subject = subject_at(words)
    second = second_subject(words, subject) if subject else None
    after = subject.length + 1 + second.length if subject and second else None
    return _Read(words, subject, second, action_of(words, subject, after) if subject else None)


def question_answers(captions: Sequence[str], rng: Random) -> list[QuestionAnswer]:
    """Every question that the captions of one photo support, with its answer; "What is ..." first.

    Needed for each: what is seen, nothing; what this is, a subject that two captions begin with; what it is
    doing, an action that two of those name; where, a place that three name; colour, two that name it and
    none another; how many, three that say a number and none another. A thing is there if three captions
    name it, and is not there if none names it or anything that goes with it.
    """
    lines = cleaned(captions)
    reads = [_read(line) for line in lines]
    scene = _Scene.of(reads)
    asked: list[QuestionAnswer] = []
    if scene is None and lines:
        asked.append((rng.choice(WHAT_IS_SEEN), _shortest(by_centrality(lines))))
    if scene is not None:
        asked += scene.what_questions(by_centrality(lines), rng)
        asked += scene.doing_question()
        asked += scene.where_question(rng)
    asked += _colour_questions(reads)
    asked += _count_question(reads, rng)
    asked += _presence_questions(reads, rng)
    return asked


def _shortest(central: list[str]) -> str:
    """The shorter of the two most central captions, as a sentence where that is safe."""
    return Opening(min(central[:2], key=lambda line: len(line.split()))).sentence


def written(text: str) -> str:
    """`text` with a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}."


def _key(subject: Subject) -> tuple[str, bool]:
    noun = "dog" if subject.noun in DOG_NOUNS else subject.noun
    return _SAME_SUBJECT.get(noun, noun), subject.is_plural


def _pair(read: _Read) -> tuple[tuple[str, bool], ...]:
    """A subject and its company, in either order."""
    return tuple(sorted(_key(subject) for subject in (read.subject, read.second) if subject))


@dataclass(frozen=True)
class _Scene:
    """The subject on which most captions agree, with what at least two of them say of it."""

    reads: list[_Read]
    agreeing: list[_Read]
    company: list[Subject]
    known: Counter[str]

    @classmethod
    def of(cls, reads: list[_Read]) -> _Scene | None:
        found = [read for read in reads if read.subject]
        pairs = Counter(_pair(read) for read in found if read.second)
        company: list[Subject] = []
        if pairs and pairs.most_common(1)[0][1] >= max(2, len(found) / 2):
            pair = pairs.most_common(1)[0][0]
            both = [read for read in found if read.second and _pair(read) == pair]
            # "a man and a woman" or "a woman and a man": as most put it.
            order = Counter(_key(read.subject) for read in both if read.subject).most_common(1)[0][0]
            agreeing = [read for read in both if read.subject and _key(read.subject) == order]
            company = [read.second for read in agreeing if read.second]
        else:
            alone = [read for read in found if not read.second]
            votes = Counter(_key(read.subject) for read in alone if read.subject)
            # Of equals, the one that sees several: who writes "one girl" may go on to the other.
            best = max(votes, key=lambda key: (votes[key], key[1]), default=None)
            if best is None or votes[best] < 2:
                return None
            agreeing = [read for read in alone if read.subject and _key(read.subject) == best]
        known = Counter(word for read in reads for word in content_stems(" ".join(read.words)))
        return cls(reads, agreeing, company, known)

    @property
    def subject(self) -> Subject:
        """The best described of the agreeing subjects."""
        return self._best([read.subject for read in self.agreeing if read.subject])

    def _knows(self, words: tuple[str, ...]) -> bool:
        """Whether two captions know each of these words."""
        return all(self.known[word] >= 2 for word in content_stems(" ".join(words)))

    def _best(self, subjects: list[Subject]) -> Subject:
        heads = Counter(subject.head for subject in subjects)

        def rank(subject: Subject) -> tuple[bool, int, int]:
            is_known = self._knows(subject.modifiers)
            return (is_known, heads[subject.head], len(subject.modifiers) if is_known else 0)

        return max(subjects, key=rank)

    def _phrase(self, subjects: list[Subject]) -> str:
        """ "a black dog", "two men", "a group of people": number and group if two captions say so."""
        best = self._best(subjects)
        words = (*best.modifiers, best.head) if self._knows(best.modifiers) else (best.head,)
        phrase = " ".join(words).replace(" ,", ",")
        if not best.is_plural:
            return f"{article_for(phrase)} {phrase}"
        for said in (
            Counter(NUMBER_NAMES[one.count] for one in subjects if one.count),
            Counter(f"a {one.group} of" for one in subjects if one.group),
        ):
            if said and said.most_common(1)[0][1] >= 2:
                return f"{said.most_common(1)[0][0]} {phrase}"
        return phrase

    @property
    def noun_phrase(self) -> str:
        """The subject, with its company: "a man and a dog"."""
        phrase = self._phrase([read.subject for read in self.agreeing if read.subject])
        if not self.company:
            return phrase
        company = self._phrase(self.company)
        alike = _key(self.company[0]) == _key(self.subject) and not self.subject.is_plural
        if alike and (not self.subject.modifiers or company.split()[1:-1] == []):
            return f"two {plural_of(_key(self.subject)[0])}"
        return f"{phrase} and {company}"

    @property
    def _alike(self) -> list[_Read]:
        """The captions about the same kind and number: "a boy", "a child" and "a skateboarder"."""
        ours = self.subject
        return [
            read
            for read in self.reads
            if read.subject
            and read.subject.is_plural == ours.is_plural
            and _counted_kind(read.subject.noun) == _counted_kind(ours.noun)
        ]

    @property
    def action(self) -> str | None:
        """ "running through the snow", if two captions agree on the verb; its tail if they know its words."""
        actions = [read.action for read in self._alike if read.action]
        votes = Counter(SAME_ACTION.get(action.ing, action.ing) for action in actions)
        if not votes or votes.most_common(1)[0][1] < 2:
            return None
        best = votes.most_common(1)[0][0]
        alike = [action for action in actions if SAME_ACTION.get(action.ing, action.ing) == best]
        tails = [
            a for a in alike if a.tail and all(self.known[w] >= 2 for w in content_stems(" ".join(a.tail)))
        ]
        if tails:
            chosen = max(tails, key=lambda action: len(action.tail))
            return f"{SAME_ACTION.get(chosen.ing, chosen.ing)} {' '.join(chosen.tail)}"
        return best if best not in _NEEDS_OBJECT else None

    @property
    def place(self) -> str | None:
        """ "on the beach", if three captions put something there."""
        found = [places_of(read.words, read.subject) for read in self._alike if read.subject]
        votes = Counter(noun for places in found for noun in places)
        if not votes or votes.most_common(1)[0][1] < 3:
            return None
        noun = votes.most_common(1)[0][0]
        return next(places[noun] for places in found if noun in places)

    @property
    def definite(self) -> str:
        """ "the dog", "the men"; with company, "they"."""
        return "they" if self.company else f"the {self.subject.head}"

    @property
    def _is(self) -> str:
        return "are" if self.subject.is_plural or self.company else "is"

    def what_questions(self, central: list[str], rng: Random) -> list[QuestionAnswer]:
        """What is seen, in a short central caption; and what this is, the subject alone."""
        return [
            (rng.choice(WHAT_IS_SEEN), _shortest(central)),
            (rng.choice(WHAT_IS_THIS), written(self.noun_phrase)),
        ]

    def doing_question(self) -> list[QuestionAnswer]:
        if not (action := self.action):
            return []
        answer = written(f"{self.definite} {self._is} {action}")
        return [(f"What {self._is} {self.definite} doing?", answer)]

    def where_question(self, rng: Random) -> list[QuestionAnswer]:
        if not (place := self.place):
            return []
        answer = rng.choice((place, f"{self.definite} {self._is} {place}"))
        return [(f"Where {self._is} {self.definite}?", written(answer))]


# Verbs that say nothing without what follows them.
_NEEDS_OBJECT = frozenset(
    "doing holding taking making carrying riding throwing hitting reaching pulling pushing catching looking "
    "watching chasing performing using hanging pointing touching crossing hugging biting kissing".split()
)


NUMBER_NAMES = {count: word for word, count in NUMBERS.items()}


def _colour_questions(reads: list[_Read]) -> list[QuestionAnswer]:
    """ "What color is the dog?": two captions name its colours, and none names others."""
    named: dict[str, Counter[str]] = {}
    crowded = {plural_of(noun) for noun in SUBJECT_NOUNS} | NUMBER_WORDS
    alone = not any(crowded & set(read.words[:4]) or read.second for read in reads)
    for read in reads:
        for at, word in enumerate(read.words):
            is_subject = word in SUBJECT_NOUNS - PERSON_NOUNS
            if not (is_subject or word in _COLOURED):
                continue
            start = at
            while start > 0 and (read.words[start - 1] in COLOURS or _joins(read.words, start - 1)):
                start -= 1
            colours = [one for one in read.words[start:at] if one in COLOURS]
            if colours:
                named.setdefault(word, Counter())[" and ".join(sorted(colours))] += 1
    asked = []
    for noun, votes in named.items():
        colour, count = votes.most_common(1)[0]
        if len(votes) > 1 or count < 2 or not alone or colour in ("golden", "blond", "blonde"):
            continue
        be = "are" if noun in PAIRED_CLOTHES else "is"
        asked.append((f"What color {be} the {noun}?", f"The {noun} {be} {colour}."))
    return asked


_COLOURED = CLOTHES | frozenset(
    {"ball", "frisbee", "car", "bike", "kayak", "boat", "umbrella", "slide", "truck"}
)


def _joins(words: list[str], at: int) -> bool:
    return words[at] in ("and", ",") and at > 0 and words[at - 1] in COLOURS


def _counted_kind(noun: str) -> str:
    if noun in PERSON_NOUNS:
        return "person"
    return "dog" if noun in DOG_NOUNS else noun


def _count_question(reads: list[_Read], rng: Random) -> list[QuestionAnswer]:
    """ "How many dogs are there?": three captions begin with the number, and none with another.

    For one, four must, and none may mention several or a second; it is asked half the time, so that "one"
    does not drown the other numbers.
    """
    subjects = [read.subject for read in reads if read.subject]
    kinds = Counter(_counted_kind(subject.noun) for subject in subjects)
    if not kinds:
        return []
    kind = kinds.most_common(1)[0][0]
    ours = [subject for subject in subjects if _counted_kind(subject.noun) == kind]
    counts = Counter(subject.count for subject in ours if subject.count)
    if len(counts) != 1 or any(read.second and _counted_kind(read.second.noun) == kind for read in reads):
        return []
    count, votes = counts.most_common(1)[0]
    nouns = Counter(_SAME_SUBJECT.get(subject.noun, subject.noun) for subject in ours)
    noun = kind if kind == "dog" else nouns.most_common(1)[0][0] if len(nouns) == 1 else kind
    if count == 1:
        nouns_of_kind = [word for word in SUBJECT_NOUNS if _counted_kind(word) == kind]
        others = {plural_of(word) for word in nouns_of_kind} | {
            "another",
            "other",
            "others",
            "crowd",
            "group",
        }
        repeated = any(sum(_counted_kind(word) == kind for word in read.words) > 1 for read in reads)
        if votes < 4 or repeated or any(others & set(read.words) for read in reads) or rng.random() < 0.5:
            return []
        return [(f"How many {plural_of(noun)} are there?", f"There is one {noun}.")]
    if votes < 3:
        return []
    return [(f"How many {plural_of(noun)} are there?", f"There are {NUMBER_NAMES[count]} {plural_of(noun)}.")]


def _presence_questions(reads: list[_Read], rng: Random) -> list[QuestionAnswer]:
    """One thing that is there (three captions name it, in the singular) and one that is not."""
    asked = []
    seen = [mentioned(read.words) for read in reads]
    named = Counter(word for read in reads for word in dict.fromkeys(read.words))
    things = (SUBJECT_NOUNS | THING_NOUNS) - UNCOUNTABLE
    present = [word for word, count in named.items() if count >= 3 and word in things]
    if present:
        # What is named first is the subject most often; ask for it half the time.
        noun = present[0] if rng.random() < 0.5 else rng.choice(present)
        phrase = f"{article_for(noun)} {noun}"
        asked.append((f"Is there {phrase} in the picture?", f"Yes, there is {phrase}."))
    everything = set().union(*seen) if seen else set()
    everything |= {stem(word) for word in everything}
    absent = [noun for noun, near in ABSENT.items() if noun not in everything and not near & everything]
    if not everything & (PERSON_NOUNS | PERSON_SIGNS) and present:
        absent += ["person", "man"]
    if absent and present:
        noun = rng.choice(absent)
        asked.append((f"Is there {article_for(noun)} {noun} in the picture?", f"No, there is no {noun}."))
    return asked
