"""Prompts as token ids of any GGUF's vocabulary, and where an answer ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import ByteLevel

pytest.importorskip("llama_cpp")
from minigpt4.core.language.gguf_vocabulary import GgufVocabulary
from minigpt4.core.types import Text
from minigpt4.core.weights.llama_library import load_library

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
CONTROL_WORDS = ("<|im_start|>", "<|im_end|>", "<image>", "<end_of_turn>", "<|file_sep|>", "<|fim_middle|>")
WORDS = ("the", "cat", "see", "user", "\n\n")

typed = st.text() | st.lists(
    st.sampled_from([*CONTROL_WORDS, "<s>", "</s>", "<unk>", "<|im_", "start|>", *WORDS, " "])
).map("".join)
"""What people may type."""

harmless = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="<"))


def write(path: Path, model: str, tokens: Sequence[tuple[str, int]], **metadata: int | bool) -> Path:
    """A GGUF with nothing but a vocabulary."""
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "llama")
    writer.add_tokenizer_model(model)
    writer.add_tokenizer_pre("gpt-2" if model == "gpt2" else "default")
    writer.add_token_list([text for text, _ in tokens])
    writer.add_token_scores([-float(number) for number in range(len(tokens))])
    writer.add_token_types([kind for _, kind in tokens])
    if model == "gpt2":
        writer.add_token_merges(["t h", "th e", "c a", "ca t", "Ġ c", "Ġc a"])
    for key, value in metadata.items():
        add = writer.add_bool if isinstance(value, bool) else writer.add_uint32
        add(f"tokenizer.ggml.{key}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def open_vocabulary() -> Iterator[Callable[[Path], GgufVocabulary]]:
    api = load_library()
    models: list[Any] = []

    def opened(path: Path) -> GgufVocabulary:
        parameters = api.llama_model_default_params()
        parameters.vocab_only = True
        models.append(api.llama_model_load_from_file(os.fsencode(path), parameters))
        assert models[-1]
        return GgufVocabulary(api, api.llama_model_get_vocab(models[-1]))

    yield opened
    for model in models:
        api.llama_model_free(model)


@pytest.fixture(scope="module")
def bpe(
    tmp_path_factory: pytest.TempPathFactory, open_vocabulary: Callable[[Path], GgufVocabulary]
) -> GgufVocabulary:
    """A byte-level vocabulary, whose prompts begin with nothing."""
    plain = [(letter, NORMAL) for letter in sorted(ByteLevel.alphabet())]
    merged = [(text, NORMAL) for text in ("th", "the", "ca", "cat", "Ġc", "Ġca")]
    words = [(text, CONTROL) for text in CONTROL_WORDS]
    ends = {"eos_token_id": len(plain) + len(merged) + CONTROL_WORDS.index("<|im_end|>")}
    return open_vocabulary(
        write(tmp_path_factory.mktemp("bpe") / "bpe.gguf", "gpt2", [*plain, *merged, *words], **ends)
    )


@pytest.fixture(scope="module")
def spm(
    tmp_path_factory: pytest.TempPathFactory, open_vocabulary: Callable[[Path], GgufVocabulary]
) -> GgufVocabulary:
    """A SentencePiece vocabulary, whose prompts begin with <s>."""
    special = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)]
    data = [(f"<0x{byte:02X}>", BYTE) for byte in range(256)]
    letters = [(letter, NORMAL) for letter in "▁abcdefghijklmnopqrstuvwxyz<>|/_?.:"]
    words = [("th", NORMAL), ("the", NORMAL), ("▁the", NORMAL), ("\n\n", USER_DEFINED)]
    control = [(text, CONTROL) for text in CONTROL_WORDS]
    path = tmp_path_factory.mktemp("spm") / "spm.gguf"
    tokens = [*special, *data, *letters, *words, *control]
    return open_vocabulary(write(path, "llama", tokens, bos_token_id=1, eos_token_id=2, unknown_token_id=0))


@pytest.fixture(params=["bpe", "spm"])
def vocabulary(request: pytest.FixtureRequest) -> GgufVocabulary:
    found: GgufVocabulary = request.getfixturevalue(request.param)
    return found


def control_tokens(vocabulary: GgufVocabulary, tokens: Sequence[int]) -> list[str]:
    return [vocabulary._text(token) for token in tokens if vocabulary._is_control(token)]


@pytest.mark.parametrize("kind", ["bpe", "spm"])
@given(before=harmless, text=harmless, after=harmless)
def test_the_tokens_are_those_of_the_whole_prompt(
    kind: str, before: str, text: str, after: str, request: pytest.FixtureRequest
) -> None:
    vocabulary: GgufVocabulary = request.getfixturevalue(kind)
    parts = (f"<|im_start|>user: {before}", text, f"{after}<|im_end|>\n<|im_start|>")
    tokens = vocabulary.tokenize(Text(parts[0], control=True), Text(text), Text(parts[2], control=True))
    assert tokens == vocabulary._cut("".join(parts), control=True)


@pytest.mark.parametrize("kind", ["bpe", "spm"])
@given(texts=st.lists(typed, max_size=4))
def test_what_is_typed_never_becomes_a_control_token(
    kind: str, texts: list[str], request: pytest.FixtureRequest
) -> None:
    vocabulary: GgufVocabulary = request.getfixturevalue(kind)
    prompt: list[Text] = []
    for text in texts:
        prompt += [
            Text("<|im_start|>user\n<", control=True),
            Text(text),
            Text(">end|><|im_end|>\n", control=True),
        ]
    found = control_tokens(vocabulary, vocabulary.tokenize(*prompt))
    assert [word for word in found if word != "<unk>"] == ["<|im_start|>", "<|im_end|>"] * len(texts)


def test_the_vocabulary_says_how_prompts_begin_and_end(bpe: GgufVocabulary, spm: GgufVocabulary) -> None:
    assert (spm.bos, spm.eos, spm.adds_bos) == ("<s>", "</s>", True)
    assert (bpe.eos, bpe.adds_bos) == ("<|im_end|>", False)


def test_answers_end_at_ends_of_turns_and_not_between_files(vocabulary: GgufVocabulary) -> None:
    def is_end(text: str) -> bool:
        return vocabulary.is_end(vocabulary._cut(text, control=True)[0])

    assert is_end(vocabulary.eos)
    assert is_end("<|im_end|>")
    assert is_end("<end_of_turn>")
    assert not is_end("<|file_sep|>")
    assert not is_end("<image>")
    vocabulary.end_answers_at(["<image>", "the"])
    assert is_end("<image>")
    assert not is_end("the")


def test_no_text_is_no_tokens(vocabulary: GgufVocabulary) -> None:
    assert vocabulary.tokenize() == vocabulary.tokenize(Text("")) == []
    assert vocabulary.tokenize(Text("\ud800 lone")) == vocabulary.tokenize(Text("? lone"))


def test_control_tokens_have_no_text_unless_they_are_shown(vocabulary: GgufVocabulary) -> None:
    (image,) = vocabulary._cut("<image>", control=True)
    (end,) = vocabulary._cut("<|im_end|>", control=True)
    assert b"".join(map(vocabulary.piece, vocabulary._cut("the cat", control=False))).strip() == b"the cat"
    assert vocabulary.piece(image) == b""
    vocabulary.show(["<image>", "no token"])
    assert (vocabulary.piece(image), vocabulary.piece(end)) == (b"<image>", b"")
