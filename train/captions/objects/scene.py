"""What is known about a photo's objects: present, absent or uncertain, and how many there are.

Objects come from people (true boxes, score 1) or from a detector, whose low-scoring boxes are ignored.
Captions overrule a detector: a thing that they name is never denied, one that they contradict is not taught.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

from minigpt4.core.vision.objects import COUNTED_SCORE
from minigpt4.train.captions import lexicon
from minigpt4.train.captions.objects.nouns import MANY
from minigpt4.train.captions.parser import ParsedCaption, mentioned, parse, singular
from minigpt4.train.evaluate.metrics.chair import ANIMALS, coco_kinds, kind_of, objects_named

Box = tuple[float, float, float, float]

LEAST_AREA = 0.003
"""Fraction of the picture: a detector of 300 x 300 pixels cannot see objects below 16 x 16 pixels."""

OVERLAP = 0.6
"""Two detected boxes that share this fraction of the smaller one may be the same thing."""

WHOLE, GONE = 0.7, 0.03
"""Fractions of an object's box: in a crop with more than WHOLE it is there, with less than GONE it is not."""

CUT_SCORE = 0.4
"""The score of an object that a crop cuts: neither present nor absent."""

AGREEING = 0.5
"""The fraction of captions that must name something to overrule a detector."""

VEHICLES = ("bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat")
CONFUSED = (
    ANIMALS,
    ("car", "truck", "bus", "train"),
    ("bicycle", "motorcycle"),
    ("airplane", "kite"),
    ("boat", "surfboard"),
    ("skis", "snowboard", "skateboard", "surfboard"),
    ("frisbee", "sports ball", "kite"),
    ("baseball bat", "tennis racket"),
    ("fork", "knife", "spoon"),
    ("couch", "bed", "chair", "bench"),
    ("bottle", "cup", "wine glass", "vase"),
    ("tv", "laptop"),
    ("sandwich", "hot dog", "pizza", "cake", "donut"),
    ("banana", "apple", "orange"),
    ("suitcase", "backpack", "handbag"),
    ("microwave", "oven", "toaster", "refrigerator"),
)
"""Kinds that detectors confuse with each other."""

_NEGATED = re.compile(r"\b(?:no|without|not)\s+(?:an?\s+|any\s+)?((?:[\w-]+\s?){1,3})", re.IGNORECASE)


@dataclass(frozen=True)
class SceneObject:
    """An object: label, box as fractions of the picture (left, top, right, bottom), and a detector's score.

    A score of 1 marks a box drawn by people. A crowd is a group whose members nobody counted.
    """

    label: str
    box: Box | None
    score: float = 1.0
    is_crowd: bool = False

    @property
    def area(self) -> float:
        """Fraction of the picture; 0 without a box."""
        return _area(self.box) if self.box else 0.0


@dataclass(frozen=True)
class Certainty:
    """Score thresholds: a detected object is present from `present` on, and ignored up to `absent`."""

    present: float = 0.6
    absent: float = 0.15


