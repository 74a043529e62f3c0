"""A SentencePiece vocabulary in the form of GGUF files: read from `tokenizer.model`, or synthetic.

The file is one protocol-buffer message, parsed here: the `sentencepiece` package does not distinguish
user-defined pieces from ordinary ones, and llama.cpp users need no other part of it. Layout:
https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
"""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from string import ascii_letters, ascii_lowercase, digits, punctuation

from minigpt4.core.errors import BundleError

TOKENIZER_MODEL = "tokenizer.model"
ADDED_TOKENS = "added_tokens.json"

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""Kinds of pieces; SentencePiece and GGUF use the same numbers."""

BPE = 2
"""The `model_type` whose pieces llama.cpp's tokenizer "llama" merges by score."""

SPACE = "\u2581"
"""SentencePiece's character for a space."""

PLACED = {SPACE + "#": 396, SPACE + "##": 444, SPACE + "###": 835, "##": 2277, SPACE: 29871, "#": 29937}
"""Pieces with LLaMA's ids in a synthetic vocabulary: the separators of the chat form."""

_MODEL_PIECES, _MODEL_TRAINER, _MODEL_NORMALIZER = 1, 2, 3
_PIECE_TEXT, _PIECE_SCORE, _PIECE_TYPE = 1, 2, 3
_TRAINER_TYPE, _TRAINER_UNK, _TRAINER_BOS, _TRAINER_EOS = 3, 40, 41, 42


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id; `scores` order the merges, `kinds` are NORMAL ... BYTE."""

    texts: tuple[str, ...]
    scores: tuple[float, ...]
    kinds: tuple[int, ...]
    unknown: int = 0
    begin: int = 1
    end: int = 2

    def __len__(self) -> int:
        return len(self.texts)

    def padded(self, size: int) -> Vocabulary:
        """The vocabulary padded to `size` with names for embedding rows without a token or text."""
        more = range(len(self), size)
        return replace(
            self,
            texts=self.texts + tuple(f"[PAD{index}]" for index in more),
            scores=self.scores + (0.0,) * len(more),
            kinds=self.kinds + (UNUSED,) * len(more),
        )


def folder_vocabulary(folder: Path, size: int) -> Vocabulary:
    """The vocabulary of a Hugging Face folder whose embedding has `size` rows.

    Tokens that were added later (`added_tokens.json`) are control tokens here, so that a user's text
    never becomes one; those beyond the last row (LLaMA-2 lists such a pad token) have no
    embedding and are ignored. Raises BundleError if tokens and rows do not fit.
    """
    vocabulary = read_sentencepiece(folder / TOKENIZER_MODEL)
    if len(vocabulary) > size:
        raise BundleError(
            f"{folder / TOKENIZER_MODEL} has {len(vocabulary)} tokens, but the model has only {size} "
            "embedding rows; they belong to different models."
        )
    padded = vocabulary.padded(size)
    texts, kinds = list(padded.texts), list(padded.kinds)
    for text, index in _added_tokens(folder / ADDED_TOKENS).items():
        if len(vocabulary) <= index < size:
            texts[index], kinds[index] = text, CONTROL
    return replace(padded, texts=tuple(texts), kinds=tuple(kinds))


def _added_tokens(path: Path) -> dict[str, int]:
    if not path.exists():
        return {}
    try:
        added = json.loads(path.read_text(encoding="utf-8"))
        return {str(text): int(index) for text, index in added.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise BundleError(f"{path} is not a table of tokens and their numbers ({error}).") from error


def read_sentencepiece(path: Path) -> Vocabulary:
    """The pieces of a `tokenizer.model`; raises BundleError if it is missing, damaged or not BPE."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise BundleError(
            f"There is no {path}; a LLaMA folder needs this SentencePiece vocabulary."
        ) from error
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        return _parse(data)
    except (ValueError, IndexError, struct.error, TypeError) as error:
        raise BundleError(
            f"{path} is no SentencePiece BPE vocabulary ({error}); it may be damaged."
        ) from error


