"""Several people's captions of a photo as one short paragraph, by rule.

A pure function of its arguments: whatever is left to chance is drawn from the `random.Random` given, so the
same seed gives the same sentences.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from random import Random

from minigpt4.train.captions.cleaning import by_centrality, cleaned
from minigpt4.train.captions.parser import (
    Subject,
    content_stems,
    mentioned,
    second_subject,
    subject_at,
    token_end,
    tokens,
)
from minigpt4.train.captions.word_lists import (
    ANIMAL_NOUNS,
    DOG_NOUNS,
    FEMALE,
    FINITE_AUXILIARIES,
    ING_FORMS,
    MALE,
    MODIFIERS,
    NEVER_VERBS,
    NOUNS,
    PLURAL_FORMS,
    PLURALS,
    PREPOSITIONS,
    SINGULAR_FORMS,
    STOP_WORDS,
    YOUNG,
    article_for,
)

# MiniGPT-4 (Zhu et al., 2023), section 3.2 and the released `prompts/alignment.txt`.
STAGE2_INSTRUCTIONS: tuple[str, ...] = (
    "Describe this image in detail.",
    "Take a look at this image and describe what you notice.",
    "Please provide a detailed description of the picture.",
    "Could you describe the contents of this image for me?",
)

MAX_SENTENCES = 3
MAX_WORDS = 60
# What a caption must bring to a paragraph: so many new content words, and so large a share of its own.
NEW_WORDS = 2
NEW_SHARE = 0.3


def paragraph(captions: Sequence[str], rng: Random) -> str | None:
    """One photo's human captions as a short paragraph without repeats; None if there is no caption to use.

    The rule: begin with one of the two captions that share most content words with the rest. Then, again
    and again, take the caption whose new content words most captions know, if it has at least NEW_WORDS of
    them, no less than NEW_SHARE of its words, and does not contradict what is said about who is seen (a man
    and not a woman, two dogs and not one, a black dog and not a brown one). A later sentence about the
    first one's subject begins with "He", "She", "It" or "They", or with "The ..." where it says more about
    it. A noun phrase becomes a sentence by adding "is", "are" or "has"; where that is not safe, it can only
    open the paragraph. At most MAX_SENTENCES sentences and MAX_WORDS words.
    """
    lines = by_centrality(cleaned(captions))
    if not lines:
        return None
    known = Counter(word for line in lines for word in content_stems(line))
    first = lines.pop(rng.randrange(min(2, len(lines))))
    opening = Opening(first)
    sentences = [opening.sentence]
    said = content_stems(first)
    while lines and len(sentences) < MAX_SENTENCES:
        lines.sort(key=lambda line: -sum(known[word] for word in content_stems(line) - said))
        bag = content_stems(line := lines.pop(0))
        if len(bag - said) < max(NEW_WORDS, NEW_SHARE * len(bag)):
            continue
        following = opening.continued_by(line, said)
        if following is None or len(" ".join([*sentences, following]).split()) > MAX_WORDS:
            continue
        sentences.append(following)
        said |= bag
    return " ".join(sentences)


class Opening:
    """The first sentence of a paragraph, and what it and its followers have said about its subject."""

    def __init__(self, line: str) -> None:
        self._words = tokens(line)
        self._subject = subject_at(self._words)
        self._colours = set(self._subject.colours) if self._subject else set()
        self._has_company = (
            self._subject is not None and second_subject(self._words, self._subject) is not None
        )
        self.sentence = line if self._has_company else _as_sentence(line, self._words, self._subject) or line

    def continued_by(self, line: str, said: set[str]) -> str | None:
        """`line` worded to come after, or None if it contradicts the paragraph or is no sentence.

        `said` are the stems of the paragraph so far.
        """
        words = tokens(line)
        subject = subject_at(words)
        if subject is None or self._subject is None:
            return line if _is_sentence(words, subject) else None
        if second_subject(words, subject) is not None:
            return line if self._has_company and _is_sentence(words, subject) else None
        if not self._may_be_same(subject):
            if subject.noun in mentioned(self._words) or _kind(subject.noun) in mentioned(self._words):
                return _with_lead(line, words, subject, "The")
            if subject.is_person == self._subject.is_person and not self._has_company:
                return None
            return _with_lead(line, words, subject, None)
        if subject.is_plural != self._subject.is_plural:
            may_be_one_of_them = self._subject.is_plural and subject.count == 1
            return _with_lead(line, words, subject, "One") if may_be_one_of_them else None
        if None not in (subject.count, self._subject.count) and subject.count != self._subject.count:
            return None
        colours = set(subject.colours)
        if self._colours and colours and not (self._colours <= colours or colours <= self._colours):
            return None
        self._colours |= colours
        says_more = bool(content_stems(" ".join((*subject.modifiers, subject.head))) - said - _VAGUE)
        pronoun = None if says_more or self._has_company else self._pronoun(subject)
        following = _with_pronoun(line, words, subject, pronoun) if pronoun else None
        return following or _with_lead(line, words, subject, "The")

    def _may_be_same(self, other: Subject) -> bool:
        assert self._subject is not None
        mine, its = self._subject.noun, other.noun
        if _kind(mine) == _kind(its):
            return True
        if its in mentioned(self._words):
            return False
        if self._subject.is_person and other.is_person:
            genders = [(noun in MALE) - (noun in FEMALE) for noun in (mine, its)]
            grown = [noun in MALE | FEMALE and noun not in YOUNG for noun in (mine, its)]
            young = [noun in YOUNG for noun in (mine, its)]
            return genders[0] * genders[1] >= 0 and not (grown[0] and young[1] or young[0] and grown[1])
        return "animal" in (mine, its) and mine in ANIMAL_NOUNS and its in ANIMAL_NOUNS

    def _pronoun(self, other: Subject) -> str | None:
        assert self._subject is not None
        nouns = {self._subject.noun, other.noun}
        if self._subject.is_plural:
            return "They"
        if nouns & MALE:
            return "He"
        if nouns & FEMALE:
            return "She"
        return None if self._subject.is_person else "It"


# Heads that add nothing to a subject that has been named.
_VAGUE = frozenset({"person", "people", "child", "adult", "animal", "dog", "man", "woman", "boy", "girl"})
# What follows a noun as an adjective does: "a man dressed in black".
_PARTICIPLES = frozenset({"dressed", "covered", "surrounded", "seated", "perched", "suspended", "painted"})


def _kind(noun: str) -> str:
    return "dog" if noun in DOG_NOUNS else noun


def _is_finite(word: str, subject: Subject | None) -> bool:
    """Whether `word` is surely a finite verb."""
    if word in FINITE_AUXILIARIES or (word in SINGULAR_FORMS and word not in PLURALS):
        return True
    return subject is not None and subject.is_plural and word in PLURAL_FORMS and word not in NOUNS


def _may_be_finite(word: str, subject: Subject) -> bool:
    if _is_finite(word, subject) or word in SINGULAR_FORMS:
        return True
    is_noun = word in PLURALS or word in NEVER_VERBS or word.endswith("ss")
    return word.endswith("s") and not is_noun or (subject.is_plural and word in PLURAL_FORMS)


def _is_sentence(words: list[str], subject: Subject | None) -> bool:
    """Whether there is surely a finite verb: the word after the subject, or a known one further on."""
    if subject is not None and words[subject.length : subject.length + 1]:
        following = words[subject.length]
        verbs = SINGULAR_FORMS.keys() | PLURAL_FORMS.keys() | FINITE_AUXILIARIES
        is_past = following.endswith("ed") and following not in _PARTICIPLES
        if (
            following in verbs
            or is_past
            or following not in PREPOSITIONS
            and _may_be_finite(following, subject)
        ):
            return True
    return any(_is_finite(word, subject) for word in words)


def _is_participle(word: str) -> bool:
    return word.endswith("ing") and word not in NOUNS | PREPOSITIONS | STOP_WORDS | MODIFIERS


def _missing_verb(words: list[str], subject: Subject) -> tuple[int, str] | None:
    """Where a noun phrase needs which verb ("is", "are", "has", "have") to be a sentence, if that is sure."""
    rest = words[subject.length :]
    if not rest or any(_may_be_finite(word, subject) for word in rest):
        return None
    be = "are" if subject.is_plural else "is"
    actions = [at for at, word in enumerate(rest) if word in ING_FORMS or _is_participle(word)]
    if (actions and actions[0] == 0) or rest[0] in _PARTICIPLES:
        return subject.length, be
    if rest[0] in ("in", "on"):
        # "in a white shirt riding a bike": the verb goes before "riding".
        return subject.length + (actions[0] if actions else 0), be
    if rest[0] == "with" and not actions:
        return subject.length, "have" if subject.is_plural else "has"
    return None


def _as_sentence(line: str, words: list[str], subject: Subject | None) -> str | None:
    """A noun phrase with its article and verb supplied: "Dog running." -> "A dog is running."."""
    if subject is None:
        return None
    missing = _missing_verb(words, subject)
    if missing is None and not _is_sentence(words, subject):
        return None
    if missing is not None:
        line = _insert_verb(line, *missing)
    if not subject.is_plural and words[0] == (*subject.modifiers, subject.head)[0]:
        phrase = line[0].lower() + line[1:]
        line = f"{article_for(phrase).capitalize()} {phrase}"
    return line


def _insert_verb(line: str, at: int, verb: str) -> str:
    head, tail = line[: token_end(line, at)], line[token_end(line, at) :]
    if verb in ("has", "have"):
        tail = re.sub(r"^\s*with\b", "", tail)
    return f"{head} {verb}{tail}"


def _with_lead(line: str, words: list[str], subject: Subject, lead: str | None) -> str | None:
    """`line` as a sentence whose subject begins with `lead`; numbers stay ("The two dogs")."""
    sentence = _as_sentence(line, words, subject)
    if sentence is None or lead is None or words[0] == "the":
        return sentence
    rest = re.sub(r"^(?:an?|one|some|several|many|this|these|another)\s+", "", sentence, flags=re.IGNORECASE)
    return f"{lead} {rest[0].lower()}{rest[1:]}"


def _with_pronoun(line: str, words: list[str], subject: Subject, pronoun: str) -> str | None:
    """`line` with a pronoun for its subject, or None if no verb would follow it."""
    missing = _missing_verb(words, subject)
    following = words[subject.length : subject.length + 1]
    if missing is not None and missing[0] == subject.length:
        line = _insert_verb(line, *missing)
    elif (
        not following
        or following[0] in PREPOSITIONS
        or not _is_sentence(words[: subject.length + 1], subject)
    ):
        return None
    return f"{pronoun} {line[token_end(line, subject.length) :].lstrip()}"
