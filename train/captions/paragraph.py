"""Several people's captions of a photo as one short paragraph, by rule.

A pure function of its arguments: all random choices come from the given `random.Random`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from random import Random

from minigpt4.train.captions import lexicon
from minigpt4.train.captions.cleaning import by_centrality, cleaned
from minigpt4.train.captions.parser import (
    ParsedCaption,
    Subject,
    content_stems,
    kind_of,
    mentioned,
    parse,
    token_end,
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
# The new content words that a caption must add to a paragraph: their number, and their fraction of its own.
NEW_WORDS = 2
NEW_FRACTION = 0.3


def paragraph(captions: Sequence[str], rng: Random) -> str | None:
    """One photo's human captions as a short paragraph without repeats; None if no caption is usable.

    The rule: begin with one of the two most central captions. Then repeatedly take the caption whose new
    content words are the most frequent in all captions, if it has at least NEW_WORDS of them, no less than
    NEW_FRACTION of its words, and does not contradict the paragraph about its subject (a man and not a
    woman, two dogs and not one, a black dog and not a brown one). A later sentence about the first one's
    subject begins with "He", "She", "It" or "They", or with "The ..." if it adds to the subject itself.
    A noun phrase becomes a sentence by adding "is", "are" or "has"; if that is not safe, it can only
    open the paragraph. At most MAX_SENTENCES sentences and MAX_WORDS words.
    """
    parsed = by_centrality([parse(line) for line in cleaned(captions)])
    if not parsed:
        return None
    frequency = Counter(word for caption in parsed for word in caption.stems)
    first = parsed.pop(rng.randrange(min(2, len(parsed))))
    opening = Opening(first)
    sentences = [opening.sentence]
    used = set(first.stems)
    while parsed and len(sentences) < MAX_SENTENCES:
        parsed.sort(key=lambda caption: -sum(frequency[word] for word in caption.stems - used))
        caption = parsed.pop(0)
        if len(caption.stems - used) < max(NEW_WORDS, NEW_FRACTION * len(caption.stems)):
            continue
        following = opening.continued_by(caption, used)
        if following is None or len(" ".join([*sentences, following]).split()) > MAX_WORDS:
            continue
        sentences.append(following)
        used |= caption.stems
    return " ".join(sentences)


class Opening:
    """The first sentence of a paragraph, and the properties of its subject so far."""

    def __init__(self, caption: ParsedCaption) -> None:
        self._subject = caption.subject
        self._mentioned = mentioned(caption.words)
        self._colours = caption.subject.colours if caption.subject else set()
        self._has_company = len(caption.subjects) > 1
        self.sentence = caption.text if self._has_company else _as_sentence(caption) or caption.text

    def continued_by(self, caption: ParsedCaption, used: set[str]) -> str | None:
        """The caption as the next sentence, or None if it contradicts the paragraph or is not a sentence.

        `used` are the stems of the paragraph so far.
        """
        ours, subject = self._subject, caption.subject
        if subject is None or ours is None:
            return caption.text if _is_sentence(caption) else None
        if len(caption.subjects) > 1:
            return caption.text if self._has_company and _is_sentence(caption) else None
        if not self._may_be_same(ours, subject):
            if not self._mentioned.isdisjoint((subject.noun, kind_of(subject.noun))):
                return _with_lead(caption, "The")
            if subject.is_person == ours.is_person and not self._has_company:
                return None
            return _as_sentence(caption)
        if subject.is_plural != ours.is_plural:
            may_be_one_of_them = ours.is_plural and subject.count == 1
            return _with_lead(caption, "One") if may_be_one_of_them else None
        if None not in (subject.count, ours.count) and subject.count != ours.count:
            return None
        colours = subject.colours
        if self._colours and colours and not (self._colours <= colours or colours <= self._colours):
            return None
        self._colours = self._colours | colours
        adds = content_stems((*subject.modifiers, subject.head)) - used - lexicon.VAGUE_HEADS
        pronoun = None if adds or self._has_company else _pronoun(ours, subject)
        return pronoun and _with_pronoun(caption, pronoun) or _with_lead(caption, "The")

    def _may_be_same(self, ours: Subject, other: Subject) -> bool:
        nouns = (ours.noun, other.noun)
        if kind_of(nouns[0]) == kind_of(nouns[1]):
            return True
        if other.noun in self._mentioned:
            return False
        if ours.is_person and other.is_person:
            genders = [(noun in lexicon.MALE) - (noun in lexicon.FEMALE) for noun in nouns]
            young = [noun in lexicon.YOUNG for noun in nouns]
            grown = [gender != 0 and not is_young for gender, is_young in zip(genders, young, strict=True)]
            return genders[0] * genders[1] >= 0 and not (grown[0] and young[1] or young[0] and grown[1])
        return "animal" in nouns and lexicon.ANIMAL_NOUNS.issuperset(nouns)


def _pronoun(subject: Subject, other: Subject) -> str | None:
    nouns = {subject.noun, other.noun}
    if subject.is_plural:
        return "They"
    if nouns & lexicon.MALE:
        return "He"
    if nouns & lexicon.FEMALE:
        return "She"
    return None if subject.is_person else "It"


def _is_finite(word: str, subject: Subject | None) -> bool:
    """Whether `word` is surely a finite verb."""
    if word in lexicon.FINITE_AUXILIARIES or (word in lexicon.SINGULAR_FORMS and word not in lexicon.PLURALS):
        return True
    is_plural = subject is not None and subject.is_plural
    return is_plural and word in lexicon.PLURAL_FORMS and word not in lexicon.NOUNS


def _may_be_finite(word: str, subject: Subject) -> bool:
    if _is_finite(word, subject) or word in lexicon.SINGULAR_FORMS:
        return True
    is_noun = word in lexicon.PLURALS or word in lexicon.NEVER_VERBS or word.endswith("ss")
    return word.endswith("s") and not is_noun or (subject.is_plural and word in lexicon.PLURAL_FORMS)


def _verb_follows(caption: ParsedCaption) -> bool:
    """Whether the word after the subject is surely a finite verb."""
    subject, following = caption.subject, caption.predicate[:1]
    if subject is None or not following:
        return False
    word = following[0]
    if word in lexicon.SINGULAR_FORMS or word in lexicon.PLURAL_FORMS or word in lexicon.FINITE_AUXILIARIES:
        return True
    if word.endswith("ed") and word not in lexicon.PARTICIPLES:
        return True
    return word not in lexicon.PREPOSITIONS and _may_be_finite(word, subject)


def _is_sentence(caption: ParsedCaption) -> bool:
    """Whether there is surely a finite verb: the word after the subject, or a known one further on."""
    return _verb_follows(caption) or any(_is_finite(word, caption.subject) for word in caption.words)


def _is_progressive(word: str) -> bool:
    if word in lexicon.ING_FORMS:
        return True
    is_other = lexicon.NOUNS, lexicon.PREPOSITIONS, lexicon.STOP_WORDS, lexicon.MODIFIERS
    return word.endswith("ing") and not any(word in words for words in is_other)


def _missing_verb(caption: ParsedCaption) -> tuple[int, str] | None:
    """The verb that would make a noun phrase a sentence ("is", "has", ...) and its place, if that is sure."""
    subject, rest = caption.subject, caption.predicate
    if subject is None or not rest or any(_may_be_finite(word, subject) for word in rest):
        return None
    be = "are" if subject.is_plural else "is"
    action = next((at for at, word in enumerate(rest) if _is_progressive(word)), None)
    if action == 0 or rest[0] in lexicon.PARTICIPLES:
        return subject.length, be
    if rest[0] in ("in", "on"):
        # "in a white shirt riding a bike": the verb goes before "riding".
        return subject.length + (action or 0), be
    if rest[0] == "with" and action is None:
        return subject.length, "have" if subject.is_plural else "has"
    return None


def _as_sentence(caption: ParsedCaption) -> str | None:
    """A noun phrase with its article and verb supplied: "Dog running." -> "A dog is running."."""
    subject, line = caption.subject, caption.text
    if subject is None:
        return None
    if missing := _missing_verb(caption):
        line = _insert_verb(line, *missing)
    elif not _is_sentence(caption):
        return None
    if not subject.is_plural and caption.words[0] == (*subject.modifiers, subject.head)[0]:
        phrase = line[0].lower() + line[1:]
        line = f"{lexicon.article_for(phrase).capitalize()} {phrase}"
    return line


def _insert_verb(line: str, at: int, verb: str) -> str:
    head, tail = line[: token_end(line, at)], line[token_end(line, at) :]
    if verb in ("has", "have"):
        tail = re.sub(r"^\s*with\b", "", tail)
    return f"{head} {verb}{tail}"


def _with_lead(caption: ParsedCaption, lead: str) -> str | None:
    """The caption as a sentence whose subject begins with `lead`; numbers stay ("The two dogs")."""
    sentence = _as_sentence(caption)
    if sentence is None or caption.words[0] == "the":
        return sentence
    rest = re.sub(r"^(?:an?|one|some|several|many|this|these|another)\s+", "", sentence, flags=re.IGNORECASE)
    return f"{lead} {rest[0].lower()}{rest[1:]}"


def _with_pronoun(caption: ParsedCaption, pronoun: str) -> str | None:
    """The caption with a pronoun as its subject, or None if no verb would follow it."""
    assert caption.subject is not None
    line, length, missing = caption.text, caption.subject.length, _missing_verb(caption)
    if missing and missing[0] == length:
        line = _insert_verb(line, *missing)
    elif not caption.predicate or caption.predicate[0] in lexicon.PREPOSITIONS or not _verb_follows(caption):
        return None
    return f"{pronoun} {line[token_end(line, length) :].lstrip()}"
