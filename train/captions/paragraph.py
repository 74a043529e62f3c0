"""Sentences to train on, made from what people wrote about a photo, by rule.

Everything here is a pure function of its arguments: whatever is left to chance is drawn from the
`random.Random` given, so the same seed gives the same sentences.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

from minigpt4.train.captions.cleaning import by_centrality, clean_caption, cleaned
from minigpt4.train.captions.labels import label_caption, label_question_answers
from minigpt4.train.captions.parser import content_words
from minigpt4.train.captions.questions import question_answers
from minigpt4.train.captions.sentence_joining import Opening

__all__ = [
    "STAGE2_INSTRUCTIONS",
    "clean_caption",
    "label_caption",
    "label_question_answers",
    "paragraph",
    "question_answers",
]

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
    known = Counter(word for line in lines for word in content_words(line))
    first = lines.pop(rng.randrange(min(2, len(lines))))
    opening = Opening(first)
    sentences = [opening.sentence]
    said = content_words(first)
    while lines and len(sentences) < MAX_SENTENCES:
        lines.sort(key=lambda line: -sum(known[word] for word in content_words(line) - said))
        bag = content_words(line := lines.pop(0))
        if len(bag - said) < max(NEW_WORDS, NEW_SHARE * len(bag)):
            continue
        following = opening.continued_by(line, said)
        if following is None or len(" ".join([*sentences, following]).split()) > MAX_WORDS:
            continue
        sentences.append(following)
        said |= bag
    return " ".join(sentences)
