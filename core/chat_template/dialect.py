"""The message format that a chat template expects and how it writes pictures, determined by trial.

Templates differ in what they take as a message's content (a string, or a list of items), in whether they
know a system prompt, and in what they write for a picture. None of it is declared, so a few conversations
of marks are rendered once, which takes some milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from minigpt4.core.chat_template.marks import Marks, Place
from minigpt4.core.chat_template.sandbox import RenderError

WORD = re.compile(r"<[^<>\s]+>|\[/?[A-Z][A-Z0-9_]*\]|◁[^◁▷\s]+▷")
"""A word that is most likely one control token."""

AROUND_PICTURES = {"<start_of_image>": "\n\n", "<image_soft_token>": "\n\n"}
"""Text for both sides of a picture that is not in the template but in transformers' processor of the family
(processing_gemma3.py, processing_gemma3n.py); libmtmd adds everything else around a picture."""

ITEM_KINDS = ("image", "image_url")

Render = Callable[[Sequence[Mapping[str, Any]], bool], str]
"""Renders messages with the template, followed by the beginning of an answer if the flag is set."""


@dataclass(frozen=True)
class Turn:
    """A message of marks and white space."""

    role: str
    text: str
    pictures: tuple[int, ...] = ()


@dataclass(frozen=True)
class PictureForm:
    """How pictures are passed to a template, and what it writes in their place."""

    item: str | None
    """The type of list item that the template has a word for; None: the mark stands in the text itself."""

    word: re.Pattern[str] | None = None
    around: str = ""


@dataclass(frozen=True)
class Dialect:
    """How a conversation is passed to one template."""

    lists: frozenset[str]
    """Roles whose content is a list of items."""

    has_system: bool = True
    pictures: PictureForm = PictureForm(None)

    def message(self, turn: Turn, marks: Marks) -> dict[str, Any]:
        """The message as the template expects it; without a word of its own, pictures precede the text."""
        if turn.role not in self.lists:
            # Nothing between them, as in llama.cpp's server (common/chat.cpp).
            return {"role": turn.role, "content": "".join(map(marks.picture, turn.pictures)) + turn.text}
        kind = self.pictures.item
        items = [_text(marks.picture(number)) if kind is None else {"type": kind} for number in turn.pictures]
        if turn.text or not items:
            items.append(_text(turn.text))
        for item in items:
            item[marks.guard] = marks.guard
        return {"role": turn.role, "content": items}

    def read(self, rendered: str, turns: Sequence[Turn], marks: Marks) -> list[str | Place]:
        """The places of texts and pictures in the rendered string; raises RenderError if one is missing."""
        pictures = [number for turn in turns for number in turn.pictures]
        word = self.pictures.word
        if word is not None:
            waiting = iter(pictures)
            around = self.pictures.around
            found = word.findall(rendered)
            if len(found) != len(pictures):
                raise RenderError("failed", f"it writes {len(found)} places for {len(pictures)} pictures")
            rendered = word.sub(lambda _: around + marks.picture(next(waiting)) + around, rendered)
        try:
            parts = marks.split(rendered)
        except ValueError:
            raise RenderError("failed", "it changes texts, or writes lists as code") from None
        texts = [
            place.number for turn in turns for place in marks.split(turn.text) if isinstance(place, Place)
        ]
        places = [part for part in parts if isinstance(part, Place)]
        if set(texts) - {place.number for place in places if not place.is_picture}:
            raise RenderError("failed", "it leaves out or changes the text of a message")
        if [place.number for place in places if place.is_picture] != pictures:
            raise RenderError("failed", "it leaves out a picture, repeats one or changes their order")
        return parts


def find_dialect(render: Render, marks: Marks) -> Dialect:
    """The dialect of a template; raises RenderError if it renders no form of a conversation completely."""
    turns = [Turn("user", marks.text(0)), Turn("assistant", marks.text(1)), Turn("user", marks.text(2))]
    forms = [
        frozenset(role for role, is_list in zip(("user", "assistant"), choice, strict=True) if is_list)
        for choice in product((True, False), repeat=2)
    ]
    dialect = _first_that_works([Dialect(form) for form in forms], turns, render, marks)
    system = [Turn("system", marks.text(3)), *turns]
    with_system = [Dialect(dialect.lists | {"system"}), Dialect(dialect.lists)]
    try:
        dialect = _first_that_works(with_system, system, render, marks)
    except RenderError as error:
        if error.kind not in ("refused", "failed"):
            raise
        dialect = Dialect(dialect.lists, has_system=False)
    return Dialect(dialect.lists, dialect.has_system, _picture_form(dialect, render, marks))


def rendered_parts(
    dialect: Dialect, turns: Sequence[Turn], render: Render, marks: Marks, *, answers: bool = True
) -> list[str | Place]:
    """What the template writes for the turns, and where texts and pictures are in it."""
    return dialect.read(render([dialect.message(turn, marks) for turn in turns], answers), turns, marks)


def _first_that_works(
    dialects: Sequence[Dialect], turns: Sequence[Turn], render: Render, marks: Marks
) -> Dialect:
    """The first dialect that renders; raises the error of the last one, which is the plainest form."""
    problem = RenderError("failed", "it writes nothing")
    for dialect in dialects:
        try:
            rendered_parts(dialect, turns, render, marks)
        except RenderError as error:
            if error.kind in ("syntax", "limit"):
                raise
            problem = error
        else:
            return dialect
    raise problem


def _picture_form(dialect: Dialect, render: Render, marks: Marks) -> PictureForm:
    """The first of the forms in which the template renders both a picture and a text."""
    for form in _forms(dialect, render, marks):
        trial = Dialect(dialect.lists, dialect.has_system, form)
        try:
            rendered_parts(trial, [Turn("user", marks.text(0), (0, 1))], render, marks)
        except RenderError:
            continue
        return form
    return PictureForm(None)


def _forms(dialect: Dialect, render: Render, marks: Marks) -> Iterator[PictureForm]:
    if "user" not in dialect.lists:
        return
    for item in ITEM_KINDS:
        trial = Dialect(dialect.lists, dialect.has_system, PictureForm(item))

        def written(count: int, trial: Dialect = trial) -> str:
            return render([trial.message(Turn("user", marks.text(0), tuple(range(count))), marks)], True)

        try:
            word = _word_for_one_more(written(1), written(2))
        except RenderError:
            continue
        if word:
            # Some number them: <|image_1|>.
            pattern = re.compile(re.sub("[0-9]+", "[0-9]+", re.escape(word)))
            yield PictureForm(item, pattern, AROUND_PICTURES.get(word, ""))


def _word_for_one_more(one: str, two: str) -> str:
    """The text that stands for the second picture, trimmed to its control tokens; empty if there is none.

    Where the end of the inserted text repeats what is before it, its position is ambiguous: the last one that
    splits no control token is taken.
    """
    length = len(two) - len(one)
    latest = _shared(one, two)
    earliest = len(one) - _shared(one[::-1], two[::-1])
    within = {place for word in WORD.finditer(two) for place in range(word.start() + 1, word.end())}
    places = range(latest, earliest - 1, -1)
    start = next((place for place in places if within.isdisjoint({place, place + length})), None)
    if length <= 0 or start is None:
        return ""
    inserted = two[start : start + length]
    words = list(WORD.finditer(inserted))
    return inserted[words[0].start() : words[-1].end()] if words else inserted.strip()


def _shared(one: str, other: str) -> int:
    """The length of the common prefix."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}
