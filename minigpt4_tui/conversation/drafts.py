"""The drafts of all conversations, kept in a file so that typed text survives any exit of the program.

Each running instance has its own file, and a lock that the system releases however it ends. A new
instance takes over the files of those that have ended, never that of a running one.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from minigpt4.core.storage.atomic import replacing
from minigpt4.tui.conversation.draft import Draft, DraftPicture
from minigpt4.tui.conversation.question_history import MAX_PUT_ASIDE, QuestionHistory
from minigpt4.tui.history.writers import Writer, is_alive
from minigpt4.tui.images.attachments import Attachment, is_file

NEW = ""
"""In place of the id of a conversation without messages."""


class Drafts:
    """The drafts of the conversations that are not shown, and the file that holds all drafts."""

    def __init__(
        self, folder: Path, history: QuestionHistory, picture_path: Callable[[str, str], Path]
    ) -> None:
        """`picture_path` returns where the store keeps the picture with a digest and format."""
        self._folder = folder
        self._history = history
        self._picture_path = picture_path
        self._writer = Writer(folder)
        self._away: dict[str, Draft] = {}
        self._waiting: list[Draft] = []  # from conversations without messages, the newest first
        self._taken_over: list[Path] = []
        self._lock = threading.Lock()
        self._document = ""
        self._written = ""
        self._is_closed = False

    def put_away(self, conversation: str, draft: Draft) -> None:
        """Keep the draft of a conversation that is no longer shown."""
        if not draft.is_empty:
            self._away[conversation] = draft

    def take_out(self, conversation: str) -> Draft:
        """Remove and return the draft of a conversation that is now shown."""
        draft = self._away.pop(conversation, None)
        if draft is None and conversation == NEW and self._waiting:
            draft = self._waiting.pop(0)
        return draft or Draft()

    def remove(self, picture: DraftPicture) -> None:
        """Remove a picture from the draft that it belongs to."""
        for draft in self._away.values():
            draft.remove(picture)

    # The file

    def take_over(self, existing: Callable[[list[str]], set[str]]) -> list[str]:
        """Read the drafts of instances that have ended; returns sentences about damaged ones.

        `existing` returns which of the given conversations still exist. The files read are removed by the
        next `save`. Raises OSError.
        """
        problems = []
        for path in self._files_of_ended():
            try:
                content = json.loads(path.read_bytes())
                drafts = {name: self._restored(one) for name, one in content["drafts"].items()}
                waiting = [self._restored(one) for one in content["waiting"]]
                put_aside = [(float(when), str(text)) for when, text in content["put_aside"]]
            except (ValueError, TypeError, KeyError, AttributeError):
                damaged = path.with_suffix(".damaged")
                path.replace(damaged)
                problems.append(f"'{damaged}' was to hold unsent questions, and cannot be read.")
                continue
            there = existing([name for name in drafts if name != NEW])
            for name, draft in drafts.items():
                if name in there and name not in self._away:
                    self._away[name] = draft
                else:
                    waiting.append(draft)
            self._waiting += waiting
            self._history.put_aside = sorted([*put_aside, *self._history.put_aside])[-MAX_PUT_ASIDE:]
            self._taken_over.append(path)
        return problems

    def note(self, shown: str, draft: Draft, edited: str = "") -> None:
        """Note what the next `save` writes: `draft` is that of the conversation `shown`.

        `edited` is the text of a message that is being edited.
        """
        text, under = self._history.unsent(draft.text)
        current = Draft(text, draft.held, draft.pictures)
        drafts = {**self._away, **({} if current.is_empty else {shown: current})}
        put_aside = [
            *self._history.put_aside,
            *((time.time(), one) for one in (under, edited) if one.strip()),
        ]
        content = {
            "drafts": {name: _saved(one) for name, one in drafts.items()},
            "waiting": [_saved(one) for one in self._waiting],
            "put_aside": put_aside,
        }
        self._document = json.dumps(content) if any(content.values()) else ""

    def save(self) -> None:
        """Write what was noted last, on any thread; raises OSError."""
        with self._lock:
            document = self._document
            if self._is_closed or (document == self._written and not self._taken_over):
                return
            path = self._folder / f"{self._writer.id}.json"
            if document:
                self._writer.hold()
                with replacing(path, is_private=True) as part:
                    part.write_text(document)
            else:
                path.unlink(missing_ok=True)
            self._written = document
            while self._taken_over:
                self._taken_over.pop().unlink(missing_ok=True)

    def close(self) -> None:
        """Save, and leave the file to the next instance; raises OSError."""
        try:
            self.save()
        finally:
            with self._lock:
                self._is_closed = True
                self._writer.release()

    def _files_of_ended(self) -> Iterator[Path]:
        """The files of instances that have ended, the newest first, each now under this instance's name."""
        if not self._folder.is_dir():
            return
        found = {path: path.stat().st_mtime for path in self._folder.glob("*.json")}
        for path in sorted(found, key=found.__getitem__, reverse=True):
            owner = path.name.partition(".")[0]
            if owner == self._writer.id or is_alive(self._folder, owner):
                continue
            self._writer.hold()
            mine = self._folder / f"{self._writer.id}.{len(self._taken_over)}.json"
            # Another instance that starts now may have been faster.
            with suppress(FileNotFoundError):
                path.rename(mine)
                yield mine

    def _restored(self, saved: dict[str, Any]) -> Draft:
        draft = Draft(str(saved["text"]))
        for one in saved["pictures"]:
            given = str(one["given"])
            source = Attachment(given if one["is_address"] else Path(given), given) if given else None
            picture = draft.add(str(one["name"]), source=source)
            kept = self._picture_path(one["digest"], one["format"]) if one["digest"] else None
            if kept is not None and is_file(kept):
                picture.unopened = Attachment(kept, picture.name)
            elif source is not None:
                picture.unopened = source
            else:
                picture.problem = f"The picture '{picture.name}' is no longer kept; add it again."
        return draft


def _saved(draft: Draft) -> dict[str, Any]:
    return {"text": draft.whole_text, "pictures": [*map(_saved_picture, draft.all_pictures)]}


def _saved_picture(picture: DraftPicture) -> dict[str, Any]:
    given = picture.source.source if picture.source is not None else b""
    if isinstance(given, Path):
        # A deleted working folder has no path.
        with suppress(OSError):
            given = given.absolute()
    stored = picture.stored
    return {
        "name": picture.name,
        "given": "" if isinstance(given, bytes) else str(given),
        "is_address": isinstance(given, str),
        "digest": stored.digest if stored is not None else "",
        "format": stored.format if stored is not None else "",
    }
