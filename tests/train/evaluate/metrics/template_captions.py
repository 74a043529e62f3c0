"""200 invented pictures with five captions and an answer each; run as a program, their reference scores.

The reference implementation is a dependency of nobody. To make coco_200_reference.json anew, unpack
pycocoevalcap 1.2 (`pip download --no-deps pycocoevalcap==1.2`) and run, with its folder in PYTHONPATH,

    python template_captions.py > coco_200_reference.json

Only its `bleu` and `cider` are run, on our tokens, which the tokenizer's own test compares with its Java.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from hashlib import sha256

PICTURES, CAPTIONS = 200, 5
WHO = (
    "a man",
    "a young woman",
    "two children",
    "a brown dog",
    "a small cat",
    "three birds",
    "the old farmer",
)
DOES = (
    "is running",
    "stands",
    "sits quietly",
    "is playing with a ball",
    "jumps high",
    "looks around",
    "sleeps",
)
WHERE = (
    "on the grass",
    "in a park",
    "near the river",
    "on a red sofa",
    "beside a parked car",
    "at the beach",
)
MORE = ("", " while it rains", " in the evening sun", " and nobody else is there", " under a cloudy sky")
FORMS = ("{who} {does} {where}{more}.", "{where}, {who} {does}{more}.", "There is {who} that {does} {where}.")


def template_captions() -> Iterator[tuple[str, list[str]]]:
    """An answer and the captions of each picture, the same ones always: Python's generator may change."""
    for picture in range(PICTURES):
        subject = _drawn(WHO, f"subject {picture}")
        place = _drawn(WHERE, f"place {picture}")
        texts = [_sentence(f"{picture}, {number}", subject, place) for number in range(CAPTIONS + 1)]
        yield texts[0], texts[1:]


def _sentence(name: str, subject: str, place: str) -> str:
    """Four in five name the picture's own subject and place; the lengths differ."""
    who = _drawn((subject,) * 4 + (_drawn(WHO, f"who {name}"),), f"same who {name}")
    where = _drawn((place,) * 4 + (_drawn(WHERE, f"where {name}"),), f"same where {name}")
    does, more = _drawn(DOES, f"does {name}"), _drawn(MORE, f"more {name}")
    return _drawn(FORMS, f"form {name}").format(who=who, where=where, does=does, more=more)


def _drawn(texts: Sequence[str], name: str) -> str:
    return texts[int.from_bytes(sha256(name.encode()).digest()[:8]) % len(texts)]


def main() -> None:
    """Print the reference scores as JSON."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider

    from minigpt4.train.evaluate.metrics.ptb_tokenizer import words

    pictures = list(template_captions())
    answers = {n: [" ".join(words(answer))] for n, (answer, _) in enumerate(pictures)}
    captions = {n: [" ".join(words(one)) for one in several] for n, (_, several) in enumerate(pictures)}
    bleu, _ = Bleu(4).compute_score(captions, answers, verbose=0)
    cider, each = Cider().compute_score(captions, answers)
    record = {
        "made_by": "pycocoevalcap 1.2: Cider, Bleu(4) on the captions of template_captions.py",
        "bleu": bleu,
        "cider_d": float(cider),
        "each": [float(one) for one in each],
    }
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
