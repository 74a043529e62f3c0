from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt4.core.errors import UsageError
from minigpt4.core.language.protocol import ImageEmbedding
from minigpt4.core.prompt import (
    Assistant,
    Image,
    Message,
    Segment,
    SmolLM2,
    System,
    Text,
    User,
    prompt_pieces,
    prompt_positions,
    template_named,
)

PICTURE = ImageEmbedding(np.zeros((3, 2), np.float32), key="a")
OTHER = ImageEmbedding(np.zeros((5, 2), np.float32), key="b")


def written(segments: list[Segment]) -> str:
    return "".join(
        segment.text if isinstance(segment, Text) else f"[{segment.embedding.key}]" for segment in segments
    )


def code_points(text: str, control: bool) -> list[int]:
    """A tokenizer with one token for each character; control text gives negative ones."""
    return [-ord(letter) if control else ord(letter) for letter in text]


def test_a_conversation_is_written_in_the_models_own_chat_form() -> None:
    conversation: list[Message] = [
        System("Be brief."),
        User("What is this?", images=[PICTURE, OTHER]),
        Assistant("A cat."),
        User("Its colour?"),
    ]
    assert written(SmolLM2().segments(conversation)) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\n[a]\n[b]\nWhat is this?<|im_end|>\n"
        "<|im_start|>assistant\nA cat.<|im_end|>\n"
        "<|im_start|>user\nIts colour?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_without_instructions_of_ones_own_the_models_default_ones_stand_first() -> None:
    text = written(SmolLM2().segments([User("Hi")]))
    assert text.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by")


def test_an_answer_at_the_end_is_left_open_to_be_continued() -> None:
    text = written(SmolLM2().segments([User("What is this?"), Assistant("A small")]))
    assert text.endswith("<|im_start|>assistant\nA small")


@given(st.text(), st.text())
def test_what_people_write_never_stands_in_a_control_segment(question: str, answer: str) -> None:
    segments = SmolLM2().segments([User(f"?{question}?"), Assistant(f"!{answer}!"), User("?")])
    spoken = [segment.text for segment in segments if isinstance(segment, Text) and not segment.control]
    assert spoken[1:] == [f"?{question}?", f"!{answer}!", "?"]
    controls = {segment.text for segment in segments if isinstance(segment, Text) and segment.control}
    assert controls <= {
        "<|im_start|>system\n",
        "<|im_start|>user\n",
        "<|im_start|>assistant\n",
        "<|im_end|>\n",
    }


def test_pieces_are_the_segments_in_order_each_tokenised_with_its_own_flag() -> None:
    segments: list[Segment] = [Text("<>", control=True), Image(PICTURE), Text("hi")]
    pieces = prompt_pieces(segments, code_points)
    assert pieces == [-ord("<"), -ord(">"), PICTURE, ord("h"), ord("i")]
    assert prompt_positions(pieces) == 2 + 3 + 2


def test_an_unknown_template_is_named_with_the_known_ones() -> None:
    assert template_named("smollm2") == SmolLM2()
    with pytest.raises(UsageError, match=r"no prompt template 'vicuna'.*smollm2"):
        template_named("vicuna")