@dataclass(frozen=True)
class Scene:
    """The objects of one photo.

    `things` maps each kind that is surely present to its boxes, the largest first. `numbers` has the kinds
    whose number is certain. `open` kinds may or may not be present; all others are absent, as far as
    somebody looked for them. `seen` are all kinds detected at all. `stated` are the numbers that captions
    begin with, 0 for several.
    """

    things: Mapping[str, tuple[SceneObject, ...]]
    numbers: Mapping[str, int]
    open: frozenset[str]
    seen: frozenset[str]
    stated: Mapping[str, int]
    parsed: tuple[ParsedCaption, ...] = ()

    @classmethod
    def of(
        cls,
        objects: Iterable[SceneObject],
        captions: Sequence[str] = (),
        certainty: Certainty = Certainty(),
        counted: Mapping[str, int] | None = None,
    ) -> Scene:
        """The scene of a photo with these objects, and with people's captions if there are some.

        `counted` overrides the number of each kind.
        """
        sure: dict[str, list[SceneObject]] = {}
        doubtful: dict[str, list[SceneObject]] = {}
        for one in objects:
            if one.score > certainty.absent:
                is_sure = one.score >= certainty.present and (one.box is None or one.area >= LEAST_AREA)
                (sure if is_sure else doubtful).setdefault(kind_of(one.label), []).append(one)
        said = _Said.of(captions)
        wrong = {kind for kind in sure if said.denies(kind, sure)}
        things = {
            kind: tuple(sorted(found, key=lambda one: -one.area))
            for kind, found in sorted(sure.items(), key=lambda item: -sum(one.area for one in item[1]))
            if kind not in wrong
        }
        numbers = {
            kind: len(found)
            for kind, found in things.items()
            if said.allows(kind, len(found))
            and _is_complete(found, doubtful.get(kind, ()), said.numbers(kind))
        }
        if counted:
            numbers = {kind: counted[kind] for kind in things if kind in counted}
        unsure = (doubtful.keys() | said.kinds.keys() | wrong | said.negated) - things.keys()
        if said.hints_at_people and "person" not in things:
            unsure.add("person")
        stated = {kind: number for kind in things if (number := said.number(kind)) is not None}
        seen = frozenset(sure.keys() | doubtful.keys())
        return cls(things, numbers, frozenset(unsure), seen, stated, said.parsed)

    @property
    def captions(self) -> list[str]:
        """The captions."""
        return [one.text for one in self.parsed]

    @cached_property
    def words(self) -> set[str]:
        """Every word of the captions, and its singular."""
        return mentioned([word for one in self.parsed for word in one.words])

    def is_absent(self, kind: str) -> bool:
        """Whether it is sure that no such thing is there, if somebody looked for it."""
        return kind not in self.things and kind not in self.open

    def denies(self, answer: str) -> bool:
        """Whether an answer of "No, there is no ..." names something that may well be there."""
        return answer.startswith("No,") and not all(map(self.is_absent, objects_named(answer)))


def in_crop(objects: Iterable[SceneObject], crop: Box, *, is_flipped: bool) -> list[SceneObject]:
    """Objects of a whole photo as a crop of it shows them, in fractions of the crop.

    Objects of which it shows too little are dropped, and those that it cuts become doubtful.
    """
    found = []
    left, top, right, bottom = crop
    for one in objects:
        if one.box is None:
            found.append(replace(one, score=min(one.score, CUT_SCORE)))
            continue
        cut = (
            max(one.box[0], left),
            max(one.box[1], top),
            min(one.box[2], right),
            min(one.box[3], bottom),
        )
        visible = _area(cut) / one.area if one.area else 0.0
        if visible < GONE:
            continue
        wide, high = right - left, bottom - top
        x1, x2 = (cut[0] - left) / wide, (cut[2] - left) / wide
        x1, x2 = (1 - x2, 1 - x1) if is_flipped else (x1, x2)
        box = (x1, (cut[1] - top) / high, x2, (cut[3] - top) / high)
        found.append(
            replace(one, box=box, score=one.score if visible >= WHOLE else min(one.score, CUT_SCORE))
        )
    return found


def _area(box: Box) -> float:
    left, top, right, bottom = box
    return max(right - left, 0.0) * max(bottom - top, 0.0)


def _is_complete(found: Sequence[SceneObject], others: Sequence[SceneObject], stated: Counter[int]) -> bool:
    """Whether the sure boxes of a kind are complete: no doubtful ones, no crowd, no duplicates.

    From MANY on, one more would not matter; and captions that state the same number settle it.
    """
    if any(one.is_crowd for one in (*found, *others)):
        return False
    if len(found) >= MANY or stated[len(found)]:
        return True
    # The object vectors count boxes from the same score on, so that a number that is taught matches theirs.
    return not any(one.score >= COUNTED_SCORE for one in others) and not any(
        _may_be_same(one, other) for one, other in combinations(found, 2)
    )


