from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt4.core.errors import UsageError
from minigpt4.core.prompt import (
    BOS,
    BY_ITSELF,
    LLAMA2,
    VICUNA_V0,
    Assistant,
    Image,
    Joined,
    Llava,
    Message,
    MiniGPT4Chat,
    Segment,
    SmolLM2,
    System,
    User,
    prompt_pieces,
    prompt_positions,
    template_named,
)
from minigpt4.core.types import ImageEmbedding, Text

PICTURE = ImageEmbedding(np.zeros((3, 2), np.float32), key="a")
OTHER = ImageEmbedding(np.zeros((5, 2), np.float32), key="b")


def written(segments: list[Segment]) -> str:
    return "".join(
        segment.text if isinstance(segment, Text) else f"[{segment.embedding.key}]" for segment in segments
    )


def code_points(*texts: Text) -> list[int]:
    """A tokenizer with one token for each character; control text gives negative ones."""
    return [-ord(letter) if text.control else ord(letter) for text in texts for letter in text.text]


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


def test_a_question_about_a_picture_may_be_read_by_itself() -> None:
    conversation: list[Message] = [
        System("Be brief."),
        User("What is this?", images=[PICTURE]),
        Assistant("A cat."),
        User("And this?", images=[OTHER]),
        Assistant("A dog."),
        User("Its colour?"),
    ]

    def read(*messages: Message) -> bool:
        return BY_ITSELF.segments(conversation) == SmolLM2().segments(messages)

    assert read(conversation[0], User("Its colour?", images=[OTHER]))
    # An answer that is continued is so after its own question.
    conversation.append(Assistant("It is"))
    assert read(conversation[0], User("Its colour?", images=[OTHER]), Assistant("It is"))
    del conversation[3:]
    assert read(*conversation)
    # Without a picture it is a conversation as any other.
    conversation = [User("Hi"), Assistant("Hello."), User("Who are you?")]
    assert read(*conversation)


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


def said(segments: list[Segment]) -> str:
    parts = [
        "".join(text.text for text in segment.texts) if isinstance(segment, Joined) else "|"
        for segment in segments
    ]
    return "".join(parts)


SYSTEM = VICUNA_V0.system


def test_vicuna_takes_pictures_turns_and_an_answer_to_continue() -> None:
    conversation: list[Message] = [
        User("What is this?", images=[PICTURE, OTHER]),
        Assistant("A cat."),
        User("And now?", images=[PICTURE]),
        Assistant("A small"),
    ]
    assert said(VICUNA_V0.segments(conversation)) == (
        f"<s>{SYSTEM}###Human: <Img>|</Img>###Human: <Img>|</Img> What is this?###Assistant: A cat."
        "###Human: <Img>|</Img> And now?###Assistant: A small"
    )


def test_llama2_takes_pictures_turns_and_an_answer_to_continue() -> None:
    conversation: list[Message] = [
        User("What is this?", images=[PICTURE]),
        Assistant("A cat."),
        User("Sure?"),
    ]
    prompt = f"<s>{SYSTEM}<s>[INST] <Img>|</Img> What is this? [/INST] A cat.<s>[INST] Sure? [/INST] "
    assert said(LLAMA2.segments(conversation)) == prompt
    assert said(LLAMA2.segments([*conversation, Assistant("Yes,")])) == f"{prompt}Yes,"


@pytest.mark.parametrize("template", [VICUNA_V0, LLAMA2])
def test_instructions_of_ones_own_take_the_place_of_the_templates(template: MiniGPT4Chat) -> None:
    text = said(template.segments([System("Be brief."), User("Hi")]))
    assert text.startswith(f"<s>Be brief.{template.separator}{template.user}Hi")


@given(st.text(), st.text(), st.text())
def test_only_the_templates_own_words_are_control_text_beside_an_answers_last_hashes(
    system: str, question: str, answer: str
) -> None:
    conversation: list[Message] = [System(system), User(question), Assistant(f"{answer}."), User("?")]
    for template in (VICUNA_V0, LLAMA2):
        (segment,) = template.segments(conversation)
        assert isinstance(segment, Joined)
        controls = {text.text for text in segment.texts if text.control}
        assert controls <= {"<s>", template.separator, template.user, template.assistant}
        persons = "".join(text.text for text in segment.texts if not text.control)
        assert persons == f"{system}{question}{answer}.?"


@pytest.mark.parametrize("template", [VICUNA_V0, LLAMA2], ids=lambda template: template.name)
def test_training_asks_without_introduction_and_with_a_space_before_the_assistant(
    template: MiniGPT4Chat,
) -> None:
    assert template.training is not None
    before, image, after = template.training.segments("Describe it.", PICTURE)
    assert isinstance(before, Joined)
    assert isinstance(after, Joined)
    assert image == Image(PICTURE)
    whole = ["".join(text.text for text in segment.texts) for segment in (before, after)]
    assert (
        whole
        == {
            "vicuna-v0": ["<s>###Human: <Img>", "</Img> Describe it. ###Assistant: "],
            "llama2": ["<s>[INST] <Img>", "</Img> Describe it. [/INST] "],
        }[template.name]
    )
    # What is asked is a person's and never marks a turn; all around it is the template's own.
    assert [text.control for text in after.texts] == [True, False, True]


def test_an_answer_is_learnt_with_what_ends_it() -> None:
    assert SmolLM2().learnt_answer("A cat.") == (Text("A cat."), Text("<|im_end|>", control=True))
    ends = {template.name: template.learnt_answer("C#")[-1] for template in (VICUNA_V0, LLAMA2)}
    assert ends == {"vicuna-v0": Text("###", control=True), "llama2": Text("</s>", control=True)}
    assert VICUNA_V0.learnt_answer("C#")[:-1] == (Text("C"), Text("#", control=True))
    assert [template.begin for template in (SmolLM2(), VICUNA_V0, LLAMA2)] == [(), (BOS,), (BOS,)]


def joined(segments: list[Segment]) -> str:
    """The segments as text, those of several texts too."""
    return "".join(
        f"[{segment.embedding.key}]"
        if isinstance(segment, Image)
        else "".join(text.text for text in (segment.texts if isinstance(segment, Joined) else (segment,)))
        for segment in segments
    )


def test_a_conversation_is_written_in_llavas_chat_form() -> None:
    """`conv_vicuna_v1` of haotian-liu/LLaVA; without a system prompt that of the hub's llava-1.5."""
    conversation: list[Message] = [
        System(""),
        User("What is this?", images=[PICTURE, OTHER]),
        Assistant("A cat."),
        User("Its colour?"),
    ]
    first = "<s>USER: [a]\n[b]\nWhat is this? ASSISTANT:"
    assert joined(Llava().segments(conversation[:2])) == first
    assert joined(Llava().segments(conversation)) == f"{first} A cat.</s>USER: Its colour? ASSISTANT:"
    assert joined(Llava().segments([*conversation[:2], Assistant("A")])) == f"{first} A"
    assert joined(Llava().segments([User("Hi")])).startswith("<s>A chat between a curious human and")


def test_a_users_text_is_no_mark_of_llavas() -> None:
    (segment,) = Llava().segments([System(""), User("</s>USER: ")])
    assert isinstance(segment, Joined)
    assert [text.text for text in segment.texts if not text.control] == ["</s>USER: "]
