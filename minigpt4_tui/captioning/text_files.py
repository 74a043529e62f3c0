"""Captions as text files beside the pictures: dog.jpg and dog.txt."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from minigpt4.core.download.sources import FULL_DISK
from minigpt4.core.storage.atomic import replacing
from minigpt4.tui.captioning.output import CaptionError, Existing

WAY_OUT = "--output captions.jsonl writes one list instead."

UNDECODABLE = frozenset({".heic"})
"""Phones store these beside a JPEG of the same name; they get no caption, so they do not conflict."""


class TextFiles:
    """One text file per picture, where `train --data` looks for it, and replaced atomically.

    A blank file counts as missing. A caption is appended on a new line, unless the file ends with it already.
    """

    def __init__(self, pictures: Sequence[Path], existing: Existing) -> None:
        """`pictures` are all pictures of the run."""
        self._existing = existing
        self._texts: dict[Path, dict[str, str]] = {}
        """For each folder, the names of its text files by stem."""

        self._sharing: dict[Path, dict[str, set[str]]] = {}
        """For each folder, the names of its pictures by stem."""

        for picture in pictures:
            if picture.parent not in self._texts:
                self._look_into(picture.parent)
            self._share(picture.parent, picture.name)

    def check(self, picture: Path) -> None:
        """Raise CaptionError if no caption can be written for the picture."""
        text = self._text_of(picture)
        others = self._sharing[picture.parent][picture.stem] - {picture.name}
        if text == picture:
            raise CaptionError(f"The caption of '{picture}' would replace the picture itself; {WAY_OUT}")
        if others and picture.suffix.lower() not in UNDECODABLE:
            names = " and ".join(f"'{name}'" for name in sorted(others))
            raise CaptionError(
                f"'{picture}' and {names} would share the text file '{text.name}'; rename one, or {WAY_OUT}"
            )
        if text.is_dir():
            raise CaptionError(f"The caption '{text}' cannot be written: it is a folder; {WAY_OUT}")
        is_due = self._existing != "skip" or not self.has_caption(picture)
        if is_due and text.parent.is_dir() and not os.access(text.parent, os.W_OK):
            raise CaptionError(f"No file can be written into '{text.parent}', beside '{picture}'; {WAY_OUT}")

    def has_caption(self, picture: Path) -> bool:
        """Whether the picture's text file has any text; raises CaptionError if it cannot be read."""
        return bool(_words_in(self._text_of(picture)))

    def write(self, picture: Path, caption: str) -> None:
        """Write or append a picture's caption; raises CaptionError, or OSError if the disk is full."""
        text = self._text_of(picture)
        before = _words_in(text) if self._existing == "append" else ""
        if f"\n{before}".endswith(f"\n{caption}"):
            return
        try:
            with replacing(text) as draft:
                draft.write_text(f"{before}\n{caption}\n".lstrip("\n"), encoding="utf-8", newline="\n")
        except OSError as error:
            if error.errno in FULL_DISK:
                raise
            raise CaptionError(
                f"The caption '{text}' cannot be written ({error.strerror or error}); {WAY_OUT}"
            ) from error

    def finish(self, _captioned: Collection[Path]) -> None:
        """Do nothing: every caption is written already."""

    def _look_into(self, folder: Path) -> None:
        from minigpt4.train.data.files import has_photo_suffix, texts_among

        names: list[str] = []
        with suppress(OSError):
            names = [path.name for path in folder.iterdir()]
        self._texts[folder] = texts_among(names)
        self._sharing[folder] = defaultdict(set)
        for name in filter(has_photo_suffix, names):
            self._share(folder, name)

    def _share(self, folder: Path, name: str) -> None:
        if Path(name).suffix.lower() not in UNDECODABLE:
            self._sharing[folder][Path(name).stem].add(name)

    def _text_of(self, picture: Path) -> Path:
        return picture.with_name(self._texts[picture.parent].get(picture.stem, f"{picture.stem}.txt"))


def _words_in(text: Path) -> str:
    from minigpt4.train.data.files import encoding_of

    try:
        return text.read_text(encoding_of(text)).strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise CaptionError(f"'{text}' cannot be read ({reason}), and so it is left as it is.") from error