def _may_be_same(one: SceneObject, other: SceneObject) -> bool:
    if min(one.score, other.score) >= 1 or not (one.box and other.box):
        return False
    shared = (
        max(one.box[0], other.box[0]),
        max(one.box[1], other.box[1]),
        min(one.box[2], other.box[2]),
        min(one.box[3], other.box[3]),
    )
    return _area(shared) >= OVERLAP * min(one.area, other.area)


@dataclass(frozen=True)
class _Said:
    """What captions say of objects: how many captions name each kind, and which kinds they negate."""

    parsed: tuple[ParsedCaption, ...]
    kinds: Counter[str]
    negated: frozenset[str]
    other_animals: int
    """Captions with an animal that is not one of COCO's, such as a camel."""

    @classmethod
    def of(cls, captions: Sequence[str]) -> _Said:
        kinds: Counter[str] = Counter()
        negated: set[str] = set()
        others = 0
        parsed = tuple(map(parse, captions))
        for caption in parsed:
            for match in _NEGATED.finditer(caption.text):
                negated.update(objects_named(match[1])[:1])
            named = set(objects_named(_NEGATED.sub(" ", caption.text)))
            kinds.update(named | {kind for word in caption.words if (kind := _breed(word))})
            others += any(_is_other_animal(word) for word in caption.words)
        return cls(parsed, kinds, frozenset(negated - kinds.keys()), others)

    @cached_property
    def _stated(self) -> dict[str, Counter[int]]:
        """By kind, the numbers that captions begin with: 0 for a plural without a number."""
        found: dict[str, Counter[int]] = {}
        for caption in self.parsed:
            named = Counter(objects_named(caption.text))
            numbers: dict[str, list[int]] = {}
            for subject in caption.subjects:
                if subject.count is None and not subject.is_plural:
                    numbers.setdefault(kind_of(subject.noun), []).append(-1)
                else:
                    numbers.setdefault(kind_of(subject.noun), []).append(subject.count or 0)
            for kind, parts in numbers.items():
                # "A man talks to a woman" states no number of people; "the dog" states none of dogs.
                if named[kind] == len(parts) and -1 not in parts:
                    found.setdefault(kind, Counter())[sum(parts) if 0 not in parts else 0] += 1
        return found

    @property
    def hints_at_people(self) -> bool:
        """Whether a word such as `his` or `rider` suggests that somebody is in view."""
        signs = lexicon.PERSON_SIGNS | lexicon.PERSON_NOUNS
        return any(not signs.isdisjoint(mentioned(caption.words)) for caption in self.parsed)

    def numbers(self, kind: str) -> Counter[int]:
        """The numbers that captions state of a kind."""
        return self._stated.get(kind, Counter())

    def number(self, kind: str) -> int | None:
        """The number that most captions state, 0 for several; None if none does."""
        stated = self.numbers(kind)
        return max(stated, key=lambda number: (stated[number], number != 0)) if stated else None

    def allows(self, kind: str, number: int) -> bool:
        """Whether the number is the one that most captions state, if any states one."""
        most = self.number(kind)
        return most is None or number == most or (most == 0 and number > 1) or number >= MANY <= most

    def denies(self, kind: str, detected: Collection[str]) -> bool:
        """Whether captions contradict a detection: they negate it, or name a similar, undetected kind."""
        if kind in self.negated:
            return True
        if kind in self.kinds or not self.parsed:
            return False
        needed = max(1, AGREEING * len(self.parsed))
        if kind in ANIMALS and self.other_animals >= needed:
            return True
        return any(
            other not in detected and self.kinds[other] >= needed
            for like in CONFUSED
            if kind in like
            for other in like
            if other != kind
        )


def _is_other_animal(word: str) -> bool:
    noun = singular(word)
    return noun in lexicon.ANIMAL_NOUNS and not _breed(noun) and kind_of(noun) not in coco_kinds()


def _breed(word: str) -> str:
    """ "dog" for a dalmatian, which the table of COCO's kinds lacks; "" for any other word."""
    noun = singular(word)
    return "dog" if noun in lexicon.DOG_NOUNS else "bird" if noun in lexicon.BIRD_NOUNS else ""
