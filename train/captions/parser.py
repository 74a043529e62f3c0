"""Parse a short photo caption: its words, its subject, what the subject does, and where.

There is no grammar and no tagger: captions are simple, and `words.toml` lists their vocabulary. A caption
that does not fit is parsed as having no subject, so that nothing is concluded from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from minigpt4.train.captions import lexicon

_TOKEN = re.compile(r"[a-z0-9]+(?:['.-][a-z0-9]+)*'?|,")
_BEINGS = lexicon.PERSON_NOUNS | lexicon.ANIMAL_NOUNS
_IS = ("is", "are")
# A word after a subject's noun that shows where the noun phrase ends.
_FOLLOWERS = (
    lexicon.PREPOSITIONS
    | lexicon.FINITE_AUXILIARIES
    | lexicon.ING_FORMS.keys()
    | lexicon.SINGULAR_FORMS.keys()
    | lexicon.PLURAL_FORMS.keys()
    | {"out", "together"}
)
_TAIL_VOCABULARY = lexicon.TAIL_LINKS | lexicon.MODIFIERS | lexicon.NOUNS
_PLACE_PREPOSITIONS = ("in", "on", "at", "through", "down", "along", "across", "into")
_CLAUSE_STARTS = ("while", "that", "as", "who")


def tokens(text: str) -> list[str]:
    """Lower-case words and commas."""
    return _TOKEN.findall(text.lower().replace("’", "'"))


def token_end(text: str, count: int) -> int:
    """The index in `text` after its first `count` tokens."""
    spans = [match.end() for match in _TOKEN.finditer(text.lower())]
    return spans[count - 1] if count else 0


def singular(word: str) -> str:
    """The singular of a known noun; any other word unchanged, except for a plain final s."""
    if word in lexicon.PLURALS:
        return lexicon.PLURALS[word]
    if word in lexicon.NOUNS or len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    return word[:-1]


def stem(word: str) -> str:
    """One form for the variants in captions of a photo: runs, run, running; dog, dogs; hall, hallway."""
    if word not in lexicon.PLURALS:
        word = lexicon.SINGULAR_FORMS.get(word, word)
    word = lexicon.ING_FORMS[word] if word in lexicon.ING_FORMS else singular(word).removesuffix("'s")
    return lexicon.SYNONYMS.get(word, word)


def content_stems(words: Iterable[str]) -> set[str]:
    """The stems of the words that carry meaning."""
    return {stem(word) for word in words if word not in lexicon.STOP_WORDS and word != ","}


def kind_of(noun: str) -> str:
    """ "dog" for every breed; any other noun itself."""
    return "dog" if noun in lexicon.DOG_NOUNS else noun


@dataclass(frozen=True)
class Subject:
    """The noun phrase that a caption begins with: "Two brown dogs" of "Two brown dogs run."

    `noun` is singular and `head` as written; `modifiers` are the words before it, without the determiner;
    `count` is the stated number (1 for "a"), else None; `length` is its number of tokens;
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
        return self.noun in lexicon.PERSON_NOUNS

    @property
    def colours(self) -> set[str]:
        """{"black", "white"} for "a white and black dog"."""
        return {stem(word) for word in self.modifiers if word in lexicon.COLOURS}


@dataclass(frozen=True)
class Action:
    """A subject's action: `verb` in -ing ("running"), and `tail`, its complement ("through the snow")."""

    verb: str
    tail: tuple[str, ...]


@dataclass(frozen=True)
class ParsedCaption:
    """A caption as a sentence, its words, and its subjects: none if unclear, two for "a man and a dog"."""

    text: str
    words: list[str]
    subjects: tuple[Subject, ...]

    @property
    def subject(self) -> Subject | None:
        """The first subject."""
        return self.subjects[0] if self.subjects else None

    @property
    def predicate(self) -> list[str]:
        """The words after the first subject; all words if there is none."""
        return self.words[self.subjects[0].length :] if self.subjects else self.words

    @cached_property
    def stems(self) -> set[str]:
        """The content stems of its words."""
        return content_stems(self.words)

    @property
    def action(self) -> Action | None:
        """The subjects' first action: "runs", "is running", "running".

        It stands right after them, or else at the first "is" or "are" followed by an -ing form, as in
        "a man in a red shirt is riding a bike".
        """
        if not self.subjects:
            return None
        words = self.words
        begin = at = sum(subject.length for subject in self.subjects) + len(self.subjects) - 1
        if words[at : at + 1] in (["who"], ["that"]) and words[at + 1 : at + 2] in (["is"], ["are"]):
            at += 1
        if at < len(words) and words[at] in _IS:
            at += 1
        is_plural = self.subjects[0].is_plural or len(self.subjects) > 1
        finite = lexicon.PLURAL_FORMS if is_plural else lexicon.SINGULAR_FORMS
        verb = None
        if at < len(words):
            verb = words[at] if words[at] in lexicon.ING_FORMS else finite.get(words[at])
        if verb is None:
            for at in range(begin, len(words)):
                if words[at] in lexicon.ING_FORMS and words[at - 1] in _IS:
                    verb = words[at]
                    break
            else:
                return None
        return Action(lexicon.SAME_ACTION.get(verb, verb), _verb_tail(words[at + 1 :]))

    @property
    def places(self) -> dict[str, str]:
        """Places of its subject: {"snow": "in the snow", "beach": "on the beach"}.

        Up to the next being, which may be elsewhere: "a man watches a dog in the water".
        """
        places: dict[str, str] = {}
        if not self.subjects:
            return places
        for at, word in enumerate(self.words[:-1]):
            if at > self.subjects[0].length and (singular(word) in _BEINGS or word in _CLAUSE_STARTS):
                break
            if word in _PLACE_PREPOSITIONS and (noun := _place_noun(self.words[at + 1 :])):
                places[noun] = f"{'on' if noun in lexicon.ON_PLACES else 'in'} the {noun}"
        return places


