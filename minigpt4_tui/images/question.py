"""The pictures that are named inside a question: `what is this? ~/photo.jpg`.

A path is attached if there is such a file, and its name or its first bytes are those of a picture; the path
of another file stays text, as does a word that merely looks like a path. An http or https address is always
attached: it is fetched when the question is sent, and an error is shown if it is not a picture.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from minigpt4.core.errors import ImageError
from minigpt4.tui.images.attachments import (
    MAX_DROP,
    WINDOWS,
    Attachment,
    is_file,
    is_picture_name,
    named,
    path_in,
)
from minigpt4.tui.terminal.sanitize import sanitize_line

if TYPE_CHECKING:
    from minigpt4.core.pixels import Picture

NO_PICTURE = "No picture is attached, so the model answers without having seen one"
"""The beginning of the notice with the first answer; how to add a picture follows."""

BY_ITSELF = "This model reads each question about a picture by itself; it knows none of the earlier ones."
"""The notice with a second question, for models that were trained on single questions."""

QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "„": "“", "‘": "’", "«": "»", "「": "」", "<": ">"}
ENDS = ".,;:!?…)]}>\"'`“”’»*。，、！？：；）」』"
"""Punctuation that may follow a path without belonging to it."""

OPENING = re.compile(r"[(\[{<\"'`“„‘«「*@]{0,3}")
"""Punctuation that may stand right before a path; other chats mark files with `@`."""

EAST_ASIAN = "\u2e80-\uffef"
"""Chinese, Japanese and Korean, which are written without spaces around a path."""

INNER_START = re.compile(
    rf"(?<=[?!:;,=(|{EAST_ASIAN}])(?=[~.]{{0,2}}/(?!/)|[^\W_])|(?<![a-z0-9])(?=https?://)", re.IGNORECASE
)
"""Where a path may begin inside a word: after the punctuation of a sentence or list without spaces."""

INNER_END = re.compile(rf"[,;:|、，：；](?=\S)|['’]s$|(?<=[a-z0-9])(?=[{EAST_ASIAN}])", re.IGNORECASE)
"""Where a path may end inside a word."""

MAX_PATH = 4096
"""Characters of the longest path that is looked for; Linux allows none longer."""

WORD = re.compile(rf"(?:\\[^\n]|\S){{1,{MAX_PATH}}}")
"""A word in which a backslash escapes a space."""

ADDRESS = re.compile(r"https?://[\w\[][^\s<>\"“”「」。，、！？：；）]{0,4096}", re.IGNORECASE)

ASIDE = " \t\r\n,;:.-–—、，：。"
"""What may stand between a path and the question without being a word of it."""

SENTENCE_END = ".?!:…。？！：\n"
MAX_SPACED_WORDS = 16
"""Maximum words of a path whose spaces are neither quoted nor escaped, after the first."""

MAX_TRIED = 20
"""Beginnings in one word, and ends of one path, that are tried; each accesses the disk."""

HEAD_BYTES = 4096
"""Bytes read of a file that is not named like a picture: enough to recognise one."""

MAX_NAMED = 100
"""Pictures that one question may name; the paths after them stay text."""


@dataclass(frozen=True)
class Question:
    """A question, and the pictures that it named, in their order; nothing is opened yet."""

    text: str
    """The question without them; "" if it consisted of them. See `question_in`."""

    pictures: tuple[Attachment, ...] = ()

    def open(self) -> list[Picture]:
        """Read or fetch the pictures; raises ImageError if one is not a picture."""
        try:
            return [one.open() for one in self.pictures]
        except ImageError as error:
            raise ImageError(
                f"{error} The question was not asked; correct the path or address in it, or leave it out."
            ) from error


@dataclass(frozen=True)
class _Mention:
    start: int
    end: int
    picture: Attachment


def question_in(text: str, given: Sequence[Attachment] = ()) -> Question:
    """Separate a question from the pictures that it names.

    Paths before the question or after it are removed, as the prompt holds the pictures; a picture that is
    named there twice is attached twice. If a path is a word of a sentence (`compare ~/a.jpg with ~/b.jpg`),
    every path is replaced by the picture's name, so that the sentence stays complete; a picture named twice
    is then attached once, and one of `given`, which are attached already, not again.
    """
    mentions = list(islice(_mentions(text), MAX_NAMED)) if len(text) <= MAX_DROP else []
    if not mentions:
        return Question(text)
    apart = _without(text, mentions)
    if apart is not None:
        return Question(apart, tuple(one.picture for one in mentions))
    known = {_identity(one) for one in given}
    new: dict[object, Attachment] = {}
    for one in mentions:
        identity = _identity(one.picture)
        if identity not in known:
            new.setdefault(identity, one.picture)
    return Question(_with_names(text, mentions), tuple(new.values()))


def no_picture_sentence(line: str) -> str:
    """The error for a line that begins with a path, but of no picture; "" if it is rather a command."""
    first = WORD.match(line)
    spelled = re.sub(r"\\(.)", r"\1", first[0]) if first else ""
    if "/" not in spelled[1:] and not is_picture_name(spelled):
        return ""
    shown = sanitize_line(spelled, 200)
    with suppress(OSError, ValueError):
        if path_in(spelled).is_dir():
            return f"'{shown}' is a folder; give the path of a picture in it."
        if is_file(path_in(spelled)):
            return f"'{shown}' is not a picture; to ask about its name, begin with another word."
    return f"There is no picture file '{shown}'; check the path."


def _identity(one: Attachment) -> object:
    if isinstance(one.source, Path):
        # The working folder may have been deleted.
        with suppress(OSError):
            return one.source.resolve()
    return one.source


def _mentions(text: str) -> Iterator[_Mention]:
    """The mentions from left to right, without overlaps."""
    done = 0
    for word in WORD.finditer(text):
        for start in _starts(text, word.start(), word.end()):
            if start < done:
                continue
            found = _quoted(text, start) or _address(text, start) or _unquoted(text, start)
            if found is not None:
                before = found.start - (text[found.start - 1 : found.start] == "@")
                yield replace(found, start=max(before, done))
                done = found.end


def _starts(text: str, first: int, end: int) -> Iterator[int]:
    """Where a path may begin in a word."""
    if opening := OPENING.match(text, first, end - 1):
        yield from range(first, opening.end() + 1)
    for match in islice(INNER_START.finditer(text, first + 1, end), MAX_TRIED):
        yield match.start()


def _quoted(text: str, start: int) -> _Mention | None:
    close = QUOTES.get(text[start])
    if close is None:
        return None
    line_end, end = min(_line_end(text, start), start + MAX_PATH), start
    # An apostrophe may be part of the name.
    for _ in range(3):
        end = text.find(close, end + 1, line_end)
        if end < 0:
            return None
        inside = text[start + 1 : end]
        if ADDRESS.fullmatch(inside):
            return _Mention(start, end + 1, named(inside))
        for spelled in (inside, inside.replace("\\", "")):
            if _is_named_file(spelled):
                return _Mention(start, end + 1, named(spelled))
    return None


def _address(text: str, start: int) -> _Mention | None:
    match = ADDRESS.match(text, start)
    if match is None:
        return None
    address = match[0]
    while address[-1] in ENDS and not (address[-1] == ")" and address.count("(") >= address.count(")")):
        address = address[:-1]
    return _Mention(start, start + len(address), named(address))


def _unquoted(text: str, start: int) -> _Mention | None:
    word = WORD.match(text, start)
    if word is None:
        return None
    ends = _spaced_ends(text, word.end())
    if "/" in word[0] or "." in word[0]:
        ends.append(word.end())
    for end in ends:
        for shorter in islice(_without_punctuation(text, start, end), MAX_TRIED):
            raw = text[start:shorter]
            for spelled in dict.fromkeys((raw, re.sub(r"\\(.)", r"\1", raw))):
                if _is_named_file(spelled):
                    return _Mention(start, shorter, named(spelled))
    return None


def _spaced_ends(text: str, first: int) -> list[int]:
    """Ends of paths with spaces, the longest first: after a later word that is named like a picture."""
    ends = []
    for word in islice(WORD.finditer(text, first, _line_end(text, first)), MAX_SPACED_WORDS):
        if "." in word[0] and is_picture_name(word[0].rstrip(ENDS)):
            ends.append(word.end())
    return ends[::-1]


def _line_end(text: str, start: int) -> int:
    end = text.find("\n", start)
    return end if end >= 0 else len(text)


def _without_punctuation(text: str, start: int, end: int) -> Iterator[int]:
    """The end, then ends before each trailing punctuation mark, then those in a list without spaces."""
    yield end
    while end > start + 1 and text[end - 1] in ENDS:
        end -= 1
        yield end
    for mark in INNER_END.finditer(text[start:end]):
        yield start + mark.start()


def _is_named_file(spelled: str) -> bool:
    """Whether there is such a file, and it is named like a picture, or is a path to the content of one."""
    if is_picture_name(spelled):
        return is_file(path_in(spelled))
    # A HEIC photo cannot be read; opening it reports that.
    is_path = "/" in spelled or bool(WINDOWS.match(spelled)) or spelled.lower().endswith((".heic", ".heif"))
    return is_path and is_file(path_in(spelled)) and _holds_picture(path_in(spelled))


def _holds_picture(path: Path) -> bool:
    from minigpt4.core.image_file.kinds import is_visual

    try:
        with path.open("rb") as file:
            return is_visual(file.read(HEAD_BYTES))
    except OSError:
        return False


def _without(text: str, mentions: Sequence[_Mention]) -> str | None:
    """The question without the paths before and after it; None if a path is a word of it."""
    edges = [0, *(place for one in mentions for place in (one.start, one.end)), len(text)]
    # What stands before the first path, between two, and after the last.
    between = [text[edges[at] : edges[at + 1]] for at in range(0, len(edges), 2)]
    if not any(map(_has_words, between)):
        return ""
    # In a language without spaces, a path between letters is a word of the sentence.
    if any(_is_inside_word(text, place) for place in edges):
        return None
    before = next(at for at, words in enumerate(between) if words.strip(ASIDE))
    core = between[before]
    rest = between[before + 1 :]
    is_apart = not any(map(_has_words, rest)) and (not rest or _ends_sentence(core))
    return (core.lstrip(ASIDE) if before else core).strip() if is_apart else None


def _is_inside_word(text: str, place: int) -> bool:
    return 0 < place < len(text) and text[place - 1].isalnum() and text[place].isalnum()


def _with_names(text: str, mentions: Sequence[_Mention]) -> str:
    """The question with each picture's name in place of its path."""
    pieces = [text[: mentions[0].start]]
    for one, following in pairwise([*mentions, _Mention(len(text), len(text), mentions[0].picture)]):
        pieces += [one.picture.name, text[one.end : following.start]]
    return "".join(pieces).strip()


def _has_words(text: str) -> bool:
    return any(letter.isalnum() for letter in text)


def _ends_sentence(text: str) -> bool:
    return text.rstrip(" \t").endswith(tuple(SENTENCE_END))