def _parse(data: bytes) -> Vocabulary:
    pieces: list[tuple[str, float, int]] = []
    trainer: dict[int, int | bytes] = {}
    for field, value in _fields(data):
        if field == _MODEL_PIECES:
            parts = dict(_fields(_message(value)))
            text, score = _message(parts[_PIECE_TEXT]).decode(), parts.get(_PIECE_SCORE, bytes(4))
            (number,) = struct.unpack("<f", _message(score))
            pieces.append((text, number, _number(parts, _PIECE_TYPE, NORMAL)))
        elif field == _MODEL_TRAINER:
            trainer = dict(_fields(_message(value)))
    if not pieces:
        raise ValueError("it holds no pieces")
    if _number(trainer, _TRAINER_TYPE, 1) != BPE:
        raise ValueError("its model type is not BPE")
    texts, scores, kinds = zip(*pieces, strict=True)
    return Vocabulary(
        texts,
        scores,
        kinds,
        unknown=_number(trainer, _TRAINER_UNK, 0),
        begin=_number(trainer, _TRAINER_BOS, 1),
        end=_number(trainer, _TRAINER_EOS, 2),
    )


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise TypeError("a field holds a number instead of bytes")
    return value


def _number(fields: dict[int, int | bytes], key: int, default: int) -> int:
    value = fields.get(key, default)
    if isinstance(value, bytes):
        raise TypeError("a field holds bytes instead of a number")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protocol-buffer message in order, each with its number."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        match tag & 7:
            case 0:
                value, place = _varint(data, place)
                yield tag >> 3, value
                continue
            case 2:
                length, place = _varint(data, place)
            case 5:
                length = 4
            case 1:
                length = 8
            case kind:
                raise ValueError(f"there is no wire type {kind}")
        if place + length > len(data):
            raise ValueError("it ends too early")
        yield tag >> 3, data[place : place + length]
        place += length


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, place


def made_up_vocabulary(size: int) -> Vocabulary:
    """A vocabulary of `size` tokens that can tokenise any text, for models with random weights.

    Ordered like LLaMA's (unknown, begin, end, 256 bytes, pieces by descending score, single
    characters last); its pieces have up to three letters, LLaMA's four on average.
    """
    texts = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256
    placed = {index: text for text, index in PLACED.items() if index < size}
    seen = set(placed.values())
    pieces = (text for text in _made_up_pieces() if text not in seen)
    while len(texts) < size:
        index = len(texts)
        texts.append(placed[index] if index in placed else next(pieces, f"[{index}]"))
        kinds.append(NORMAL)
    scores = [0.0] * 259 + [float(259 - index) for index in range(259, size)]
    return Vocabulary(tuple(texts[:size]), tuple(scores[:size]), tuple(kinds[:size]))


def _made_up_pieces() -> Iterator[str]:
    """Yield the pieces; each longer one can be merged from two earlier ones or single characters."""
    yield from SPACE + ascii_letters + digits + punctuation
    yield from (SPACE + letter for letter in ascii_letters + digits)
    pairs = ["".join(pair) for pair in itertools.product(ascii_lowercase, repeat=2)]
    yield from pairs
    yield from (SPACE + pair for pair in pairs)
    yield from (pair + letter for pair in pairs for letter in ascii_lowercase)
    yield from (SPACE + pair + letter for pair in pairs for letter in ascii_lowercase)


def sentencepiece_bytes(vocabulary: Vocabulary) -> bytes:
    """The content of a `tokenizer.model` with this vocabulary, and LLaMA's normalisation and splitting."""
    pieces = b"".join(
        _field(
            _MODEL_PIECES,
            _field(_PIECE_TEXT, text.encode())
            + bytes([_PIECE_SCORE << 3 | 5])
            + struct.pack("<f", score)
            + (b"" if kind == NORMAL else _field(_PIECE_TYPE, kind)),
        )
        for text, score, kind in zip(vocabulary.texts, vocabulary.scores, vocabulary.kinds, strict=True)
    )
    trainer = {3: BPE, 4: len(vocabulary), 16: 80, 25: 1, 26: 1, 35: 1}
    special = {_TRAINER_UNK: vocabulary.unknown, _TRAINER_BOS: vocabulary.begin, _TRAINER_EOS: vocabulary.end}
    # A dummy space in front, runs of spaces kept, spaces written as U+2581, and no other change.
    normalizer = _field(1, b"identity") + _field(3, 1) + _field(4, 0) + _field(5, 1)
    settings = b"".join(_field(number, value) for number, value in (trainer | special).items())
    return pieces + _field(_MODEL_TRAINER, settings) + _field(_MODEL_NORMALIZER, normalizer)


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _as_varint(number << 3) + _as_varint(value)
    return _as_varint(number << 3 | 2) + _as_varint(len(value)) + value


def _as_varint(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])
