"""The loop over pictures: describe each, write its caption, and go on after a failure."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from minigpt4.core.errors import ImageError
from minigpt4.tui.captioning.journal import Journal
from minigpt4.tui.captioning.output import CaptionError, Existing, Output
from minigpt4.tui.images.attachments import Attachment

Describe = Callable[[Sequence[Path]], Generator[str | ImageError, None, None]]
"""The caption of each picture, or why it cannot be used; fewer if it was interrupted."""


@dataclass
class Tally:
    """Numbers of pictures by outcome."""

    written: int = 0
    kept: int = 0
    """Pictures that had captions already."""

    failed: int = 0


class CaptionRun:
    """Captions pictures in order, and passes each failure to `failed` as a sentence."""

    def __init__(
        self,
        pictures: Sequence[Path],
        output: Output,
        existing: Existing,
        journal: Journal,
        failed: Callable[[str], object],
    ) -> None:
        """Find out, before a model is loaded, which pictures need no caption and which cannot get one."""
        self.tally = Tally()
        self._output = output
        self._existing = existing
        self._journal = journal
        self._failed = failed
        self._is_complete = False
        self._captioned: list[Path] = []
        """Pictures captioned by this run, or by the same command before it was interrupted."""

        self.waiting = [picture for picture in pictures if self._is_due(picture)]
        """Pictures that need a caption."""

        self.resumed = len(self._captioned)

    def has_work(self) -> bool:
        """Whether one of the waiting pictures can be opened, so that a model is needed."""
        return any(fault_of(path) is None for path in self.waiting)

    def run(self, describe: Describe, advance: Callable[[str], object]) -> bool:
        """Caption the waiting pictures; False if it was interrupted.

        `advance` is called after each with a line to print, empty after a failure. Raises errors that concern
        all pictures: OSError for a full disk, and errors of the model.
        """
        with closing(describe(self.waiting)) as captions:
            for path in self.waiting:
                caption = next(captions, None)
                if caption is None:
                    return False
                said = ""
                try:
                    self._keep(path, caption)
                except (ImageError, CaptionError) as error:
                    self.fail(str(error))
                else:
                    said = f"{path}: {caption}"
                advance(said)
        self._is_complete = True
        return True

    def _keep(self, path: Path, caption: str | ImageError) -> None:
        if isinstance(caption, ImageError):
            raise caption
        if not caption:
            raise CaptionError(f"The model says nothing about '{path}'; try another --prompt.")
        self._output.write(path, caption)
        self.tally.written += 1
        self._captioned.append(path)
        if self._existing != "skip":
            self._journal.add(path)

    def fail(self, sentence: str) -> None:
        """Report and count a failure."""
        self.tally.failed += 1
        self._failed(sentence)

    def finish(self) -> None:
        """Finish the output, also after an interruption; raises OSError."""
        self._output.finish(self._captioned)
        if self._is_complete:
            self._journal.remove()

    def _is_due(self, picture: Path) -> bool:
        try:
            self._output.check(picture)
            if picture in self._journal and self._output.has_caption(picture):
                self._captioned.append(picture)
                return False
            if self._existing == "skip" and self._output.has_caption(picture):
                self.tally.kept += 1
                return False
        except CaptionError as error:
            self.fail(str(error))
            return False
        return True


def attachment_of(picture: Path) -> Attachment:
    """The picture, called by its path."""
    return Attachment(picture, str(picture))


def fault_of(picture: Path) -> ImageError | None:
    """Why the picture cannot be opened; None if it can."""
    try:
        attachment_of(picture).open()
    except ImageError as error:
        return error
    return None
