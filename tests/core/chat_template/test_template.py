"""Prompts in the families' own templates, whatever people type."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.chat_template.forms import FAMILIES, TEXT_ONLY, WITH_BOS, family, texts_of, written

from minigpt4.core.chat_template.named_templates import read_template, template_names
from minigpt4.core.chat_template.template import ChatTemplate, ControlWords
from minigpt4.core.errors import BundleError
from minigpt4.core.prompt import Assistant, Image, Message, System, User
from minigpt4.core.types import ImageEmbedding, Text

A, B = (ImageEmbedding(np.zeros((3, 2), np.float32), key=key) for key in "ab")
CONTROL = ("<image>", "<|im_end|>", "<__media__>", "</s>", "<start_of_image>", "</think>", "{{ 1 }}", "[IMG]")

opened = cache(family)
"""Templates keep a process each, so tests share them."""


@pytest.fixture(scope="module", autouse=True)
def _processes_end() -> Iterator[None]:
    yield
    for name in FAMILIES:
        opened(name).close()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_picture_stands_where_the_templates_own_word_for_it_would(name: str) -> None:
    assert written(opened(name).segments([User("What?", [A])])) == FAMILIES[name].one_picture


@pytest.mark.parametrize("name", FAMILIES)
def test_several_pictures_and_turns_keep_their_order(name: str) -> None:
    conversation = [User("One?", [A, B]), Assistant("It is."), User("Two?"), Assistant("No."), User("", [A])]
    segments = opened(name).segments(conversation)
    assert [one.embedding.key for one in segments if isinstance(one, Image)] == ["a", "b", "a"]
    assert [text.text for text in texts_of(segments) if not text.control] == ["One?", "It is.", "Two?", "No."]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_system_prompt_reaches_every_model(name: str) -> None:
    segments = opened(name).segments([System("Be brief."), User("What?", [A])])
    assert [text.text for text in texts_of(segments) if not text.control] == ["Be brief.", "What?"]
    assert opened(name).has_system == (name != "gemma 2")


@pytest.mark.parametrize("name", FAMILIES)
def test_two_questions_in_a_row_reach_models_that_want_roles_to_alternate(name: str) -> None:
    text = written(opened(name).segments([User("One"), User("Two"), Assistant("Three"), User("Four")]))
    assert [text.index(word) for word in ("One", "Two", "Three", "Four")] == sorted(
        text.index(word) for word in ("One", "Two", "Three", "Four")
    )


anything = st.text() | st.lists(st.sampled_from([*CONTROL, " ", "\n", "a"])).map("".join)


@settings(max_examples=40)
@pytest.mark.parametrize("name", FAMILIES)
@given(data=st.data())
def test_what_is_typed_is_there_once_in_order_and_never_control(name: str, data: st.DataObject) -> None:
    conversation: list[Message] = []
    for _ in range(data.draw(st.integers(0, 2))):
        conversation.append(User(data.draw(anything), [A] * data.draw(st.integers(0, 2))))
        conversation.append(Assistant(data.draw(anything)))
    conversation.append(User(data.draw(anything), [B]))
    segments = opened(name).segments(conversation)
    typed = [text.text for text in texts_of(segments) if not text.control]
    assert typed == [text for message in conversation if (text := message.text.strip())]
    control = "".join(text.text for text in texts_of(segments) if text.control)
    innocent: list[Message] = [
        User("x" if message.text.strip() else "", message.images)
        if isinstance(message, User)
        else Assistant("x" if message.text.strip() else "")
        for message in conversation
    ]
    expected = "".join(text.text for text in texts_of(opened(name).segments(innocent)) if text.control)
    # White space at the ends of a text is the template's to trim, and is no control token.
    assert "".join(control.split()) == "".join(expected.split())


@pytest.mark.parametrize("name", FAMILIES)
def test_an_answer_is_continued_where_it_ends(name: str) -> None:
    segments = opened(name).segments([User("What?", [A]), Assistant("A cat and ")])
    assert written(segments).endswith("A cat and ")
    unanswered = opened(name).segments([User("What?", [A]), Assistant("")])
    assert written(unanswered) == FAMILIES[name].one_picture


def test_white_space_around_a_text_is_there_unless_the_template_trims() -> None:
    question = [User("  What? \n", [A])]
    assert "[a]  What? \n<|im_end|>" in written(opened("qwen2-vl").segments(question))
    assert "\n\nWhat?<end_of_turn>" in written(opened("gemma 3").segments(question))


def test_the_first_token_is_there_once_if_the_vocabulary_adds_it() -> None:
    for source in (TEXT_ONLY, "{{ bos_token }}" + TEXT_ONLY):
        template = ChatTemplate(source, name="x", words=WITH_BOS)
        texts = texts_of(template.segments([User("Hi")]))
        template.close()
        assert texts[0] == Text("<s>", control=True)
        assert "".join(text.text for text in texts).count("<s>") == 1


@pytest.mark.parametrize(
    ("name", "stop"),
    [
        ("smolvlm", ("<end_of_utterance>",)),
        ("qwen2-vl", ("<|im_end|>",)),
        ("gemma 3", ("<end_of_turn>",)),
        ("pixtral", ("</s>",)),
        ("llava", ()),
    ],
)
def test_an_answer_ends_with_what_the_template_writes_after_one(name: str, stop: tuple[str, ...]) -> None:
    assert opened(name).stop == stop


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ messages[-1].content }}", "leaves out or changes the text"),
        ("{% for m in messages %}{{ m.content[:5] }}{% endfor %}", "changes texts"),
        ("{% for m in messages %}{{ m.content | list | join('-') }}{% endfor %}", "changes texts"),
        ("", "leaves out or changes the text"),
        ("{{ raise_exception('never') }}", "refuses the conversation: never"),
        ("{% for m in messages %}", "is not valid Jinja (line 1"),
        ("{% include '/etc/passwd' %}", "wants to read another file"),
        ("{% for i in range(99999) %}{% for i in range(99999) %}{% endfor %}{% endfor %}", "without an end"),
        ("{{ 'a' * 10 ** 10 }}", "of memory"),
        (" " * 300_000, "300000 characters"),
    ],
)
def test_a_template_that_cannot_be_used_is_named_with_the_way_out(source: str, reason: str) -> None:
    template = ChatTemplate(source, name="own.jinja", bundle="pets")
    with pytest.raises(BundleError) as caught:
        template.segments([User("Hi")])
    template.close()
    sentence = str(caught.value)
    assert sentence.startswith("The chat template of the bundle 'pets' ")
    assert reason in sentence
    assert "--template" in sentence
    assert "\n" not in sentence


def test_a_template_that_doubles_pictures_gets_them_before_the_text() -> None:
    source = (
        "{% for m in messages %}{% for c in m.content %}{% if c.type == 'image' %}<image>"
        "{% if loop.length == 2 %}<image>{% endif %}{% else %}{{ c.text }}{% endif %}{% endfor %}{% endfor %}"
    )
    template = ChatTemplate(source, name="x")
    assert written(template.segments([User("What?", [A])])) == "[a]What?"
    template.close()


def test_conversations_of_one_shape_are_rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    template = family("qwen2-vl")
    template.segments([User("a"), Assistant("b"), User("c", [A])])
    monkeypatch.setattr(template._renderer, "render", lambda *_, **__: pytest.fail("rendered again"))
    assert "longer" in written(template.segments([User("longer"), Assistant("b"), User("<|x|>", [B])]))
    template.close()


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("chatml", "<|im_start|>user\n[a]What?<|im_end|>\n<|im_start|>assistant\n"),
        ("gemma3", "<start_of_turn>user\n\n\n[a]\n\nWhat?<end_of_turn>\n<start_of_turn>model\n"),
        ("llava", "USER: [a]\nWhat? ASSISTANT:"),
        ("smolvlm", "<|im_start|>User:[a]What?<end_of_utterance>\nAssistant:"),
    ],
)
def test_named_templates_are_those_of_their_families(name: str, prompt: str) -> None:
    template = ChatTemplate(read_template(name), name=name)
    assert written(template.segments([User("What?", [A])])) == prompt
    template.close()


@pytest.mark.parametrize("name", template_names())
def test_every_named_template_writes_whole_conversations(name: str) -> None:
    template = ChatTemplate(read_template(name), name=name, words=ControlWords("<s>", "</s>"))
    segments = template.segments([System("S"), User("Q", [A, B]), Assistant("A"), User("R")])
    assert [text.text for text in texts_of(segments) if not text.control] == ["S", "Q", "A", "R"]
    assert template.stop
    template.close()
