"""Examples are tokenized in training as prompts are at inference."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import pytest

from minigpt4.core.errors import UsageError
from minigpt4.core.language.tokenizers import SentencePieceTokens
from minigpt4.core.prompt import (
    BY_ITSELF,
    LLAMA2,
    VICUNA_V0,
    Assistant,
    Llava,
    MiniGPT4Chat,
    PromptTemplate,
    SmolLM2,
    User,
    prompt_pieces,
)
from minigpt4.core.types import ImageEmbedding, Text, Tokenize
from minigpt4.core.weights.sentencepiece_vocab import made_up_vocabulary, sentencepiece_bytes
from minigpt4.train.packing.sequence import Layout, layout_for
from minigpt4.train.recipe import Prompt, Recipe

MakeRecipe = Callable[..., Recipe]
PICTURE = ImageEmbedding(np.zeros((2, 3), np.float32), key="")


def words_as_tokens(*texts: Text) -> list[int]:
    return [
        zlib.crc32(f"{word}/{text.control}".encode())
        for text in texts
        for word in text.text.replace("\n", " \n ").split(" ")
        if word
    ]


@pytest.fixture(scope="module")
def llama_tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokenize:
    """A vocabulary that tokenizes by LLaMA's rules, `###` included."""
    path = tmp_path_factory.mktemp("vocabulary") / "tokenizer.model"
    path.write_bytes(sentencepiece_bytes(made_up_vocabulary(32_000)))
    return SentencePieceTokens(path).tokenize


@pytest.mark.parametrize(
    "template", [SmolLM2(), BY_ITSELF, VICUNA_V0, LLAMA2, Llava()], ids=lambda one: one.name
)
def test_a_chat_is_tokenized_in_training_as_at_inference(
    template: PromptTemplate, llama_tokens: Tokenize
) -> None:
    layout = Layout(template, llama_tokens)
    asked = prompt_pieces(template.segments([User("What is this?", images=[PICTURE])]), llama_tokens)
    place = asked.index(PICTURE)
    continuation = layout.tokenize_example("What is this?", "A cat.")
    assert [*layout.prefix] == asked[:place]
    assert [*continuation.prompt] == asked[place + 1 :]
    assert layout.ask("What is this?", PICTURE) == asked


def test_an_answer_ends_with_the_template_s_end_token(llama_tokens: Tokenize) -> None:
    def trained(template: PromptTemplate, answer: str) -> list[int]:
        return [*Layout(template, llama_tokens).tokenize_example("", answer).answer]

    end = Text("###", control=True)
    assert trained(VICUNA_V0, "A cat.") == [*llama_tokens(Text("A cat."), end)]
    # A `#` at the answer's end merges with the separator of turns, as in the original.
    assert trained(VICUNA_V0, "In C#") == [*llama_tokens(Text("In C####", control=True))]
    assert trained(LLAMA2, "A cat.")[-1] == 2  # </s>
    smol = Layout(SmolLM2(), words_as_tokens).tokenize_example("", "A cat.").answer
    assert list(smol) == [
        *words_as_tokens(Text("A cat.")),
        *words_as_tokens(Text("<|im_end|>", control=True)),
    ]


def test_a_stop_string_in_an_answer_is_no_control_token(llama_tokens: Tokenize) -> None:
    ended = Layout(VICUNA_V0, llama_tokens).tokenize_example("", "A ### B").answer
    mark = tuple(llama_tokens(Text("A ###", control=True)))[-1]
    assert mark not in ended[:-1]


def test_the_plain_layout_has_no_question(llama_tokens: Tokenize) -> None:
    layout = Layout(VICUNA_V0, llama_tokens, "none")
    continuation = layout.tokenize_example("A question?", "a cat on a mat")
    assert layout.prefix == (1,)  # <s>
    assert continuation.prompt == ()
    assert list(continuation.answer) == [*llama_tokens(Text("a cat on a mat"), Text("\n", control=True))]
    assert layout.ask("A question?", PICTURE) == [1, PICTURE]
    assert layout.stops == ("\n",)
    assert Layout(SmolLM2(), words_as_tokens, "none").prefix == ()


@pytest.mark.parametrize("template", [VICUNA_V0, LLAMA2], ids=lambda one: one.name)
def test_an_instruction_is_in_the_training_prompt(template: MiniGPT4Chat, llama_tokens: Tokenize) -> None:
    training = template.training
    assert training is not None
    layout = Layout(template, llama_tokens, "instruction")
    control = [Text(text, control=True) for text in (training.before, training.between, training.after)]
    continuation = layout.tokenize_example("Say it.", "A cat.")
    assert list(layout.prefix) == [1, *llama_tokens(control[0])]
    assert list(continuation.prompt) == [*llama_tokens(control[1], Text("Say it."), control[2])]
    # The training prompt lacks the system message that chats begin with.
    assert layout.prefix != Layout(template, llama_tokens).prefix


def test_a_long_answer_is_truncated_without_its_end() -> None:
    layout = Layout(SmolLM2(), words_as_tokens, text_tokens=4)
    kept, cut = (
        layout.tokenize_example("", "one two three"),
        layout.tokenize_example("", "one two three four five"),
    )
    assert (len(kept.answer), kept.is_truncated) == (4, False)
    assert (len(cut.answer), cut.is_truncated) == (4, True)
    assert kept.answer[-1:] == tuple(words_as_tokens(Text("<|im_end|>", control=True)))
    assert cut.answer == tuple(words_as_tokens(Text("one two three four")))


@pytest.mark.parametrize("prompt", ["none", "instruction", "chat"])
def test_the_recipe_s_prompt_selects_the_layout(
    tiny_recipe: MakeRecipe, llama_tokens: Tokenize, prompt: Prompt
) -> None:
    recipe = tiny_recipe(prompt=prompt, text_tokens=3)
    layout = layout_for(recipe, VICUNA_V0, llama_tokens)
    assert layout.ask("What?", PICTURE) == Layout(VICUNA_V0, llama_tokens, prompt).ask("What?", PICTURE)
    assert len(layout.tokenize_example("", "a long caption of many words").answer) == 3


def test_a_template_without_a_training_prompt_is_an_error(tiny_recipe: MakeRecipe) -> None:
    with pytest.raises(UsageError, match=r"template 'smollm2' of the bundle 'mini' has no such form; --set"):
        layout_for(tiny_recipe(prompt="instruction"), SmolLM2(), words_as_tokens)


def test_a_conversation_begins_with_the_trained_prompt(llama_tokens: Tokenize) -> None:
    layout = Layout(VICUNA_V0, llama_tokens)
    continuation = layout.tokenize_example("What?", "A cat.")
    talk = [User("What?", images=[PICTURE]), Assistant("A cat."), User("Why?")]
    pieces = prompt_pieces(VICUNA_V0.segments(talk), llama_tokens)
    trained = [*layout.prefix, PICTURE, *continuation.prompt]
    # All but the prompt's last token, a single space that merges with the next word.
    assert pieces[: len(trained) - 1] == trained[:-1]
