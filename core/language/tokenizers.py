"""The vocabularies of the torch backend: texts to tokens, tokens to bytes, and the end tokens."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from minigpt4.core.errors import BackendError, BundleError
from minigpt4.core.language.base import END_TOKENS, encodable
from minigpt4.core.language.llama_tokenizer import END, LlamaText
from minigpt4.core.types import Text

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER_MODEL = "tokenizer.model"
SPACE = "\u2581"
"""SentencePiece's character for a space."""

STAND_IN = "\x01"


class ByteLevelTokens:
    """A byte-level vocabulary (SmolLM2's); every text is tokenised separately."""

    pieces: list[bytes]
    """The bytes of every token; those of control tokens are empty."""

    ends: frozenset[int]
    """The tokens that end an answer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        from tokenizers import Tokenizer

        self._with_control = tokenizer
        self._without_control = Tokenizer.from_str(tokenizer.to_str())
        self._without_control.encode_special_tokens = True
        self.pieces = _byte_level_pieces(tokenizer)
        # Control characters without a token are dropped; the library then merges the text around them, which
        # llama.cpp does not. So they are replaced by one that has a token, which never merges.
        known_bytes = set(b"".join(self.pieces))
        self._lost = {code: STAND_IN for code in range(32) if code not in known_bytes}
        known = map(tokenizer.token_to_id, END_TOKENS)
        self.ends = frozenset(token for token in known if token is not None)

    def tokenize(self, *texts: Text) -> list[int]:
        """Token ids of adjacent texts, as LanguageModel.tokenize."""
        tokens: list[int] = []
        for text in texts:
            tokenizer = self._with_control if text.control else self._without_control
            clean = encodable(text.text)
            cut = tokenizer.encode(clean.translate(self._lost), add_special_tokens=False)
            tokens += (
                token
                for token, (start, _) in zip(cut.ids, cut.offsets, strict=True)
                if start == len(clean) or ord(clean[start]) not in self._lost
            )
        return tokens

    def readings(self, text: str) -> list[list[int]]:
        """Every tokenisation of `text`, to find it among generated tokens."""
        return [self.tokenize(Text(text, control=True))]


class SentencePieceTokens:
    """LLaMA's vocabulary, from its `tokenizer.model`, tokenised as in llama_tokenizer.py."""

    def __init__(self, path: Path) -> None:
        """Raises BundleError if the file is missing or damaged, BackendError without the package."""
        try:
            from sentencepiece import SentencePieceProcessor
        except ImportError as error:
            raise BackendError(
                f"Reading {path.name} needs the package sentencepiece ({error}); install it with "
                "`pip install sentencepiece`."
            ) from error
        if not path.is_file():
            raise BundleError(
                f"There is no {path}; a LLaMA folder needs its SentencePiece vocabulary, not only a "
                "tokenizer.json."
            )
        try:
            self._processor = SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise BundleError(f"{path} is not a SentencePiece vocabulary, or it is damaged.") from error
        self._cut = LlamaText(self._plain)
        self.pieces = [self._piece(token) for token in range(self._processor.get_piece_size())]
        self.ends = frozenset({END})

    def tokenize(self, *texts: Text) -> list[int]:
        """Token ids of adjacent texts, as LanguageModel.tokenize."""
        return self._cut(*(Text(encodable(text.text), text.control) for text in texts))

    def readings(self, text: str) -> list[list[int]]:
        """Every tokenisation of `text`, to find it among generated tokens."""
        return self._cut.readings(text)

    def _plain(self, text: str) -> list[int]:
        tokens: list[int] = self._processor.encode(text)
        return tokens

    def _piece(self, token: int) -> bytes:
        sp = self._processor
        if sp.is_control(token) or sp.is_unknown(token) or sp.is_unused(token):
            return b""
        text: str = sp.id_to_piece(token)
        return bytes([int(text[3:5], 16)]) if sp.is_byte(token) else text.replace(SPACE, " ").encode()


Tokens = ByteLevelTokens | SentencePieceTokens
"""A vocabulary with its tokenizer."""


def _byte_level_pieces(tokenizer: Tokenizer) -> list[bytes]:
    """The bytes of every token: the byte-level alphabet undone, control tokens empty."""
    alphabet = {character: byte for byte, character in _byte_alphabet().items()}
    control = tokenizer.get_added_tokens_decoder()
    texts: Iterable[tuple[int, str]] = sorted((index, text) for text, index in tokenizer.get_vocab().items())
    return [
        b"" if index in control else bytes(alphabet[character] for character in text) for index, text in texts
    ]


def _byte_alphabet() -> dict[int, str]:
    """GPT-2's printable character for each byte (bytes_to_unicode of openai/gpt-2's encoder.py)."""
    ranges = ("!", "~"), ("¡", "¬"), ("®", "ÿ")
    printable = [byte for first, last in ranges for byte in range(ord(first), ord(last) + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + place) for place, byte in enumerate(others)
    }
