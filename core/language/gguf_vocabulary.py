"""The vocabulary of any GGUF, for prompts in its own chat template: tokenisation, first and last tokens."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from typing import Any

from minigpt4.core.errors import BackendError
from minigpt4.core.language.base import encodable
from minigpt4.core.types import Text

LONGEST_TOKEN = 1024
"""Bytes of a token's text that are read; control tokens are words."""


class GgufVocabulary:
    """A vocabulary in llama.cpp, which lives as long as its model.

    Control tokens are parsed in control text only, never in a user's text beside it; the text between two of
    them is tokenised as one, so that the tokens are those of the whole prompt.
    """

    def __init__(self, api: Any, vocabulary: Any) -> None:
        """`api` is llama_cpp's module, `vocabulary` of llama_model_get_vocab."""
        self._api = api
        self._vocabulary = vocabulary
        fill_in = (api.llama_vocab_fim_pre, api.llama_vocab_fim_suf, api.llama_vocab_fim_mid)
        files = (api.llama_vocab_fim_pad, api.llama_vocab_fim_rep, api.llama_vocab_fim_sep)
        self._of_code = {int(token(vocabulary)) for token in (*fill_in, *files)}
        self._ends: set[int] = set()
        self._shown: set[int] = set()

    @property
    def bos(self) -> str:
        """The text of the token that begins a prompt; empty if there is none."""
        return self._text(self._api.llama_vocab_bos(self._vocabulary))

    @property
    def eos(self) -> str:
        """The text of the token that ends a text; empty if there is none."""
        return self._text(self._api.llama_vocab_eos(self._vocabulary))

    @property
    def adds_bos(self) -> bool:
        """Whether a prompt must begin with `bos`: as the file states, or as is usual for its kind."""
        return bool(self._api.llama_vocab_get_add_bos(self._vocabulary)) and bool(self.bos)

    def end_answers_at(self, texts: Iterable[str]) -> None:
        """Let control tokens with these texts, which the template writes after an answer, end answers too."""
        self._ends |= self._control_tokens(texts)

    def show(self, texts: Iterable[str]) -> None:
        """Let `piece` return the bytes of these control tokens, which delimit reasoning."""
        self._shown |= self._control_tokens(texts)

    def piece(self, token: int) -> bytes:
        """The bytes of a token; none for control tokens that are not shown."""
        buffer = ctypes.create_string_buffer(LONGEST_TOKEN)
        is_shown = token in self._shown
        count = self._api.llama_token_to_piece(self._vocabulary, token, buffer, len(buffer), 0, is_shown)
        return buffer.raw[: max(count, 0)]

    def is_end(self, token: int) -> bool:
        """Whether the token ends an answer.

        End tokens are those in the file's metadata and those that llama.cpp knows by their text, except those
        that it includes because code models use them between files (`<|file_sep|>`).
        """
        if token in self._ends:
            return True
        return token not in self._of_code and bool(self._api.llama_vocab_is_eog(self._vocabulary, token))

    def tokenize(self, *texts: Text) -> list[int]:
        """Token ids of adjacent texts; no `bos` is added."""
        tokens: list[int] = []
        stretch = ""
        strips_next = False
        for part in self._parts(texts):
            if isinstance(part, str):
                stretch += part.lstrip() if strips_next and not stretch else part
                continue
            attributes = int(self._api.llama_vocab_get_attr(self._vocabulary, part))
            if attributes & self._api.LLAMA_TOKEN_ATTR_LSTRIP:
                stretch = stretch.rstrip()
            tokens += [*self._cut(stretch, control=False), part]
            stretch, strips_next = "", bool(attributes & self._api.LLAMA_TOKEN_ATTR_RSTRIP)
        return tokens + self._cut(stretch, control=False)

    def _parts(self, texts: Iterable[Text]) -> Iterator[str | int]:
        """Control tokens of control texts, and everything else as text."""
        for text in texts:
            rest = encodable(text.text)
            if text.control:
                for token in self._cut(rest, control=True):
                    if self._is_control(token) and (word := self._text(token)) in rest:
                        before, _, rest = rest.partition(word)
                        yield before
                        yield token
            yield rest

    def _control_tokens(self, texts: Iterable[str]) -> set[int]:
        cuts = [self._cut(text, control=True) for text in texts]
        return {cut[0] for cut in cuts if len(cut) == 1 and self._is_control(cut[0])}

    def _cut(self, text: str, *, control: bool) -> list[int]:
        if not text:
            return []
        data = text.encode()
        most = len(data) + 2  # a token is one byte at least; a prefix space may come first
        tokens = (ctypes.c_int32 * most)()
        count = self._api.llama_tokenize(self._vocabulary, data, len(data), tokens, most, False, control)
        if count < 0:
            raise BackendError("llama.cpp cannot read this text; it may be too long.")
        return list(tokens[:count])

    def _is_control(self, token: int) -> bool:
        special = self._api.LLAMA_TOKEN_ATTR_CONTROL | self._api.LLAMA_TOKEN_ATTR_UNKNOWN
        return bool(int(self._api.llama_vocab_get_attr(self._vocabulary, token)) & special)

    def _text(self, token: int) -> str:
        if token < 0:
            return ""
        text = self._api.llama_vocab_get_text(self._vocabulary, token)
        return bytes(text)[:LONGEST_TOKEN].decode("utf-8", "replace") if text else ""