def parse(text: str) -> ParsedCaption:
    """Parse a caption."""
    words = tokens(text)
    first = _subject_at(words, 0)
    if first is None:
        return ParsedCaption(text, words, ())
    is_pair = words[first.length : first.length + 1] == ["and"]
    second = _subject_at(words, first.length + 1) if is_pair else None
    # "A black dog and cat food" has no second subject: it must be a being.
    if second is None or second.noun not in _BEINGS:
        return ParsedCaption(text, words, (first,))
    return ParsedCaption(text, words, (first, second))


def mentioned(words: Sequence[str]) -> set[str]:
    """Every word, its singular and its parts, for checking whether a thing was mentioned at all."""
    return {*words, *map(singular, words), *(part for word in words for part in word.split("-"))}


def _subject_at(words: list[str], start: int) -> Subject | None:
    """The subject noun phrase beginning at token `start`, or None if it is unclear."""
    at = start
    count: int | None = None
    while at < len(words) and words[at] in lexicon.DETERMINERS:
        count = 1 if words[at] in ("a", "an") else lexicon.NUMBERS.get(words[at], count)
        at += 1
    is_group = "of" in words[at + 1 : at + 3]
    if is_group and (words[at] in lexicon.GROUP_NOUNS or words[at] in ("large", "small")):
        of = words.index("of", at)
        members = _subject_at(words, of + 1)
        if members is None or not members.is_plural:
            return None
        group = words[of - 1]
        count = members.count or (2 if group in ("couple", "pair") else None)
        length = of + 1 + members.length - start
        return Subject(members.noun, members.head, members.modifiers, True, count, length, group)
    end = _noun_run_end(words, at)
    last = max((i for i in range(at, end) if singular(words[i]) in lexicon.SUBJECT_NOUNS), default=None)
    if last is None or not _may_follow_subject(words[last + 1 : last + 2]):
        return None
    head, noun = words[last], singular(words[last])
    is_plural = head in lexicon.PLURALS and head != noun or (count or 0) > 1
    return Subject(noun, head, tuple(words[at:last]), is_plural, count, last + 1 - start)


def _noun_run_end(words: list[str], start: int) -> int:
    """The end of the run of modifiers and subject nouns beginning at `start`."""
    for at in range(start, len(words)):
        word = words[at]
        if word not in lexicon.MODIFIERS and word not in lexicon.PLURALS:
            before = words[at - 1] if at > start else ""
            after = words[at + 1] if at + 1 < len(words) else ""
            joins_colours = word == "and" and before in lexicon.COLOURS and after in lexicon.COLOURS
            is_adjective = before in lexicon.MODIFIERS and before not in lexicon.SUBJECT_NOUNS
            if not joins_colours and not (word == "," and is_adjective and after in lexicon.MODIFIERS):
                return at
        # A plural noun ends a phrase: "dogs run" must not continue to the next noun.
        if lexicon.PLURALS.get(word) in lexicon.SUBJECT_NOUNS:
            return at + 1
    return len(words)


def _may_follow_subject(following: list[str]) -> bool:
    if not following:
        return True
    word = following[0]
    is_inflected = word.endswith(("ing", "ed", "s")) and word not in lexicon.NOUNS
    return is_inflected or word in _FOLLOWERS


def _verb_tail(words: list[str]) -> tuple[str, ...]:
    """A verb's complement up to its first noun: "through the snow", "a bike"; () if that is not clear."""
    for end, (word, after) in enumerate(pairwise([*words, ","][:6]), start=1):
        if end == 1 and word in ("in", "with"):
            continue
        if word in lexicon.TAIL_STOPS or word in lexicon.ING_FORMS and word not in lexicon.MODIFIERS:
            break
        if word in lexicon.NOUNS and (after in lexicon.PREPOSITIONS or after in lexicon.ING_FORMS):
            return tuple(words[:end])
        if word not in _TAIL_VOCABULARY:
            break
    return ()


def _place_noun(words: list[str]) -> str | None:
    """The place named by one of the first four words, before the next phrase begins."""
    for word, after in pairwise([*words, ""][:5]):
        if word in lexicon.PREPOSITIONS or word in lexicon.ING_FORMS and word not in lexicon.MODIFIERS:
            break
        if singular(word) in lexicon.PLACE_NOUNS and after not in lexicon.NOUNS:
            return singular(word)
    return None
