"""CIDEr-D and BLEU of 200 answers with 1,000 captions, as the reference implementation scores them."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from minigpt4.train.evaluate.metrics.bleu import bleu
from minigpt4.train.evaluate.metrics.cider import cider_d
from minigpt4.train.evaluate.metrics.ptb_tokenizer import words

HERE = Path(__file__).parent
REFERENCE: dict[str, Any] = json.loads((HERE / "coco_200_reference.json").read_text("utf-8"))


def test_200_answers_score_as_in_the_reference_implementation() -> None:
    pictures = list(runpy.run_path(str(HERE / "template_captions.py"))["template_captions"]())
    answers = [words(answer) for answer, _ in pictures]
    captions = [[words(one) for one in several] for _, several in pictures]
    assert len(pictures) == len(REFERENCE["each"]) == 200 and {len(several) for several in captions} == {5}
    scores = cider_d(answers, captions)
    assert scores == pytest.approx(REFERENCE["each"], abs=1e-6)
    assert sum(scores) / len(scores) == pytest.approx(REFERENCE["cider_d"], abs=1e-6)
    assert bleu(answers, captions) == pytest.approx(REFERENCE["bleu"], abs=1e-6)
    assert len({round(one, 3) for one in scores}) > 100, "the answers differ"
