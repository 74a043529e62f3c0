"""Subject rate: how often an answer names something that people see in the photo, too.

An answer counts when it has a content word that at least three of the photo's five human
captions have (of n captions: at least three in five of them). Content words are all words but
`STOP_WORDS`, `COLOURS`, `NUMBERS` and `POSTURES`, with simple plurals folded (`fold`). Synonyms do
not count ("puppy" is not "dog"), so the rate is a lower bound; a photo about which people do not
agree on any word counts against it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from minigpt4.core.errors import DataError
from minigpt4.train.evaluate.ptb_tokenizer import words

AGREEMENT = 3 / 5
"""Share of a photo's captions that must have a word before it is the photo's subject."""


def _listed(text: str) -> frozenset[str]:
    return frozenset(text.split())


STOP_WORDS = _listed(
    """
    a an the this that these those it its itself he him his himself she her hers herself they them
    their theirs themselves we us our you your i me my one ones other others another each both all
    some any many much more most several few lot no not n't nor who whom which what whose where when
    while why how there here
    and or but so as if than then because with without of in into inside on onto upon off at by to
    toward towards from for over under underneath beneath above below through across along around
    about against among between beside behind before after during near next out outside up down away
    past
    is are was were be been being am do does did doing done has have had having can could will would
    shall should may might must seem seems appear appears look looks looking get gets getting go goes
    going make makes making
    's 're 've 'm 'd 'll ca wo
    very just also only too still almost even together apart
    front back top bottom side left right middle center centre edge background foreground distance
    picture photo photograph image view scene shot close-up closeup
    """
)
COLOURS = _listed(
    """
    red orange yellow green blue purple violet pink brown black white grey gray beige tan gold golden
    silver maroon navy teal turquoise colour color colours colors coloured colored colorful colourful
    dark light bright
    """
)
NUMBERS = _listed(
    """
    zero two three four five six seven eight nine ten eleven twelve dozen hundred thousand first second
    third pair couple group single
    """
)
POSTURES = _listed(
    """
    standing stand stands sitting sit sits lying laying lie lies walking walk walks running run runs
    wearing wear wears holding hold holds playing play plays riding ride rides posing pose poses
    taking take takes
    """
)
"""What anybody may be doing: "a man sitting" does not see the sitting cat."""

_NOT_CONTENT = STOP_WORDS | COLOURS | NUMBERS | POSTURES

_ENDINGS = (  # the first that fits; a singular in -ie or -oe meets its plural half-way
    ("ies", "y"),
    ("ie", "y"),
    ("oes", "o"),
    ("oe", "o"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("sses", "ss"),
    ("xes", "x"),
    ("zzes", "zz"),
    ("buses", "bus"),
    ("ss", "ss"),
    ("us", "us"),
    ("is", "is"),
    ("s", ""),
)


def fold(word: str) -> str:
    """Singular and plural (in -s, -es, -ies) of a word as one key: not always a word itself."""
    if len(word) > 2:
        for ending, instead in _ENDINGS:
            if word.endswith(ending):
                return word.removesuffix(ending) + instead
    return word


def content_words(text: str) -> frozenset[str]:
    """The folded content words of a text."""
    return frozenset(
        fold(word)
        for word in words(text)
        if len(word) > 1 and word[0].isalpha() and word not in _NOT_CONTENT and fold(word) not in _NOT_CONTENT
    )


def agreed_words(captions: Sequence[str]) -> frozenset[str]:
    """The content words that enough of a photo's captions share."""
    counts = Counter(word for caption in captions for word in content_words(caption))
    needed = math.ceil(AGREEMENT * len(captions))
    return frozenset(word for word, count in counts.items() if count >= needed)


def names_subject(answer: str, captions: Sequence[str]) -> bool:
    """Whether the answer has one of the photo's agreed content words."""
    return not content_words(answer).isdisjoint(agreed_words(captions))


def subject_rate(answers: Sequence[str], captions: Sequence[Sequence[str]]) -> float:
    """Share, in [0, 1], of the answers that name their photo's subject."""
    if not answers:
        raise DataError("There are no answers to judge; give shards that hold photos with captions.")
    named = sum(names_subject(answer, several) for answer, several in zip(answers, captions, strict=True))
    return named / len(answers)
