"""LLaMA's vocabulary is read as sentencepiece reads it; a made-up one reads any text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt4.core.errors import BundleError
from minigpt4.core.weights.sentencepiece_vocab import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    Vocabulary,
    folder_vocabulary,
    made_up_vocabulary,
    read_sentencepiece,
    sentencepiece_bytes,
)

SIZE = 900


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_bytes(made_up_vocabulary(SIZE)))
    return tmp_path


def test_texts_scores_and_kinds_are_those_that_sentencepiece_reads(golden: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    path = golden / "tiny_model" / "llama" / "tokenizer.model"
    ours, theirs = read_sentencepiece(path), sentencepiece.SentencePieceProcessor(model_file=str(path))
    ids = range(theirs.vocab_size())
    assert list(ours.texts) == [theirs.id_to_piece(i) for i in ids]
    assert list(ours.scores) == [theirs.get_score(i) for i in ids]
    tests = {UNKNOWN: theirs.is_unknown, CONTROL: theirs.is_control, BYTE: theirs.is_byte}
    assert list(ours.kinds) == [
        next((kind for kind, holds in tests.items() if holds(i)), NORMAL) for i in ids
    ]
    assert (ours.unknown, ours.begin, ours.end) == (theirs.unk_id(), theirs.bos_id(), theirs.eos_id())


def test_a_vocabulary_is_read_back_as_it_was_written(folder: Path) -> None:
    assert read_sentencepiece(folder / "tokenizer.model") == made_up_vocabulary(SIZE)


@pytest.fixture(scope="module")
def made_up() -> Any:
    """A made-up vocabulary as sentencepiece reads it."""
    sentencepiece = pytest.importorskip("sentencepiece")
    return sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_bytes(made_up_vocabulary(SIZE)))


@given(text=st.text(st.characters(codec="utf-8"), max_size=40))
def test_a_made_up_vocabulary_reads_any_text(made_up: Any, text: str) -> None:
    tokens = made_up.encode(text)
    assert 0 not in tokens
    assert made_up.decode(tokens) == text.replace("\u2581", " ") or "\0" in text


def test_a_made_up_vocabulary_has_the_chat_separator_where_llama_has_it() -> None:
    texts = made_up_vocabulary(32000).texts
    assert len(set(texts)) == 32000
    assert (texts[835], texts[2277], texts[29937]) == ("\u2581###", "##", "#")


def test_tokens_that_were_added_are_control_tokens_and_rows_without_one_are_padding(folder: Path) -> None:
    (folder / "added_tokens.json").write_text(json.dumps({"[PAD]": SIZE, "<far>": SIZE + 9}))
    vocabulary = folder_vocabulary(folder, SIZE + 2)
    assert vocabulary.texts[SIZE:] == ("[PAD]", f"[PAD{SIZE + 1}]")
    assert vocabulary.kinds[SIZE:] == (CONTROL, UNUSED)
    assert len(vocabulary.scores) == SIZE + 2


def test_more_tokens_than_embedding_rows_are_refused(folder: Path) -> None:
    with pytest.raises(BundleError, match=r"has 900 tokens, but the model has only 899 embedding rows"):
        folder_vocabulary(folder, SIZE - 1)


def test_a_missing_vocabulary_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"There is no .*tokenizer\.model"):
        folder_vocabulary(tmp_path, SIZE)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_damaged_vocabulary_is_named(folder: Path, share: float) -> None:
    path = folder / "tokenizer.model"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(BundleError, match=r"tokenizer\.model is no SentencePiece BPE vocabulary"):
        read_sentencepiece(path)


def test_padding_a_whole_vocabulary_changes_nothing() -> None:
    whole = Vocabulary(("a",), (0.0,), (NORMAL,))
    assert whole.padded(1) == whole
