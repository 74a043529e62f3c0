"""Pictures in the plain chat: pending ones, how they are announced, and picking from a folder by number."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from minigpt4.core.errors import UsageError
from minigpt4.tui.cli.chat.line_input import at_terminal
from minigpt4.tui.images.attachments import Attachment, attachments_in, is_folder, path_in
from minigpt4.tui.images.browse import listing
from minigpt4.tui.terminal.messages import printable, say
from minigpt4.tui.terminal.sanitize import sanitize_line

if TYPE_CHECKING:
    from minigpt4.core.types import ImageEmbedding
    from minigpt4.tui.cli.chat.plain import PlainChat
    from minigpt4.tui.history.records import StoredMessage, StoredPicture


@dataclass(frozen=True)
class Waiting:
    """A picture for the next message: its embedding, and its copy in the history (None: not saved)."""

    source: Attachment
    embedding: ImageEmbedding
    stored: StoredPicture | None
    described: str
    """Its name and size."""


def asked_by_you(question: StoredMessage) -> str:
    """How a question is announced, with its pictures by name and size."""
    pictures = [described_picture(one.name, one.width, one.height) for one in question.pictures]
    return f"You asked about {'; '.join(pictures)}" if pictures else "You asked"


def described_picture(name: str, width: int, height: int) -> str:
    """A picture in words: its name, and its size in pixels."""
    return f"{printable(name)}, {width} x {height} pixels"


def pick(chat: PlainChat, rest: str) -> None:
    """Add pictures of the last list by number, or list a folder, by default the working folder."""
    words = rest.replace(",", " ").split()
    if not chat.offered or not words or not all(word.isdecimal() for word in words):
        offer(chat, path_in(rest) if rest else Path())
        return
    wrong = [word for word in words if len(word) > 4 or not 1 <= int(word) <= len(chat.offered)]
    if wrong:
        raise UsageError(
            f"There is no picture {sanitize_line(wrong[0], 20)} in the last list, which has "
            f"{len(chat.offered)}; /pick FOLDER makes a new one."
        )
    for word in words:
        one = Attachment(chat.offered[int(word) - 1], chat.offered[int(word) - 1].name)
        with chat.reporting():
            chat.attach(one.open(), one)


def attach_line(chat: PlainChat, line: str) -> None:
    """Add the pictures that a line names; one that fails is reported, and the others are added."""
    found = attachments_in(line)
    if not found:
        raise UsageError("/image needs the path of a picture, as in `/image photo.jpg`.")
    for one in found:
        with chat.reporting():
            folder = folder_of(one)
            if folder is not None and at_terminal():
                offer(chat, folder)
            else:
                chat.attach(one.open(), one)


def folder_of(one: Attachment) -> Path | None:
    """The folder that was given instead of a picture; None if it is not a folder."""
    return one.source if isinstance(one.source, Path) and is_folder(one.source) else None


def offer(chat: PlainChat, folder: Path) -> None:
    """List the folders and pictures in a folder; raises UsageError if it cannot be read."""
    found = listing(folder)
    shown = printable(str(folder.absolute()))
    if found.problem:
        raise UsageError(f"The folder '{shown}' cannot be listed: {found.problem}.")
    chat.offered = list(found.pictures)
    say(f"In {shown}: {_counted(len(found.pictures), 'picture')}, {_counted(len(found.folders), 'folder')}.")
    for one in found.folders:
        say(f"Folder {printable(one.name)}")
    for number, one in enumerate(found.pictures, start=1):
        say(f"{number}. {printable(one.name)}")
    if found.omitted:
        say(f"{found.omitted} more are not listed; /image PATH adds one.")
    say(
        "/pick NUMBER... adds pictures of the list."
        if found.pictures
        else "/pick FOLDER lists another folder."
    )


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
