"""The next question before it is sent: its pictures, in the order given, and whether it waits for them.

A picture has its place from the moment it is given, so the order does not depend on how long each
takes to open.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from minigpt4.tui.history.records import StoredPicture

if TYPE_CHECKING:
    from minigpt4.tui.images.attachments import Attachment


@dataclass(eq=False)
class DraftPicture:
    """A picture of the next question: open once `stored` is set, failed once `problem` is.

    Two are never equal: the same file given twice is two pictures.
    """

    name: str
    stored: StoredPicture | None = None
    source: Attachment | None = None
    """What it is opened from, if that is a file or an address."""
    problem: str = ""
    """Why it could not be opened, as a sentence."""
    is_reported: bool = False
    """Whether a question was held back because it failed; the next one is sent without it."""
    is_by_command: bool = False
    """Whether /image named it."""
    unopened: Attachment | None = None
    """The source to open once it is shown, if it was restored from the draft of an ended instance."""

    @property
    def is_opening(self) -> bool:
        """Whether it is neither open nor failed yet."""
        return self.stored is None and not self.problem


@dataclass(frozen=True)
class HeldQuestion:
    """A sent question that waits for the answer before it and for its pictures to be open."""

    text: str
    pictures: list[DraftPicture]
    editing: str | None = None
    """The id of the question that it is a new version of."""
    max_tokens: int | None = None
    """The maximum tokens of the answer, if the named prompt that it came from sets them."""
    typed: str = ""
    """The text as it was typed, with the paths and addresses of the pictures `named` in it."""
    named: list[DraftPicture] = field(default_factory=list)

    @property
    def opening(self) -> list[DraftPicture]:
        """The pictures it waits for."""
        return [one for one in self.pictures if one.is_opening]

    @property
    def unreported(self) -> list[DraftPicture]:
        """The failed pictures that have not held back a question yet."""
        return [one for one in self.pictures if one.problem and not one.is_reported]


@dataclass
class Draft:
    """The next question of a conversation, and the held ones before it, in sending order.

    `text` is what is typed; the composer has it while the conversation is shown.
    """

    text: str = ""
    held: list[HeldQuestion] = field(default_factory=list)
    pictures: list[DraftPicture] = field(default_factory=list)
    is_paused: bool = False
    """Whether the held questions wait for the user, as the answer before them failed or was stopped."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing would be lost with it."""
        return not (self.text.strip() or self.held or self.pictures)

    @property
    def whole_text(self) -> str:
        """The held questions, and what was typed since."""
        return "\n".join(filter(None, (*(one.text for one in self.held), self.text)))

    @property
    def all_pictures(self) -> list[DraftPicture]:
        """The pictures of the held questions, then those given since."""
        return [*(picture for one in self.held for picture in one.pictures), *self.pictures]

    @property
    def sources(self) -> list[Attachment]:
        """What the pictures of the next question are opened from."""
        return [one.source for one in self.pictures if one.source is not None]

    def add(
        self, name: str, stored: StoredPicture | None = None, source: Attachment | None = None
    ) -> DraftPicture:
        """Add a picture after all others."""
        picture = DraftPicture(name, stored, source)
        self.pictures.append(picture)
        return picture

    def remove(self, picture: DraftPicture) -> None:
        """Remove a picture; a held question no longer waits for it."""
        for pictures in (self.pictures, *(one.pictures for one in self.held)):
            if picture in pictures:
                pictures.remove(picture)

    def hold(
        self,
        text: str,
        editing: str | None = None,
        max_tokens: int | None = None,
        *,
        typed: str = "",
        named: int = 0,
    ) -> None:
        """Hold a question of a text and all pictures given since the last one, behind the others.

        The last `named` of the pictures are named in what was `typed`.
        """
        names = self.pictures[len(self.pictures) - named :]
        self.held.append(HeldQuestion(text, self.pictures, editing, max_tokens, typed, names))
        self.pictures = []
        self.is_paused = False

    def as_typed(self, question: HeldQuestion) -> HeldQuestion:
        """Restore a held question's typed text, and keep only the pictures that it does not name."""
        others = [one for one in question.pictures if one not in question.named]
        again = HeldQuestion(question.typed, others, question.editing)
        self.held[self.held.index(question)] = again
        return again

    def take_back(self, question: HeldQuestion | None = None) -> str:
        """Return a held question's text, the last one's by default, and its pictures to the draft.

        "" if none is held.
        """
        if not self.held:
            return ""
        question = question or self.held[-1]
        self.held.remove(question)
        self.pictures = [*question.pictures, *self.pictures]
        return question.text


def opened(pictures: list[DraftPicture]) -> list[StoredPicture]:
    """The pictures that are open, as stored."""
    return [one.stored for one in pictures if one.stored is not None]
